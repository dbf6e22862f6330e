"""The SPM reward against the published class."""

from __future__ import annotations

import pytest
import torch

from core.models.mld.layers import TransformerConfig, frame_mask
from core.models.mld.spm import Spm, SpmConfig

SMALL = SpmConfig(transformer=TransformerConfig(width=64, ff_width=128, layers=3, heads=4))
ONE_LAYER = SpmConfig(transformer=TransformerConfig(width=256, ff_width=64, layers=1, heads=4))
MOTION_SIDE = ("global_motion", "query_motion", "motion_encoder", "dist_motion", "skel_embedding", "time_embedding")


@pytest.fixture
def data(published):
    return published("spm_small")


@pytest.fixture
def model(data):
    return data.load(Spm(SMALL))


@pytest.fixture
def token_mask(data):
    return frame_mask(data["token_lengths"], data["token_embeddings"].shape[1])


def test_published_motion_embedding(data, model):
    mean, std = model.motion_posterior(data["motion"], data["motion_lengths"])
    data.check(mean.transpose(0, 1), "motion_mu")  # published axis order (L, B, D)
    data.check(std.transpose(0, 1), "motion_std")
    length = int(data["motion_lengths"][3])
    data.check(model.encode_motion(data["motion"][3:, :length], [length]).transpose(0, 1), "motion_mu_row3_unpadded")


def test_published_text_embedding(data, model, token_mask):
    """Padded tokens hold random values in the fixture: prevents a mask that lets them through."""
    mean, std = model.text_posterior(data["token_embeddings"], token_mask)
    data.check(mean.transpose(0, 1), "text_mu")
    data.check(std.transpose(0, 1), "text_std")
    length = int(data["token_lengths"][3])
    alone = model.encode_text(data["token_embeddings"][3:, :length], token_mask[3:, :length])
    data.check(alone.transpose(0, 1), "text_mu_row3_unpadded")


def test_published_reward(data, model, token_mask):
    """Prevents a reward that pairs the wrong text or isn't a cosine."""
    motion, lengths, text = data["motion"], data["motion_lengths"], data["token_embeddings"]
    reward = model(motion, lengths, text, token_mask)
    data.check(reward, "cosine")
    count = len(text)
    rows = [model(motion, lengths, text[[i] * count], token_mask[[i] * count]) for i in range(count)]
    data.check(torch.stack(rows), "cosine_matrix")  # (text, motion)


def test_published_decoding(data, model):
    features = model.decode(data["z"].transpose(0, 1), data["motion_lengths"])
    data.check(features, "dec_z")
    assert features[~frame_mask(data["motion_lengths"], features.shape[1])].abs().max() == 0


def test_published_time_token(published):
    """The noise-aware path: prevents a time token at another place or of another frequency order."""
    data = published("spm_timestep_1layer")
    model = Spm(ONE_LAYER).to(data.dtype).eval().requires_grad_(False)
    result = model.load_state_dict(data.weights, strict=False)
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if key.startswith(MOTION_SIDE)]
    mean, std = model.motion_posterior(data["motion"], data["motion_lengths"], data["timestep"])
    data.check(mean.transpose(0, 1), "motion_mu", of_time=True)
    data.check(std.transpose(0, 1), "motion_std", of_time=True)
    data.check(model.time_embedding(data["timestep"]) + model.query_motion_pos_encoder.pe[1], "time_emb", of_time=True)


def test_full_size_keys(published_keys, keys_of):
    """Prevents a published reward from failing to load by key."""
    assert keys_of(Spm()) == published_keys("keys_spm_full")


def test_reward_gradient_reaches_the_motion():
    """Prevents an alignment that sees no gradient, or one from frames that do not exist."""
    model = Spm(SMALL).eval()
    motion = torch.randn(2, 30, 263, requires_grad=True)
    model(motion, [30, 20], torch.randn(2, 5, 1024), torch.ones(2, 5, dtype=torch.bool)).sum().backward()
    assert motion.grad is not None
    assert motion.grad[:, :20].abs().min() > 0
    assert motion.grad[1, 20:].abs().max() == 0


def test_time_needs_the_published_width():
    with pytest.raises(ValueError, match="256"):
        Spm(SMALL).encode_motion(torch.zeros(1, 10, 263), [10], torch.tensor(3))
