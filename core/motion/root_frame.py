"""Heading of a body, its smoothing, and the canonical place of a clip.

Yaw is the angle about +Y from +Z to the facing direction, in radians, positive towards +X.
"""

from __future__ import annotations

import functools

import numpy as np

from core.motion.layout import check_joints
from core.motion.rotations import yaw_matrix
from core.motion.skeleton import JOINT

HEADING_SIGMA = 20.0  # frames, Gaussian over the heading, HumanML3D


def heading(joints: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) -> yaw (F,), unwrapped: across both hips and both shoulders, then a right angle about +Y."""
    left = joints[:, JOINT["left_hip"]] + joints[:, JOINT["left_shoulder"]]
    right = joints[:, JOINT["right_hip"]] + joints[:, JOINT["right_shoulder"]]
    across = left - right
    return np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))


def smooth_heading(yaw: np.ndarray, sigma: float = HEADING_SIGMA) -> np.ndarray:
    """Gaussian smoothing of an unwrapped yaw (F,) that keeps the first and the last value.

    The curve goes on beyond its ends as its own point reflection, so that a clip whose first frame faces +Z has a root
    frame that starts exactly there and turns without a jump. (The published smoothing repeats the end value and then
    sets the first frame by force, which leaves a spike in the first row of the features.)
    """
    kernel = gaussian_kernel(sigma)
    padded = np.pad(yaw, len(kernel) // 2, mode="reflect", reflect_type="odd") if len(yaw) > 1 else yaw
    return np.convolve(padded, kernel, mode="valid") if len(yaw) > 1 else yaw


@functools.lru_cache(maxsize=4)
def gaussian_kernel(sigma: float) -> np.ndarray:
    """Normalised Gaussian weights (2 r + 1,), cut at r = 4 sigma."""
    radius = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))
    return weights / weights.sum()


def canonical_transform(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) of `canonicalize`: canonical = joints @ rotation.T + translation.

    A clip with rotations turns its pelvis by the same: R_world_pelvis -> rotation @ R_world_pelvis.
    """
    joints = check_joints(joints)
    rotation = yaw_matrix(-heading(joints[:1])[0])
    translation = -rotation @ joints[0, 0]
    translation[1] = -joints[..., 1].min()
    return rotation, translation


def canonicalize(joints: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) -> the same clip with its lowest point at height 0, the first root at x = z = 0 and the first
    frame facing +Z."""
    rotation, translation = canonical_transform(joints)
    return np.asarray(joints, np.float64) @ rotation.T + translation
