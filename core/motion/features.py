"""Joints to the 263-dimensional feature vector and back, in two conventions; the layout is in core.motion.layout.

"smpl" (default, all our own data and models): the heading from hips and shoulders the right way round, unwrapped and
smoothed without a jump; the 6D block holds SMPL's local rotations of joints 1..21. Exact round trip.
"humanml3d": the published extraction with its quirks, see core.motion.humanml3d.
Recovery from positions is the same for both, since the layout is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core.motion.humanml3d import extract_humanml3d
from core.motion.kinematics import swing_rotations
from core.motion.layout import (
    POSITIONS,
    ROOT_HEIGHT,
    ROOT_VELOCITY,
    ROTATIONS,
    YAW_VELOCITY,
    check_features,
    check_joints,
    pack_features,
)
from core.motion.mirror import mirror_features, mirror_joints, mirror_rotations
from core.motion.root_frame import canonical_transform, canonicalize, heading, smooth_heading
from core.motion.rotations import matrix_to_sixd, sixd_to_matrix, yaw_matrix
from core.motion.skeleton import KINEMATIC_CHAINS, N_JOINTS

if TYPE_CHECKING:
    import torch

CONVENTIONS = ("smpl", "humanml3d")

__all__ = [
    "CONVENTIONS",
    "canonical_transform",
    "canonicalize",
    "extract_features",
    "mirror_features",
    "mirror_joints",
    "mirror_rotations",
    "recover_joints",
    "recover_joints_from_rotations",
    "recover_joints_torch",
    "recover_root",
]


def extract_features(
    joints: np.ndarray,
    rotations: np.ndarray | None = None,
    convention: str = "smpl",
    tgt_offsets: np.ndarray | None = None,
) -> np.ndarray:
    """Joints (F, 22, 3) in metres at 20 fps -> features (F-1, 263) float32.

    rotations (F, 22, 3, 3): SMPL local rotations for "smpl" (the pelvis' own is not stored). Without them, swing-only
    rotations against tgt_offsets (22, 3), the body's rest offsets. "smpl" keeps heights as they are and ignores where
    on the floor the clip starts: call `canonicalize` first for feet on the floor.
    "humanml3d": tgt_offsets is the skeleton to retarget to, None keeps the clip's own; it canonicalizes by itself.
    Raises ValueError for wrong shapes, numbers that are not finite, fewer than 2 frames, an unknown convention.
    """
    if convention == "humanml3d":
        return extract_humanml3d(joints, tgt_offsets)
    if convention != "smpl":
        raise ValueError(f"convention={convention!r} is unknown, allowed are {', '.join(CONVENTIONS)}.")
    joints = check_joints(joints, min_frames=2)
    if rotations is None:
        if tgt_offsets is None:
            raise ValueError("neither rotations nor tgt_offsets were given. Give one of them for convention='smpl'.")
        rotations = swing_rotations(joints, np.asarray(tgt_offsets, np.float64))
    if rotations.shape != (len(joints), N_JOINTS, 3, 3):
        raise ValueError(f"rotations have shape {rotations.shape}, needed is {(len(joints), N_JOINTS, 3, 3)}.")
    yaw = smooth_heading(heading(joints))
    return pack_features(joints, yaw, -np.diff(yaw) / 2.0, matrix_to_sixd(rotations[:, 1:]))


def recover_root(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (..., F, 263) -> yaw (..., F) in radians and root positions (..., F, 3) in metres.

    The first frame faces +Z at x = z = 0. Yaw is the angle about +Y from +Z, positive towards +X.
    """
    features = check_features(features).astype(np.float64)
    yaw = np.zeros(features.shape[:-1])
    yaw[..., 1:] = -2.0 * np.cumsum(features[..., :-1, YAW_VELOCITY], -1)
    velocity = features[..., :-1, ROOT_VELOCITY]  # (..., F-1, 2)
    cos, sin = np.cos(yaw[..., 1:]), np.sin(yaw[..., 1:])
    root = np.zeros((*yaw.shape, 3))
    root[..., 1:, 0] = np.cumsum(cos * velocity[..., 0] + sin * velocity[..., 1], -1)
    root[..., 1:, 2] = np.cumsum(cos * velocity[..., 1] - sin * velocity[..., 0], -1)
    root[..., 1] = features[..., ROOT_HEIGHT]
    return yaw, root


def recover_joints(features: np.ndarray) -> np.ndarray:
    """Features (..., F, 263) -> joints (..., F, 22, 3) float32 in metres, from the position block.

    The first frame stands at x = z = 0 and faces +Z.
    """
    features = check_features(features)
    yaw, root = recover_root(features)
    local = features[..., POSITIONS].reshape(*yaw.shape, N_JOINTS - 1, 3)
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    joints = np.empty((*yaw.shape, N_JOINTS, 3), dtype=np.float32)
    joints[..., 0, :] = root
    joints[..., 1:, 0] = cos * local[..., 0] + sin * local[..., 2] + root[..., None, 0]
    joints[..., 1:, 1] = local[..., 1]
    joints[..., 1:, 2] = cos * local[..., 2] - sin * local[..., 0] + root[..., None, 2]
    return joints


def recover_joints_from_rotations(features: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """ "Features (F, 263) and rest offsets (22, 3) -> joints (F, 22, 3) float32 by the 6D block."""
    features = check_features(features)
    yaw, root = recover_root(features)
    R_arriving = sixd_to_matrix(features[:, ROTATIONS].reshape(-1, N_JOINTS - 1, 6))
    joints = np.empty((len(features), N_JOINTS, 3))
    joints[:, 0] = root
    for chain in KINEMATIC_CHAINS:
        R = yaw_matrix(-yaw)
        for start, end in zip(chain, chain[1:], strict=False):
            R = R @ R_arriving[:, end - 1]
            joints[:, end] = joints[:, start] + R @ offsets[end]
    return joints.astype(np.float32)


def recover_joints_torch(features: torch.Tensor) -> torch.Tensor:
    """`recover_joints` for tensors, differentiable: (..., F, 263) -> (..., F, 22, 3), dtype and device kept.

    Rows beyond a clip's length (padding) change nothing in the rows before them.
    """
    import torch

    before = torch.nn.functional.pad(features[..., :-1, :4], (0, 0, 1, 0))  # row t-1 at t, zeros at 0
    yaw = -2.0 * before[..., YAW_VELOCITY].cumsum(-1)
    cos, sin = yaw.cos(), yaw.sin()
    v_x, v_z = before[..., ROOT_VELOCITY].unbind(-1)
    root_x = (cos * v_x + sin * v_z).cumsum(-1)
    root_z = (cos * v_z - sin * v_x).cumsum(-1)
    x, y, z = features[..., POSITIONS].unflatten(-1, (N_JOINTS - 1, 3)).unbind(-1)
    c, s = cos[..., None], sin[..., None]
    limbs = torch.stack([c * x + s * z + root_x[..., None], y, c * z - s * x + root_z[..., None]], -1)
    root = torch.stack([root_x, features[..., ROOT_HEIGHT], root_z], -1)
    return torch.cat([root[..., None, :], limbs], -2)
