"""Expected information of a pair: against its meaning in plain cases, and against what a head is unsure of."""

from __future__ import annotations

import pytest
import torch

from core.models.reward import RewardConfig
from core.preference.active import information, most_telling
from core.preference.descriptors import N_DESCRIPTORS
from core.preference.head import PreferenceConfig, PreferenceReward


def test_information_is_what_the_answer_tells_apart() -> None:
    """A pair that all tastes agree on, or none can decide, tells nothing; one that splits them tells a bit."""
    agreed, undecided, split, partly = torch.tensor([[0.9, 0.5, 0.0, 0.25], [0.9, 0.5, 1.0, 0.75]]).T
    assert information(agreed[:, None]).item() == pytest.approx(0.0, abs=1e-6)
    assert information(undecided[:, None]).item() == pytest.approx(0.0, abs=1e-6)
    assert information(split[:, None]).item() == pytest.approx(1.0)
    assert information(partly[:, None]).item() == pytest.approx(1.0 - 0.811278, abs=1e-5)


def test_most_telling_pair_differs_in_what_is_not_known() -> None:
    """Tastes agree on input 1 and not on input 2: the pair that differs in input 2 is asked about."""
    head = PreferenceReward(
        PreferenceConfig(RewardConfig(width=8, heads=1, motion_layers=1, text_layers=1, embedding=4))
    )
    samples = head.samples.unflatten(0, (-1, 1 + N_DESCRIPTORS))
    samples[:, 1] = 3.0
    samples[::2, 2], samples[1::2, 2] = 3.0, -3.0
    a, b = torch.zeros(3, len(head.weight)), torch.zeros(3, len(head.weight))
    a[0, 1] = a[1, 2] = 1.0
    best, bits = most_telling(head, a, b)
    assert best == 1 and bits > 0.3
    with pytest.raises(ValueError, match="no pair"):
        most_telling(head, a[:0], b[:0])
