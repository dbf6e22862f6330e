"""What a body does, read from its joints alone: which hand waves, how far it walks, whether it stands on the floor.

Joints: (F, 22, 3) in metres, Y up, at 20 fps unless said, floor at y = 0. No network: these are the measures that
anyone can repeat with a ruler. Limits come from the real clips of the Bandai-Namco dataset (validation and test).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.motion.root_frame import heading
from core.motion.rotations import yaw_matrix
from core.motion.skeleton import FPS, JOINT, LEFT_FOOT, PARENTS, RIGHT_FOOT

SIDES = ("left", "right")
# A waving hand gets at least this far over its shoulder: real ones to -0.06 to 0.47, hanging ones to -0.45 to -0.25.
WAVE_PEAK_M = -0.10
WAVE_RAISED_S = 1.0  # and is above its elbow for this long; real ones 2.1 to 5.2
WAVE_SWING_M = 0.02  # and swings this far; real ones 0.026 to 0.37
BOTH_PEAK_M = 0.15  # both hands wave when both do and their peaks differ by no more
_FEET = [*LEFT_FOOT, *RIGHT_FOOT]


@dataclass(frozen=True)
class HandGesture:
    """What one hand does."""

    peak_m: float  # highest place of the wrist over the shoulder of its side; negative below it
    raised_s: float  # how long the wrist is above its elbow
    swing_m: float  # spread (standard deviation, all three axes) of the wrist about its mean, seen from the pelvis

    @property
    def waves(self) -> bool:
        """Raised high and long enough, and moving."""
        high = self.peak_m > WAVE_PEAK_M and self.raised_s >= WAVE_RAISED_S
        return high and self.swing_m >= WAVE_SWING_M


def clip_part(joints: np.ndarray, start: float, end: float) -> np.ndarray:
    """The frames from `start` to `end`, both as a share of the clip in [0, 1]; ValueError for fewer than 2 frames."""
    joints = np.asarray(joints, np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (len(PARENTS), 3):
        raise ValueError(f"joints have shape {joints.shape}; expected is (F, {len(PARENTS)}, 3).")
    part = joints[round(start * len(joints)) : round(end * len(joints))]
    if len(part) < 2:
        raise ValueError(f"start={start} to end={end} of {len(joints)} frames holds {len(part)}. Take at least 2.")
    return part


def hand_gesture(joints: np.ndarray, side: str, fps: float = FPS) -> HandGesture:
    """Height and swing of one hand; ValueError for a side that is not left or right.

    The swing is measured in the body's heading, so that neither walking nor turning counts as moving the hand; the
    arms of a walking body do swing, 0.1 to 0.3 m.
    """
    if side not in SIDES:
        raise ValueError(f"side={side!r} is unknown. Choose one of {', '.join(SIDES)}.")
    joints = clip_part(joints, 0.0, 1.0)
    wrist, elbow, shoulder = (joints[:, JOINT[f"{side}_{part}"]] for part in ("wrist", "elbow", "shoulder"))
    R_heading_world = yaw_matrix(-heading(joints))
    seen = np.einsum("fij,fj->fi", R_heading_world, wrist - joints[:, 0])  # (F, 3), from the pelvis
    return HandGesture(
        peak_m=float((wrist - shoulder)[:, 1].max()),
        raised_s=float((wrist[:, 1] > elbow[:, 1]).sum() / fps),
        swing_m=float(np.sqrt(seen.var(axis=0).sum())),
    )


def waving_hand(joints: np.ndarray, fps: float = FPS) -> str:
    """ "left", "right", "both" or "none"; of two raised hands the clearly higher one waves.

    Agrees with the label of all 186 real motions that wave one hand, standing or walking, and of 101 of 115 that wave
    both (the small goodbyes of shy styles are "none"). The fists of an energetic walk look like waving as well.
    """
    left, right = (hand_gesture(joints, side, fps) for side in SIDES)
    if left.waves and right.waves and abs(left.peak_m - right.peak_m) <= BOTH_PEAK_M:
        return "both"
    if right.waves and (not left.waves or right.peak_m > left.peak_m):
        return "right"
    return "left" if left.waves else "none"


def path_m(joints: np.ndarray) -> float:
    """Length of the pelvis' way over the floor; a standing body sways 0.01 to 0.1 m a second."""
    pelvis = clip_part(joints, 0.0, 1.0)[:, 0][:, [0, 2]]
    return float(np.linalg.norm(np.diff(pelvis, axis=0), axis=-1).sum())


def speed_m_s(joints: np.ndarray, fps: float = FPS) -> float:
    """Mean speed of the pelvis over the floor."""
    return path_m(joints) * fps / (len(joints) - 1)


def head_over_pelvis_m(joints: np.ndarray) -> float:
    """The lowest the head ever is over the pelvis: 0.49 to 0.63 for real walking and waving, negative upside down."""
    joints = clip_part(joints, 0.0, 1.0)
    return float((joints[:, JOINT["head"], 1] - joints[:, 0, 1]).min())


def lowest_foot_m(joints: np.ndarray) -> np.ndarray:
    """Height (F,) of the lowest of the four foot joints in each frame; 0.01 for a standing body."""
    return clip_part(joints, 0.0, 1.0)[:, _FEET, 1].min(axis=1)
