"""Where each number of the 263-dimensional feature vector lies, and how it is filled from joints and a root frame.

The root frame of a frame is the root's place on the floor, turned about +Y by `yaw`, the heading: 0 faces +Z, positive
turns towards +X (the body's left). Layout of Guo et al. 2022 (HumanML3D), row t of F-1 rows for F frames:

    [0]       root yaw velocity: -(yaw[t+1] - yaw[t]) / 2. Half the angle, negative: the published form, the arcsine of
              a quaternion component, kept so that the layout means the same everywhere
    [1:3]     root x and z velocity from t to t+1, metres per frame, in the root frame of t+1
    [3]       root height, metres
    [4:67]    joints 1..21 in the root frame of t (heights above the floor), metres
    [67:193]  6D rotations of joints 1..21
    [193:259] velocity of joints 0..21 from t to t+1 in the heading of t, metres per frame
    [259:263] contacts from t to t+1: left ankle, left foot, right ankle, right foot; 1 = on the ground
"""

from __future__ import annotations

import numpy as np

from core.motion.skeleton import LEFT_FOOT, N_FEATURES, N_JOINTS, RIGHT_FOOT

YAW_VELOCITY = 0
ROOT_VELOCITY = slice(1, 3)
ROOT_HEIGHT = 3
POSITIONS = slice(4, 67)
ROTATIONS = slice(67, 193)
VELOCITIES = slice(193, 259)
CONTACTS = slice(259, 263)
CONTACT_SPEED_SQUARED = 0.002  # (m/frame)^2 at 20 fps, HumanML3D


def check_joints(joints: np.ndarray, min_frames: int = 1) -> np.ndarray:
    """Joints as float64 (F, 22, 3); ValueError for another shape, too few frames or numbers that are not finite."""
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (N_JOINTS, 3) or len(joints) < min_frames:
        raise ValueError(f"joints have shape {joints.shape}, needed is (F, 22, 3) with F >= {min_frames}.")
    if not np.isfinite(joints).all():
        frame = int(np.flatnonzero(~np.isfinite(joints).all((1, 2)))[0])
        raise ValueError(f"joints hold a value that is not finite in frame {frame}. Repair the clip or leave it out.")
    return joints


def check_features(features: np.ndarray) -> np.ndarray:
    """Features as an array (..., F, 263); ValueError for another shape."""
    features = np.asarray(features)
    if features.ndim < 2 or features.shape[-1] != N_FEATURES or features.shape[-2] < 1:
        raise ValueError(f"features have shape {features.shape}, needed is (F, 263) with F >= 1.")
    return features


def foot_contacts(joints: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) -> (F-1, 4) of 0 and 1: the joint moves slower than sqrt(0.002) m/frame to the next frame."""
    feet = joints[:, [*LEFT_FOOT, *RIGHT_FOOT]]
    return (np.square(feet[1:] - feet[:-1]).sum(-1) < CONTACT_SPEED_SQUARED).astype(np.float32)


def pack_features(
    joints: np.ndarray, yaw: np.ndarray, yaw_velocity: np.ndarray, rotations_6d: np.ndarray
) -> np.ndarray:
    """Joints (F, 22, 3), yaw (F,), the first column (F-1,) and 6D rotations (F, 21, 6) -> (F-1, 263) float32."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    step = joints[1:] - joints[:-1]
    local = joints.copy()
    local[..., [0, 2]] -= joints[:, :1, [0, 2]]
    features = np.empty((len(joints) - 1, N_FEATURES), dtype=np.float32)
    features[:, YAW_VELOCITY] = yaw_velocity
    features[:, ROOT_VELOCITY] = _remove_yaw(step[:, :1], cos[1:], sin[1:])[:, 0, [0, 2]]
    features[:, ROOT_HEIGHT] = joints[:-1, 0, 1]
    features[:, POSITIONS] = _remove_yaw(local[:-1, 1:], cos[:-1], sin[:-1]).reshape(len(step), -1)
    features[:, ROTATIONS] = rotations_6d[:-1].reshape(len(step), -1)
    features[:, VELOCITIES] = _remove_yaw(step, cos[:-1], sin[:-1]).reshape(len(step), -1)
    features[:, CONTACTS] = foot_contacts(joints)
    return features


def _remove_yaw(vectors: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turn vectors (F, K, 3) by -yaw, given its cosine and sine (F,)."""
    out = vectors.copy()
    c, s = cos[:, None], sin[:, None]
    out[..., 0] = c * vectors[..., 0] - s * vectors[..., 2]
    out[..., 2] = s * vectors[..., 0] + c * vectors[..., 2]
    return out
