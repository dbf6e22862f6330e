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
from core.preference.vectors import VectorFile
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


def test_tells_how_agreement_grows_with_the_votes(base: RewardModel) -> None:
    """Prevents a learning curve of one point, or one whose end is another figure than the report's."""
    told, motions = [], takes(80)
    pairs = votes_for_high_hands(motions)
    head = refine(base, pairs, motions.__getitem__, Words(), callback=lambda _step, _total, info: told.append(info))
    curve = [info for info in told if "accuracy" in info]
    assert [info["learnt_from"] for info in curve] == [0.25, 0.5, 0.75, 1.0]
    assert curve[-1]["accuracy"] == head.report["accuracy"] > 0.8
    assert curve[0]["accuracy"] <= curve[-1]["accuracy"] + 0.05


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


def test_no_preference_keeps_the_base_reward_and_separable_votes_stay_finite() -> None:
    """Newton without damping diverges on votes that one direction separates."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 6)) * 50
    x[:, 1] = np.abs(x[:, 1])
    prior = Prior(inputs=6, candidates=4)
    found = fit(x, np.ones(60), np.ones(60), prior)
    assert np.isfinite(found.mean).all() and found.mean[1] > 0 and (predict(x, found) > 0.5).mean() > 0.95
    assert found.mean[5] == 0.0 and not found.covariance[5].any()  # no candidate
    none = fit(x[:0], np.ones(0), np.ones(0), prior)
    assert none.mean[0] == pytest.approx(prior.base_counts * prior.base_weight) and not none.mean[1:].any()
    tied = fit(x, np.full(60, 0.5), np.ones(60), prior)
    assert np.abs(tied.mean[1:]).max() < 1e-2


def test_few_noisy_votes_find_the_one_thing_they_are_about() -> None:
    """Fails where 25 chance correlations outvote the one taste."""
    rng, right = np.random.default_rng(0), []
    w = np.zeros(26)
    w[7] = 3.0
    for _ in range(8):
        x, fresh = rng.standard_normal((30, 26)), rng.standard_normal((300, 26))
        flips = np.where(rng.random(30) < 0.1, -1.0, 1.0)
        x *= (np.sign(x @ w) * flips)[:, None]
        found = fit(x, np.ones(30), np.ones(30), Prior(inputs=26, candidates=25))
        right.append(((fresh @ found.mean > 0) == (fresh @ w > 0)).mean())
    assert np.mean(right) > 0.85, right


def test_many_votes_are_searched_in_part_and_fitted_whole() -> None:
    """Fails where refinement of a large buffer grows faster than its pairs, or forgets most of them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6000, 5))
    target = (rng.random(6000) < 1 / (1 + np.exp(-1.5 * x[:, 2]))).astype(float)
    found = fit(x, target, np.ones(6000), Prior(inputs=5, candidates=4, lapse=0.0))
    assert found.mean[2] == pytest.approx(1.5, abs=0.1) and np.sqrt(found.covariance[2, 2]) < 0.06


def test_a_reward_keeps_asking_for_the_text(base: RewardModel) -> None:
    """Fails where votes that ignore the text let an aligned model ignore it too."""
    motions = takes(80)
    head = refine(base, votes_for_high_hands(motions), motions.__getitem__, Words())
    x = torch.zeros(2, len(head.weight))
    x[1, 0] = 1.0
    rewards = head.reward_of(x)
    assert head.weight[0] < 1.0 and float(rewards[1] - rewards[0]) == pytest.approx(float(head.scale[0]), rel=1e-4)


def test_a_motion_is_embedded_once_in_a_lifetime(base: RewardModel, tmp_path: Path) -> None:
    """Fails where every refinement loads and embeds all motions ever voted on; a record cut by a kill is made again."""
    motions = {f"{i:064x}": motion for i, motion in enumerate(takes(12).values())}
    pairs, loaded = votes_for_high_hands(motions), []

    def load(name: str) -> np.ndarray:
        loaded.append(name)
        return motions[name]

    known = VectorFile(tmp_path / "vectors", base)
    first = refine(base, pairs[:4], load, Words(), known=known)
    assert len(loaded) == 8
    with known.path.open("r+b") as file:
        file.truncate(known.path.stat().st_size - 5)
    again = refine(base, pairs[:4], load, Words(), known=known)
    torch.testing.assert_close(again.weight, first.weight)
    assert loaded[8:] == [loaded[7]]
    refine(base, pairs, load, Words(), known=known)
    assert sorted(loaded[9:]) == sorted(motions)[8:] and len(known.read()) == 12
    other = RewardModel(base.config)
    assert VectorFile(tmp_path / "vectors", other).read() == {}
