"""Physical metrics on motions whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from core.metrics.physical import (
    FOOT_JOINTS,
    bone_stretch,
    floor_penetration,
    foot_skating,
    mean_acceleration,
    mean_jerk,
    physical_metrics,
)


def standing(frames: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    body = rng.uniform(0.2, 1.6, size=(22, 3))
    body[FOOT_JOINTS, 1] = 0.02
    return np.repeat(body[None], frames, axis=0)


def test_sliding_body_skates_at_its_speed() -> None:
    """Fails on a wrong fps, axis or a speed per frame."""
    joints = standing()
    joints[..., 0] += 0.3 * np.arange(40)[:, None] / 20  # 0.3 m/s
    assert foot_skating(joints) == pytest.approx(0.3)
    assert mean_acceleration(joints) == pytest.approx(0.0, abs=1e-9)


def test_feet_in_the_air_do_not_skate() -> None:
    """A jump is no skating, and no contact is no zero."""
    joints = standing()
    joints[..., 0] += np.arange(40)[:, None] / 20
    joints[20:, FOOT_JOINTS, 1] = 0.5
    joints[20:, FOOT_JOINTS, 0] += 100.0
    assert foot_skating(joints) == pytest.approx(1.0)
    joints[:, FOOT_JOINTS, 1] = 0.5
    assert np.isnan(foot_skating(joints))


def test_acceleration_and_jerk_of_a_cubic() -> None:
    """x = t^3: acceleration 6t, jerk 6; fails on a missing power of fps."""
    t = np.arange(40) / 20
    joints = standing()
    joints[..., 2] += t[:, None] ** 3
    assert mean_jerk(joints) == pytest.approx(6.0, rel=1e-6)
    assert mean_acceleration(joints) == pytest.approx(6 * t[1:-1].mean(), rel=1e-6)


def test_penetration_and_stretch() -> None:
    """Depth under the floor in metres, stretch relative to the clip's own bones."""
    joints = standing()
    joints[..., 1] -= 0.05
    assert floor_penetration(joints) == pytest.approx(0.03)
    assert bone_stretch(joints) == pytest.approx(0.0, abs=1e-12)
    joints[:10] *= 1.1
    assert bone_stretch(joints) == pytest.approx(0.1 * 10 / 40)
    with pytest.raises(ValueError, match="expected"):
        physical_metrics(joints[:3])
