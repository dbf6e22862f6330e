"""Linear blend skinning in numpy, one matrix product for a whole clip.

    v_f = sum_j w_vj (R_world_j(f) (v - p_j) + t_j(f))        Loper et al. 2015 (SMPL), without pose correctives

With homogeneous rest positions this is linear in the transforms: (F*3, 24*4) @ (24*4, V).
"""

from __future__ import annotations

import numpy as np

from core.body.skeleton24 import N_BODY_JOINTS
from core.body.smpl_files import Body
from core.motion import kinematics
from core.motion.skeleton import LEFT_FOOT, RIGHT_FOOT


def forward_transforms(body: Body, pose: np.ndarray, trans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations -> (R_world_joint (F, 24, 3, 3), joint positions (F, 24, 3)), float64, metres.

    pose: (F, 24, 3, 3) relative to the parent; trans: (F, 3) added to the rest position of the whole body.
    """
    pose, trans = _checked(pose, trans)
    rest = body.joints.astype(np.float64)
    local = np.tile(rest - rest[np.maximum(body.parents, 0)], (len(pose), 1, 1))
    local[:, 0] = rest[0] + trans
    p_world, R_world_joint = kinematics.forward_kinematics(pose, local, body.parents)
    return R_world_joint, p_world


def forward_joints(body: Body, pose: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """Joint positions (F, 24, 3) float32 of a pose (F, 24, 3, 3) and translation (F, 3), metres."""
    return forward_transforms(body, pose, trans)[1].astype(np.float32)


def skin(body: Body, pose: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """Vertices (F, V, 3) float32 of a pose (F, 24, 3, 3) and translation (F, 3), metres."""
    R, p = forward_transforms(body, pose, trans)
    t = p - (R @ body.joints[:, :, None].astype(np.float64))[..., 0]
    transforms = np.concatenate([R, t[..., None]], -1).astype(np.float32)  # (F, 24, 3, 4)
    rows = transforms.transpose(0, 2, 1, 3).reshape(-1, N_BODY_JOINTS * 4)  # (F*3, 96)
    posed = (rows @ body.skinning_basis).reshape(len(R), 3, -1)
    return np.ascontiguousarray(posed.transpose(0, 2, 1))


def ground_offset(body: Body) -> float:
    """How far the sole lies below the foot joints in the rest pose, metres, positive.

    Motions stand with their lowest *joint* on y = 0; a skinned body is lifted by this much so that its soles
    touch y = 0: `skin(body, pose, trans + [0, ground_offset(body), 0])`.
    """
    feet = body.joints[[LEFT_FOOT[1], RIGHT_FOOT[1]], 1].min()
    return float(feet - body.vertices[:, 1].min())


def _checked(pose: np.ndarray, trans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pose, trans = np.asarray(pose, dtype=np.float64), np.asarray(trans, dtype=np.float64)
    if pose.shape[1:] != (N_BODY_JOINTS, 3, 3):
        raise ValueError(f"pose has shape {pose.shape}, expected (frames, {N_BODY_JOINTS}, 3, 3) local rotations.")
    if trans.shape != (len(pose), 3):
        raise ValueError(f"trans has shape {trans.shape}, expected {(len(pose), 3)} to go with the pose.")
    return pose, trans
