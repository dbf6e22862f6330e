"""Physical plausibility of a motion from its joints alone; no network, so no reward can hide behind it.

Joints: (F, 22, 3) in metres, Y up, at 20 fps unless said, floor at y = 0.
"""

from __future__ import annotations

import numpy as np

from core.motion.skeleton import FPS, JOINT, PARENTS

# A foot joint is in contact below this height, about 1.5 cm above where it is in standing (ankle 0.06, ball 0.015).
# Real Bandai-Namco clips then skate at 0.24 m/s, with the joints in contact 83 % of the time.
CONTACT_HEIGHT_M: dict[str, float] = {
    "left_ankle": 0.08,
    "right_ankle": 0.08,
    "left_foot": 0.03,
    "right_foot": 0.03,
}
FOOT_JOINTS = np.array([JOINT[name] for name in CONTACT_HEIGHT_M])
FOOT_HEIGHTS_M = np.array(list(CONTACT_HEIGHT_M.values()))


def foot_skating(joints: np.ndarray, fps: float = FPS) -> float:
    """Mean horizontal speed (m/s) of the four foot joints while in contact.

    A joint counts between frames i and i+1 if it is below CONTACT_HEIGHT_M in both. NaN if no joint ever is.
    Real walking is not 0: the swinging foot passes low over the floor and the heel rolls.
    """
    feet = np.asarray(joints, np.float64)[:, FOOT_JOINTS]  # (F, 4, 3)
    near = feet[..., 1] < FOOT_HEIGHTS_M
    near = near[1:] & near[:-1]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * fps  # (F-1, 4)
    return float(speed[near].mean()) if near.any() else float("nan")


def mean_acceleration(joints: np.ndarray, fps: float = FPS) -> float:
    """Mean norm of joint acceleration, m/s^2, from second differences of world positions."""
    return float(np.linalg.norm(np.diff(np.asarray(joints, np.float64), 2, axis=0), axis=-1).mean() * fps**2)


def mean_jerk(joints: np.ndarray, fps: float = FPS) -> float:
    """Mean norm of joint jerk, m/s^3, from third differences of world positions."""
    return float(np.linalg.norm(np.diff(np.asarray(joints, np.float64), 3, axis=0), axis=-1).mean() * fps**3)


def floor_penetration(joints: np.ndarray) -> float:
    """Mean over frames of how deep the lowest joint is under y = 0, in metres (0 = never below)."""
    return float(np.maximum(0.0, -np.asarray(joints, np.float64)[..., 1].min(-1)).mean())


def bone_stretch(joints: np.ndarray) -> float:
    """Mean relative deviation of bone lengths from their median over the clip (0 = rigid, 0.05 = 5 %)."""
    joints = np.asarray(joints, np.float64)
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)  # (F, 21)
    usual = np.median(lengths, axis=0)
    return float((np.abs(lengths - usual) / np.maximum(usual, 1e-6)).mean())


def physical_metrics(joints: np.ndarray, fps: float = FPS) -> dict[str, float]:
    """Every metric of this module for joints (F, 22, 3), F at least 4; ValueError otherwise."""
    if joints.ndim != 3 or joints.shape[1:] != (len(PARENTS), 3) or len(joints) < 4:
        raise ValueError(f"joints have shape {joints.shape}; expected (F, {len(PARENTS)}, 3) with F of at least 4.")
    return {
        "skating": foot_skating(joints, fps),
        "acceleration": mean_acceleration(joints, fps),
        "jerk": mean_jerk(joints, fps),
        "penetration": floor_penetration(joints),
        "bone_stretch": bone_stretch(joints),
    }
