"""The realism term: a proper score, and batches that hold two takes beside a real motion of each prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from core.align.config import AlignConfig, GuardConfig
from core.align.guards import EnsembleReward, Objective, energy_score
from core.commands.align import Unseen, prompt_batches
from core.data.motion_set import MotionSet
from core.data.unseen import Prompts
from core.text.features import TextFeatures

PROMPTS = 4000


def takes(mean: float, std: float, seed: int) -> torch.Tensor:
    """Two embeddings (2 PROMPTS, 3) of each prompt, Gaussian."""
    return mean + std * torch.randn(2 * PROMPTS, 3, generator=torch.Generator().manual_seed(seed))


def test_energy_score_is_least_for_motions_distributed_as_real_ones() -> None:
    """A score that prefers a shifted, a collapsed or a wild policy would spoil what it guards."""
    real = takes(0.0, 1.0, 1)[::2].repeat_interleave(2, 0)
    right = energy_score(takes(0.0, 1.0, 2), real).mean()
    for mean, std in ((0.5, 1.0), (0.0, 0.1), (0.0, 2.0)):
        assert energy_score(takes(mean, std, 2), real).mean() > right + 0.03, (mean, std)


def test_energy_score_of_equal_takes_has_a_gradient() -> None:
    motions = torch.ones(4, 3, requires_grad=True)
    energy_score(motions, torch.zeros(4, 3)).sum().backward()
    assert torch.isfinite(motions.grad).all() and (motions.grad > 0).all()


class Cosine:
    """Dot product of two fixed projections."""

    def __init__(self, seed: int) -> None:
        self.matrix = torch.randn(263, 5, generator=torch.Generator().manual_seed(seed))

    def embed_motion(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(features.mean(1) @ self.matrix, dim=-1)

    def embed_text(self, text: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(text, dim=-1)

    def __call__(self, features: torch.Tensor, lengths: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return (self.embed_motion(features, lengths) * self.embed_text(text)).sum(-1)


def test_objective_subtracts_the_score_and_reports_the_plain_reward() -> None:
    """The ensemble's joint embedding must give the mean of its members' rewards."""
    reward = EnsembleReward([Cosine(1), Cosine(2)])
    features = torch.randn(4, 8, 263, generator=torch.Generator().manual_seed(3))
    lengths, text = torch.full((4,), 8), torch.randn(4, 5, generator=torch.Generator().manual_seed(4))
    real = reward.embed_motion(features.flip(0), lengths)
    value, plain = Objective(reward, GuardConfig(realism_weight=0.5))(features, lengths, text, real)
    torch.testing.assert_close(plain, reward(features, lengths, text))
    torch.testing.assert_close(value, plain - 0.5 * energy_score(reward.embed_motion(features, lengths), real))


def test_prompts_without_real_motions_are_only_rewarded() -> None:
    features = torch.randn(2, 8, 263, generator=torch.Generator().manual_seed(3))
    lengths, text = torch.full((2,), 8), torch.ones(2, 5)
    value, plain = Objective(Cosine(1), GuardConfig(realism_weight=1.0))(features, lengths, text)
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(plain, Cosine(1)(features, lengths, text))


def test_what_the_term_needs_is_said() -> None:
    features, lengths, text = torch.zeros(2, 8, 263), torch.full((2,), 8), torch.ones(2, 5)
    guards = GuardConfig(realism_weight=1.0)
    with pytest.raises(ValueError, match="has no embeddings"):
        Objective(lambda *_: torch.zeros(2), guards)(features, lengths, text, torch.zeros(2, 5))
    with pytest.raises(ValueError, match="batch=15"):
        AlignConfig(batch=15, guards=guards)


class Words:
    """Encoder whose tokens are the captions' numbers."""

    def encode(self, captions: list[str]) -> TextFeatures:
        numbers = torch.tensor([[float(c)] for c in captions])
        return TextFeatures(numbers[:, None], torch.ones(len(captions), 1, dtype=torch.bool), numbers)


class Means:
    """A reward whose embedding of a motion is the mean of its first feature, and its length."""

    def embed_motion(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return features.mean(1)[:, :1] + lengths[:, None]

    def embed_text(self, text: TextFeatures) -> torch.Tensor:
        return text.pooled


def numbered_motions() -> MotionSet:
    """Ten motions whose features and caption are their number."""
    features = np.repeat(np.arange(10.0), 40)[:, None] * np.ones(263)
    captions = tuple((str(i),) for i in range(10))
    return MotionSet(features.astype(np.float32), np.arange(0, 401, 40), captions, ("",) * 10, ("",) * 10)


def test_paired_batches_repeat_prompts_beside_their_own_motion() -> None:
    """A motion of another prompt as the reference would teach the wrong thing."""
    motions = numbered_motions()
    align = AlignConfig(batch=6, guards=GuardConfig(realism_weight=1.0))
    batches = prompt_batches(motions, Words(), align, torch.device("cpu"), Means())  # type: ignore[arg-type]
    batch = batches(3)
    assert len(batch) == 6 and torch.equal(batch.real[:, 0], batch.text.pooled[:, 0] + 40)
    assert torch.equal(batch.text.pooled[::2], batch.text.pooled[1::2])
    assert len(set(batch.text.pooled[::2, 0].tolist())) == 3
    assert torch.equal(batches(3).text.pooled, batch.text.pooled)


def test_unseen_prompts_take_their_share_of_the_updates() -> None:
    """Rows of two kinds in one update would have a motion of another prompt as reference."""
    unseen = Prompts(tuple(str(100 + i) for i in range(8)), np.arange(50, 58))
    align = AlignConfig(batch=4, guards=GuardConfig(realism_weight=1.0))
    asked: Any = (numbered_motions(), Words(), align, torch.device("cpu"), Means())
    batches = prompt_batches(*asked, unseen=Unseen(unseen, 0.25, 3.0))
    found = [batches(update) for update in range(200)]
    without = [batch for batch in found if batch.real is None]
    assert 30 <= len(without) <= 70
    for batch in without:
        assert torch.equal(batch.text.pooled[:, 0].long() - 100, batch.lengths - 50) and len(set(batch.lengths)) == 4
        assert batch.weight == 3.0
    assert all(b.text.pooled.max() < 10 and b.weight == 1.0 for b in found if b.real is not None)
