"""Motion: a value that can't be changed behind its owner's back, and never holds nonsense."""

from __future__ import annotations

import numpy as np
import pytest

from core.motion.features import recover_joints
from core.motion.motion import Motion


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(0, 0.01, (60, 263)).astype(np.float32)


def test_length_and_joints(features):
    motion = Motion(features)
    assert motion.n_frames == 60 and motion.duration_s == 3.0
    np.testing.assert_array_equal(motion.joints, recover_joints(features))
    assert motion.joints is motion.joints  # computed once


def test_later_changes_of_the_source_do_not_reach_it(features):
    motion = Motion(features)
    features[0, 3] = 5.0
    assert motion.features[0, 3] != 5.0
    with pytest.raises(ValueError, match="read-only"):
        motion.features[0, 0] = 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.zeros((60, 262))}, r"needed is \(F, 263\)"),
        ({"features": np.zeros((2, 60, 263))}, "of one clip"),
        ({"features": np.full((60, 263), np.nan)}, "not finite in frame 0"),
        ({"fps": 0}, "fps=0 is not allowed"),
        ({"convention": "kit"}, "allowed are smpl, humanml3d"),
    ],
)
def test_bad_input_is_named(features, changes, message):
    with pytest.raises(ValueError, match=message):
        Motion(**{"features": features, **changes})
