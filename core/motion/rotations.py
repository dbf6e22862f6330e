"""Rotations as arrays with any leading shape; numpy, vectorised, float64 inside.

`R_parent_child` maps vectors from child to parent coordinates. 6D is the first two *columns* of a
rotation matrix, concatenated (Zhou et al. 2019), as in HumanML3D.
"""

from __future__ import annotations

import numpy as np

_EPS = 1e-8


def normalize(v: np.ndarray) -> np.ndarray:
    """Unit vectors along the last axis; a zero vector stays zero."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), _EPS)


def rotvec_to_matrix(rotvec: np.ndarray) -> np.ndarray:
    """(..., 3) axis times angle in radians -> (..., 3, 3), Rodrigues' formula."""
    rotvec = np.asarray(rotvec, dtype=np.float64)
    angle = np.linalg.norm(rotvec, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(rotvec, -1, 0)
    zero = np.zeros_like(x)
    K = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*rotvec.shape[:-1], 3, 3)
    small = angle < 1e-6
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 1.0 - angle**2 / 6.0, np.sin(safe) / safe)
    b = np.where(small, 0.5 - angle**2 / 24.0, (1.0 - np.cos(safe)) / safe**2)
    return np.eye(3) + a * K + b * (K @ K)


def matrix_to_quaternion(R: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 4) unit quaternion, scalar first, scalar part >= 0 (Shepperd's method)."""
    R = np.asarray(R, dtype=np.float64)
    m00, m11, m22 = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    squares = np.stack([m00 + m11 + m22, m00 - m11 - m22, m11 - m00 - m22, m22 - m00 - m11], -1) + 1.0
    dx, dy, dz = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    sx, sy, sz = R[..., 2, 1] + R[..., 1, 2], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 0] + R[..., 0, 1]
    sw, qx, qy, qz = np.moveaxis(squares, -1, 0)
    rows = [[sw, dx, dy, dz], [dx, qx, sz, sy], [dy, sz, qy, sx], [dz, sy, sx, qz]]
    candidates = np.stack([np.stack(row, -1) for row in rows], -2)  # (..., 4 candidates, 4)
    best = squares.argmax(-1)[..., None, None]
    q = normalize(np.take_along_axis(candidates, best, -2)[..., 0, :])
    return np.where(q[..., :1] < 0, -q, q)


def quaternion_to_matrix(q: np.ndarray) -> np.ndarray:
    """(..., 4) unit quaternion, scalar first -> (..., 3, 3)."""
    w, x, y, z = np.moveaxis(np.asarray(q, dtype=np.float64), -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, -1).reshape(*q.shape[:-1], 3, 3)


def quaternion_to_rotvec(q: np.ndarray) -> np.ndarray:
    """(..., 4) unit quaternion, scalar first -> (..., 3), angle in [0, pi]."""
    q = np.where(q[..., :1] < 0, -q, q)
    s = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(s, q[..., :1])
    scale = np.where(s < 1e-7, 2.0, angle / np.maximum(s, 1e-12))
    return q[..., 1:] * scale


def matrix_to_rotvec(R: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 3), angle in [0, pi]."""
    return quaternion_to_rotvec(matrix_to_quaternion(R))


def matrix_to_sixd(R: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 6): first column, then second column."""
    return np.concatenate([R[..., :, 0], R[..., :, 1]], -1)


def sixd_to_matrix(sixd: np.ndarray) -> np.ndarray:
    """(..., 6) -> (..., 3, 3) by Gram-Schmidt; any 6 numbers whose halves are not parallel are valid."""
    a, b = np.asarray(sixd, dtype=np.float64)[..., :3], np.asarray(sixd, dtype=np.float64)[..., 3:]
    x = normalize(a)
    z = normalize(np.cross(x, b))
    return np.stack([x, np.cross(z, x), z], -1)


def yaw_matrix(yaw: np.ndarray) -> np.ndarray:
    """(...,) angle about +Y in radians -> (..., 3, 3); positive yaw turns +Z towards +X."""
    c, s = np.cos(yaw), np.sin(yaw)
    zero, one = np.zeros_like(c), np.ones_like(c)
    return np.stack([c, zero, s, zero, one, zero, -s, zero, c], -1).reshape(*np.shape(yaw), 3, 3)


def rotation_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest rotation that turns direction a into direction b; (..., 3), (..., 3) -> (..., 3, 3).

    Opposite directions turn half a circle about an axis perpendicular to a.
    """
    a, b = normalize(np.asarray(a, np.float64)), normalize(np.asarray(b, np.float64))
    axis, cos = np.cross(a, b), np.sum(a * b, -1)[..., None]
    sin = np.linalg.norm(axis, axis=-1, keepdims=True)
    helper = np.where(np.abs(a[..., :1]) < 0.9, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))
    axis = np.where(sin > 1e-7, axis / np.maximum(sin, 1e-12), normalize(np.cross(a, helper)))
    return rotvec_to_matrix(axis * np.arctan2(sin, cos))
