"""Votes to a reward: what it must predict, keep, differentiate and survive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.models.reward import RewardConfig, RewardModel
from core.preference.bradley_terry import Prior, fit, predict
from core.preference.descriptors import DESCRIPTORS, describe
from core.preference.head import PreferenceConfig, PreferenceReward, pad
from core.preference.pairs import PreferencePair
from core.preference.refine import refine
from core.text.features import TextFeatures

LEFT_WRIST_Y, RIGHT_WRIST_Y = 4 + 19 * 3 + 1, 4 + 20 * 3 + 1  # columns of the features


class Words:
    """A text encoder of one constant vector."""

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        tokens = torch.ones(len(prompts), 2, 8)
        return TextFeatures(tokens, torch.ones(len(prompts), 2, dtype=torch.bool), tokens[:, 0])


@pytest.fixture(scope="module")
def base() -> RewardModel:
    torch.manual_seed(0)
    model = RewardModel(RewardConfig(text_dim=8, width=16, heads=2, motion_layers=1, text_layers=1, embedding=8))
    return model.eval().requires_grad_(False)


def takes(n: int) -> dict[str, np.ndarray]:
    """Trembling motions, each with its hands at another height."""
    rng = np.random.default_rng(0)
    motions = {str(i): 0.02 * rng.standard_normal((40, 263)).astype(np.float32) for i in range(n)}
    for motion in motions.values():
        motion[:, 3] = 0.9
        motion[:, 67:193] += rng.standard_normal(126)  # what the base reward looks at, and no vote
        motion[:, [LEFT_WRIST_Y, RIGHT_WRIST_Y]] += rng.uniform(0.7, 1.6)
    return motions


def votes_for_high_hands(motions: dict[str, np.ndarray]) -> list[PreferencePair]:
    names = list(motions)
    pairs = []
    for a, b in zip(names[::2], names[1::2], strict=True):
        better, worse = sorted((a, b), key=lambda n: -motions[n][:, LEFT_WRIST_Y].mean())
        moment = datetime.now(UTC)
        pairs.append(PreferencePair(f"prompt {a}", better, worse, "human", False, 1.0, "a", moment))
    return pairs


def inputs() -> tuple[Tensor, Tensor, TextFeatures]:
    features, lengths = pad(list(takes(4).values()), "cpu")
    return features, lengths, Words().encode(["x"] * 4)


def test_without_votes_it_is_the_base_reward(base: RewardModel) -> None:
    head = PreferenceReward(PreferenceConfig(base.config)).eval()
    head.base.load_state_dict(base.state_dict())
    torch.testing.assert_close(head(*inputs()), base(*inputs()))


def test_learns_a_taste_says_it_and_predicts_held_out_votes(base: RewardModel) -> None:
    motions = takes(80)
    head = refine(base, votes_for_high_hands(motions), motions.__getitem__, Words())
    assert head.report["accuracy"] > 0.85 and head.report["pairs"] == 40
    assert any("high" in words for words in head.explain()), head.explain()


def test_gradient_is_finite_even_for_a_body_at_rest(base: RewardModel) -> None:
    motions = takes(40)
    head = refine(base, votes_for_high_hands(motions), motions.__getitem__, Words())
    features = torch.zeros(4, 40, 263, requires_grad=True)
    head(features, torch.tensor([40, 40, 40, 10]), inputs()[2]).sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()
    assert features.grad[3, 11:].abs().max() == 0  # padding is no motion


def test_padding_changes_no_descriptor() -> None:
    features, lengths, _ = inputs()
    longer = torch.nn.functional.pad(features, (0, 0, 0, 30), value=5.0)
    torch.testing.assert_close(describe(longer, lengths), describe(features, lengths))
    assert describe(features, lengths).shape == (4, len(DESCRIPTORS))


def test_saved_and_loaded_it_gives_the_same_rewards(base: RewardModel, tmp_path: Path) -> None:
    motions = takes(40)
    head = refine(base, votes_for_high_hands(motions), motions.__getitem__, Words())
    head.base.half().float()  # what a checkpoint keeps
    head.save(tmp_path / "reward", {})
    loaded = PreferenceReward.load(tmp_path / "reward")
    torch.testing.assert_close(loaded(*inputs()), head(*inputs()), rtol=1e-3, atol=1e-3)
    assert loaded.explain() == head.explain() and loaded.report == head.report


def test_no_pair_is_refused(base: RewardModel) -> None:
    with pytest.raises(ValueError, match="no pair"):
        refine(base, [], takes(2).__getitem__, Words())


def test_ties_pull_together_and_separable_votes_stay_finite() -> None:
    """Newton without damping diverges on votes that one direction separates."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5)) * 50
    x[:, 0] = np.abs(x[:, 0])
    prior = Prior(np.zeros(5), np.full(5, 0.3))
    found = fit(x, np.ones(60), np.ones(60), prior)
    assert np.isfinite(found.mean).all() and found.mean[0] > 0 and (predict(x, found) > 0.5).all()
    tied = fit(x, np.full(60, 0.5), np.ones(60), prior)
    assert np.abs(tied.mean).max() < 1e-6
