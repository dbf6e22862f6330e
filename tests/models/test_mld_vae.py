"""The VAE against the published class."""

from __future__ import annotations

import pytest
import torch

from core.models.mld.layers import TransformerConfig, frame_mask
from core.models.mld.vae import MOTIONLCM_VAE, MldVae, MldVaeConfig

SMALL = TransformerConfig(width=64, ff_width=128, layers=3, heads=4)
SMALL_CONFIGS = {
    "mld_vae_small": MldVaeConfig(latent_width=64, transformer=SMALL),
    "motionlcm_vae_small": MldVaeConfig(latent_tokens=4, latent_width=16, transformer=SMALL, project_latent=True),
}


@pytest.mark.parametrize("name", SMALL_CONFIGS)
def test_published_posterior(published, name):
    """Prevents an encoder that differs from the published one, or lets padding in."""
    data = published(name)
    model = data.load(MldVae(SMALL_CONFIGS[name]))
    mean, std = model.posterior(data["features"], data["lengths"])
    data.check(mean.transpose(0, 1), "mu")  # published axis order (L, B, D)
    data.check(std.transpose(0, 1), "std")
    assert torch.equal(model.encode(data["features"], data["lengths"]), mean)
    length = int(data["lengths"][2])
    data.check(model.encode(data["features"][2:, :length], [length]).transpose(0, 1), "mu_row2_unpadded")


@pytest.mark.parametrize("name", SMALL_CONFIGS)
def test_published_decoding(published, name):
    """Prevents a decoder that differs from the published one."""
    data = published(name)
    model = data.load(MldVae(SMALL_CONFIGS[name]))
    data.check(model.decode(data["z"], data["lengths"]), "dec_z")
    data.check(model.decode(model.encode(data["features"], data["lengths"]), data["lengths"]), "dec_mu")


@pytest.mark.parametrize("name", SMALL_CONFIGS)
def test_padding_is_zero_and_has_no_influence(published, name):
    """Prevents a motion that changes with the company it keeps in the batch."""
    data = published(name)
    model = data.load(MldVae(SMALL_CONFIGS[name]))
    lengths, mask = data["lengths"], data["mask"]
    assert torch.equal(frame_mask(lengths, mask.shape[1]), mask)
    assert model.decode(data["z"], lengths)[~mask].abs().max() == 0
    noisy = torch.where(mask[..., None], data["features"], torch.randn_like(data["features"]))
    torch.testing.assert_close(model.encode(noisy, lengths), model.encode(data["features"], lengths))


@pytest.mark.parametrize(
    ("listing", "config"),
    [("keys_mld_vae_full", MldVaeConfig()), ("keys_motionlcm_vae_full", MOTIONLCM_VAE)],
)
def test_full_size_keys(published_keys, keys_of, listing, config):
    """Prevents a published checkpoint from failing to load by key."""
    assert keys_of(MldVae(config)) == published_keys(listing)


def test_bad_input_is_named():
    """Prevents NaN from an empty motion and a silent cut of a long one."""
    model = MldVae(SMALL_CONFIGS["mld_vae_small"])
    with pytest.raises(ValueError, match="lengths"):
        model.encode(torch.zeros(2, 40, 263), [40, 0])
    with pytest.raises(ValueError, match="lengths"):
        model.encode(torch.zeros(1, 40, 263), torch.tensor([41]))
    with pytest.raises(ValueError, match="positions"):
        model.decode(torch.zeros(1, 1, 64), [501])
    with pytest.raises(ValueError, match="project_latent"):
        MldVaeConfig(latent_width=32)
