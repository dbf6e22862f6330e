"""Left and right exchanged: reflection of X and of the joint names. Mirroring twice changes nothing."""

from __future__ import annotations

import numpy as np

from core.motion.layout import CONTACTS, POSITIONS, ROTATIONS, VELOCITIES, check_features
from core.motion.skeleton import MIRROR

_REFLECT = np.array([-1.0, 1.0, 1.0])
_REFLECT_MATRIX = np.outer(_REFLECT, _REFLECT)  # signs of M @ R @ M
_REFLECT_6D = np.concatenate([_REFLECT_MATRIX[:, 0], _REFLECT_MATRIX[:, 1]])
_BONES = MIRROR[1:] - 1


def mirror_joints(joints: np.ndarray) -> np.ndarray:
    """Joints (..., 22, 3) -> the same motion seen in a mirror, left joints on the left again."""
    return joints[..., MIRROR, :] * _REFLECT


def mirror_rotations(rotations: np.ndarray) -> np.ndarray:
    """Rotations (..., 22, 3, 3), local or global -> those of the mirrored motion."""
    return rotations[..., MIRROR, :, :] * _REFLECT_MATRIX


def mirror_features(features: np.ndarray) -> np.ndarray:
    """Features (..., F, 263) of either convention -> features of the mirrored motion, same dtype."""
    features = check_features(features)
    lead = features.shape[:-1]
    out = features.copy()
    out[..., :2] *= -1.0  # yaw velocity and x velocity of the root
    for block, order, signs in (
        (POSITIONS, _BONES, _REFLECT),
        (ROTATIONS, _BONES, _REFLECT_6D),
        (VELOCITIES, MIRROR, _REFLECT),
        (CONTACTS, np.array([1, 0]), np.ones(2)),
    ):
        values = features[..., block].reshape(*lead, len(order), len(signs))
        out[..., block] = (values[..., order, :] * signs).reshape(*lead, -1)
    return out
