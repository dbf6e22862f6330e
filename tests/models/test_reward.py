"""Reward model: deterministic, blind to padding, differentiable in the motion; InfoNCE by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from core.models.reward import RewardConfig, RewardModel, info_nce
from core.motion.skeleton import N_FEATURES
from core.text.features import TextFeatures

LENGTHS = torch.tensor([61, 40, 46])


@pytest.fixture(scope="module")
def reward() -> RewardModel:
    torch.manual_seed(0)
    config = RewardConfig(text_dim=12, width=16, heads=2, motion_layers=2, text_layers=1, embedding=8)
    model = RewardModel(config).eval().requires_grad_(False)
    model.feature_mean.normal_()
    model.feature_std.uniform_(0.5, 2.0)
    return model


def motions(padding: float = 0.0) -> torch.Tensor:
    features = torch.randn(3, 61, N_FEATURES, generator=torch.Generator().manual_seed(1))
    features[torch.arange(61) >= LENGTHS[:, None]] = padding
    return features


def texts(extra: int = 0, padding: float = 0.0) -> TextFeatures:
    g = torch.Generator().manual_seed(2)
    tokens = torch.full((3, 7 + extra, 12), padding)
    tokens[:, :7] = torch.randn(3, 7, 12, generator=g)
    mask = torch.arange(7 + extra) < torch.tensor([7, 3, 5])[:, None]
    tokens[~mask] = padding
    return TextFeatures(tokens, mask, torch.randn(3, 12, generator=g))


@pytest.mark.parametrize("padding", [0.0, 5.0])
def test_padded_batch_equals_each_pair_alone(reward, padding) -> None:
    """Fails where the reward of a motion depends on the longest motion or text of its batch."""
    together = reward(motions(padding), LENGTHS, texts(4, padding))
    motion, words = reward.embed_motion(motions(padding), LENGTHS), reward.embed_text(texts(4, padding))
    for i, n in enumerate(LENGTHS.tolist()):
        one, length, text = motions()[i : i + 1, :n], LENGTHS[i : i + 1], texts().select([i])
        torch.testing.assert_close(motion[i], reward.embed_motion(one, length)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(words[i], reward.embed_text(text)[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together[i], reward(one, length, text)[0], atol=1e-5, rtol=0)


def test_reward_is_a_cosine_and_the_same_every_time(reward) -> None:
    """Fails where dropout or sampling makes the reward noisy while aligning."""
    first, second = (reward(motions(), LENGTHS, texts()) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (3,) and first.abs().max() <= 1.0 + 1e-6
    norms = reward.embed_motion(motions(), LENGTHS).norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(3))


def test_gradient_reaches_every_real_frame_and_no_padding(reward) -> None:
    features = motions().requires_grad_()
    reward(features, LENGTHS, texts()).sum().backward()
    assert features.grad is not None
    for i, n in enumerate(LENGTHS.tolist()):
        assert bool(features.grad[i, :n].abs().sum(-1).gt(0).all()) and not features.grad[i, n:].any()


def test_info_nce_by_hand() -> None:
    """Two pairs at right angles: -log softmax of (1/t, 0) in both directions."""
    eye = torch.eye(2)
    expected = -math.log(math.exp(2.0) / (math.exp(2.0) + 1.0))
    assert float(info_nce(eye, eye, torch.eye(2, dtype=torch.bool), 0.5)) == pytest.approx(expected, rel=1e-6)


def test_info_nce_leaves_out_negatives_of_the_same_meaning() -> None:
    """Fails where a true caption of another motion is pushed away."""
    motion = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    same = torch.eye(3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    text = motion.clone()
    text.requires_grad_()
    info_nce(motion, text, same, 0.1).backward()
    moved = text.detach().clone()
    moved[1] = motion[1]
    with_same, without = (float(info_nce(motion, moved, s, 0.1)) for s in (same, torch.eye(3, dtype=torch.bool)))
    assert with_same < without
    assert float(info_nce(motion, moved, torch.ones(3, 3, dtype=torch.bool), 0.1)) == pytest.approx(0.0, abs=1e-6)


def test_heads_must_divide_the_width(reward) -> None:
    with pytest.raises(ValueError, match="width=16 is not a multiple of heads=3"):
        RewardModel(replace(reward.config, heads=3))
