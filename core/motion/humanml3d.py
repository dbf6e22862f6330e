"""The feature convention of the published HumanML3D data, with its two quirks, for data and weights made with it.

Quirk 1: the heading takes the hips the wrong way round (shoulders minus hips). Quirk 2: the heading is a quaternion
with a non-negative scalar part, so where it passes 180 degrees one frame's yaw velocity has the wrong sign.
The 6D block holds swing rotations along five chains, each indexed by the joint at which the bone arrives; every chain
starts from the root quaternion, which maps the world to the heading, not the heading to the world.
"""

from __future__ import annotations

import numpy as np

from core.motion.layout import check_joints, pack_features
from core.motion.root_frame import HEADING_SIGMA, canonicalize, gaussian_kernel
from core.motion.rotations import matrix_to_sixd, normalize, rotation_between, yaw_matrix
from core.motion.skeleton import JOINT, KINEMATIC_CHAINS, N_JOINTS, PARENTS

# Rest direction of the bone that arrives at each joint, a property of the data format.
_X, _Y, _Z = np.eye(3)
REST_DIRECTIONS = np.array(
    [0 * _X, _X, -_X, _Y, -_Y, -_Y, _Y, -_Y, -_Y, _Y, _Z, _Z, _Y, _X, -_X, _Z, -_Y, -_Y, -_Y, -_Y, -_Y, -_Y]
)


def extract_humanml3d(joints: np.ndarray, tgt_offsets: np.ndarray | None = None) -> np.ndarray:
    """Joints (F, 22, 3) -> features (F-1, 263) float32 as the published extraction makes them.

    tgt_offsets (22, 3): rest offsets of the skeleton to which the clip is retargeted first, in metres (published data:
    those of clip 000021); None keeps the clip's own bone lengths.
    """
    joints = check_joints(joints, min_frames=2)
    if tgt_offsets is not None:
        joints = retarget(joints, np.asarray(tgt_offsets, np.float64))
    joints = canonicalize(joints)
    yaw = _published_heading(joints)
    yaw_velocity = np.arcsin(np.sin(-np.diff(yaw) / 2.0))  # wrapped yaw: quirk 2
    return pack_features(joints, yaw, yaw_velocity, matrix_to_sixd(_chain_rotations(joints, yaw)))


def retarget(joints: np.ndarray, tgt_offsets: np.ndarray) -> np.ndarray:
    """Give joints (F, 22, 3) the bone lengths of tgt_offsets (22, 3); bone directions stay, the root path is scaled by
    the ratio of leg lengths."""
    if tgt_offsets.shape != (N_JOINTS, 3) or not np.isfinite(tgt_offsets).all():
        raise ValueError(f"tgt_offsets have shape {tgt_offsets.shape}, needed are (22, 3) finite offsets in metres.")
    knee, ankle = JOINT["right_knee"], JOINT["right_ankle"]
    bones = joints[:, 1:] - joints[:, PARENTS[1:]]  # (F, 21, 3)
    own_leg = np.linalg.norm(bones[0, [knee - 1, ankle - 1]], axis=-1).sum()
    lengths = np.linalg.norm(tgt_offsets, axis=-1)
    out = np.empty_like(joints)
    out[:, 0] = joints[:, 0] * (lengths[knee] + lengths[ankle]) / own_leg
    bones = normalize(bones) * lengths[1:, None]
    for joint in range(1, N_JOINTS):
        out[:, joint] = out[:, PARENTS[joint]] + bones[:, joint - 1]
    return out


def _published_heading(joints: np.ndarray) -> np.ndarray:
    """Yaw (F,) in (-pi, pi], smoothed as a vector, hips swapped (quirk 1), frame 0 set to 0."""
    hips = joints[:, JOINT["left_hip"]] - joints[:, JOINT["right_hip"]]
    shoulders = joints[:, JOINT["right_shoulder"]] - joints[:, JOINT["left_shoulder"]]
    across = normalize(hips + shoulders)
    kernel = gaussian_kernel(HEADING_SIGMA)
    ahead = np.pad(np.stack([across[:, 2], -across[:, 0]]), ((0, 0), (len(kernel) // 2,) * 2), mode="edge")
    x, z = (np.convolve(row, kernel, mode="valid") for row in ahead)
    yaw = np.arctan2(x, z)
    yaw[0] = 0.0
    return yaw


def _chain_rotations(joints: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(F, 21, 3, 3): swing of the bone that arrives at joints 1..21, relative to the bone before it in its chain."""
    directions = joints[:, 1:] - joints[:, PARENTS[1:]]
    R_world = rotation_between(np.broadcast_to(REST_DIRECTIONS[1:], directions.shape), directions)
    R_before = np.empty_like(R_world)
    for chain in KINEMATIC_CHAINS:
        R_before[:, chain[1] - 1] = yaw_matrix(-yaw)
        for start, end in zip(chain[1:], chain[2:], strict=False):
            R_before[:, end - 1] = R_world[:, start - 1]
    return np.swapaxes(R_before, -1, -2) @ R_world
