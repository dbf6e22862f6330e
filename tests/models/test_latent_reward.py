"""Noise-aware reward: blind to padding, told how noised a latent is, an ordinary reward of clean motions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.align.guards import EmbeddingReward
from core.diffusion.protocol import NoisedReward
from core.diffusion.schedule import CLEAN
from core.models.checkpoint import fingerprint, load_module, load_reward, save_checkpoint
from core.models.latent_reward import LatentReward, LatentRewardConfig
from core.models.vae import MotionVae, VaeConfig
from core.motion.skeleton import N_FEATURES
from core.train.refine import _load
from tests.models.test_reward import LENGTHS, motions, texts

SIZES = (LENGTHS + 3) // 4


@pytest.fixture(scope="module")
def vae() -> MotionVae:
    torch.manual_seed(0)
    vae = MotionVae(VaeConfig(latent_dim=4, width=16, hidden=16, blocks=1, refine_width=8))
    vae.latent_mean.normal_()
    return vae.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def reward(vae) -> LatentReward:
    torch.manual_seed(1)
    sizes = {"width": 16, "heads": 2, "motion_layers": 2, "text_layers": 1, "embedding": 8}
    return LatentReward(LatentRewardConfig(text_dim=12, **sizes, latent_dim=4), vae).eval().requires_grad_(False)


def latents(padding: float = 0.0) -> torch.Tensor:
    z = torch.randn(3, 16, 4, generator=torch.Generator().manual_seed(3))
    z[torch.arange(16) >= SIZES[:, None]] = padding
    return z


@pytest.mark.parametrize("padding", [0.0, 5.0])
def test_padded_latents_equal_each_alone(reward, padding) -> None:
    """Fails where what lies beyond a motion's end, noise while sampling, changes its reward."""
    together = reward.noised(latents(padding), 300, LENGTHS, texts(2, padding))
    for i, n in enumerate(SIZES.tolist()):
        alone = reward.noised(latents()[i : i + 1, :n], 300, LENGTHS[i : i + 1], texts().select([i]))
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)


def test_a_clean_motion_is_its_latent_at_the_clean_end(reward, vae) -> None:
    """Fails where monitors and reports score clean motions as if they were noised."""
    z = vae.encode(motions(), LENGTHS)
    clean = reward.noised(z, CLEAN, LENGTHS, texts())
    torch.testing.assert_close(reward(motions(), LENGTHS, texts()), clean)
    assert (clean - reward.noised(z, 0, LENGTHS, texts())).abs().max() > 1e-6
    assert (clean - reward.noised(z, 500, LENGTHS, texts())).abs().max() > 1e-3
    assert isinstance(reward, NoisedReward) and isinstance(reward, EmbeddingReward)


def test_gradient_reaches_every_real_latent_and_no_padding(reward) -> None:
    z = latents().requires_grad_()
    reward.noised(z, 100, LENGTHS, texts()).sum().backward()
    assert z.grad is not None
    for i, n in enumerate(SIZES.tolist()):
        assert bool(z.grad[i, :n].abs().sum(-1).gt(0).all()) and not z.grad[i, n:].any()


def test_latents_of_another_model_are_refused(reward) -> None:
    with pytest.raises(ValueError, match=f"x_t has {N_FEATURES} numbers a token, this reward reads latents of 4"):
        reward.noised(motions(), 0, LENGTHS, texts())


def test_its_checkpoint_brings_the_vae_beside_it_and_no_other(reward, vae, tmp_path) -> None:
    """Prevents a copy of the VAE in its file, clean motions without a reward, and rewards of a foreign latent space."""
    save_checkpoint(tmp_path / "vae", vae, {})
    saved = LatentReward(replace(reward.config, vae=fingerprint(tmp_path / "vae")))
    saved.load_state_dict(reward.state_dict())
    save_checkpoint(tmp_path / "reward-noised", saved, {})
    loaded = load_module(tmp_path / "reward-noised")
    assert loaded.state_dict().keys() == reward.state_dict().keys()
    assert not any(name.startswith("_vae") for name in loaded.state_dict())
    expected = reward(motions(), LENGTHS, texts())
    torch.testing.assert_close(loaded(motions(), LENGTHS, texts()), expected, atol=5e-3, rtol=0)
    elsewhere = loaded.to("meta").embed_motion(motions().to("meta"), LENGTHS.to("meta"))  # the VAE comes along
    assert elsewhere.is_meta
    with pytest.raises(ValueError, match="this reward has no VAE"):
        saved(motions(), LENGTHS, texts())
    other = MotionVae(vae.config)
    save_checkpoint(tmp_path / "vae", other, {})
    with pytest.raises(ValueError, match="knows the latents of another VAE.*core train latent-reward"):
        load_module(tmp_path / "reward-noised")


@pytest.mark.parametrize("load", [load_reward, lambda checkpoints, name: _load(checkpoints / name, "cpu")])
def test_what_votes_and_spl_refine_is_another_kind_of_reward(reward, vae, load, tmp_path) -> None:
    """Prevents a head on a reward whose embeddings it can't make, and SPL that unlearns the noise."""
    save_checkpoint(tmp_path / "vae", vae, {})
    known = LatentReward(replace(reward.config, vae=fingerprint(tmp_path / "vae")))
    save_checkpoint(tmp_path / "reward-noised", known, {})
    with pytest.raises(ValueError, match="reward-noised holds a LatentReward"):
        load(tmp_path, name="reward-noised")
