"""Gestures read from joints: bodies whose gesture is known because it was put there."""

from __future__ import annotations

import numpy as np
import pytest

from core.body.skinning import forward_joints
from core.body.smpl_files import DEFAULT_BODY, load_body
from core.metrics.gestures import (
    clip_part,
    hand_gesture,
    head_over_pelvis_m,
    lowest_foot_m,
    path_m,
    speed_m_s,
    waving_hand,
)
from core.motion.rotations import rotvec_to_matrix, yaw_matrix
from core.motion.skeleton import JOINT, MIRROR

FRAMES = 80


def body_joints(waving: tuple[str, ...] = (), swing: float = 0.5, speed: float = 0.0) -> np.ndarray:
    """A standing body, arms hanging; `waving` hands up, forearms swinging by `swing` rad; walks at `speed` m/s."""
    t = np.arange(FRAMES) / 20.0
    body = load_body(DEFAULT_BODY)
    rotvecs = np.zeros((FRAMES, 24, 3))
    for side, sign in (("left", 1.0), ("right", -1.0)):  # +z lowers the right arm and lifts the left one
        if side in waving:
            rotvecs[:, JOINT[f"{side}_elbow"], 2] = sign * (1.5 + swing * np.sin(8 * t))
        else:
            rotvecs[:, JOINT[f"{side}_shoulder"], 2] = -sign * 1.3
    trans = np.stack([0 * t, 0 * t, speed * t], -1)
    joints = forward_joints(body, rotvec_to_matrix(rotvecs), trans)[:, :22].astype(np.float64)
    return joints - [0.0, joints[..., 1].min(), 0.0]


@pytest.mark.parametrize("hands", [(), ("left",), ("right",), ("left", "right")])
def test_the_waving_hand_is_named(hands: tuple[str, ...]) -> None:
    """Fails when left and right are exchanged, or one hand hides the other."""
    expected = {0: "none", 1: hands[0] if hands else "", 2: "both"}[len(hands)]
    assert waving_hand(body_joints(hands)) == expected


def test_mirrored_body_waves_with_the_other_hand() -> None:
    joints = body_joints(("right",), speed=1.0)
    assert waving_hand(joints[:, MIRROR] * [-1.0, 1.0, 1.0]) == "left"


def test_raised_hand_that_does_not_move_is_no_wave() -> None:
    """Fails when height alone counts."""
    gesture = hand_gesture(body_joints(("right",), swing=0.0), "right")
    assert gesture.peak_m > 0.1 and gesture.raised_s == pytest.approx(FRAMES / 20) and not gesture.waves


def test_hand_that_moves_low_is_no_wave() -> None:
    """Fails when swing alone counts: arms swing while walking."""
    joints = body_joints()
    joints[:, JOINT["right_wrist"], 2] += 0.3 * np.sin(np.arange(FRAMES))
    assert hand_gesture(joints, "right").swing_m > 0.15 and waving_hand(joints) == "none"


def test_walking_and_turning_do_not_swing_the_hand() -> None:
    """Fails when the swing is measured in the world: everyone who walks would wave."""
    still = body_joints(("right",), swing=0.3)
    R_turn = yaw_matrix(np.linspace(0.0, 3.0, FRAMES))
    moving = np.einsum("fab,fjb->fja", R_turn, still) + np.linspace([0, 0, 0], [4, 0, 1], FRAMES)[:, None]
    for side in ("left", "right"):
        assert hand_gesture(moving, side).swing_m == pytest.approx(hand_gesture(still, side).swing_m, abs=1e-6)


def test_time_counts_seconds() -> None:
    joints = body_joints(("right",))
    assert hand_gesture(joints, "right", fps=40.0).raised_s == pytest.approx(FRAMES / 40)


def test_walk_has_its_length_and_speed() -> None:
    """Fails on a wrong axis, or frames taken for seconds."""
    joints = body_joints(speed=1.2)
    joints[:, :, 1] += np.linspace(0.0, 1.0, FRAMES)[:, None]  # going up is not going anywhere
    assert speed_m_s(joints) == pytest.approx(1.2)
    assert path_m(joints) == pytest.approx(1.2 * (FRAMES - 1) / 20)
    assert path_m(clip_part(joints, 0.5, 1.0)) == pytest.approx(1.2 * (FRAMES / 2 - 1) / 20)


def test_upright_body_on_the_floor() -> None:
    """Fails when a fallen or flying body passes for a standing one."""
    joints = body_joints()
    assert head_over_pelvis_m(joints) == pytest.approx(0.6, abs=0.06)
    assert np.allclose(lowest_foot_m(joints), 0.0, atol=1e-9)
    joints[40] = joints[40] * [1.0, -1.0, 1.0] + [0.0, 3.0, 0.0]
    assert head_over_pelvis_m(joints) < -0.5 and lowest_foot_m(joints)[40] > 2.0


def test_bad_arguments_are_named() -> None:
    joints = body_joints()
    with pytest.raises(ValueError, match="side='top' is unknown. Choose one of left, right"):
        hand_gesture(joints, "top")
    with pytest.raises(ValueError, match="start=0.5 to end=0.5 of 80 frames holds 0"):
        clip_part(joints, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"shape \(80, 21, 3\); expected is \(F, 22, 3\)"):
        path_m(joints[:, :21])
