"""The denoiser against the published class: any change of order, key or rounding shows here."""

from __future__ import annotations

import pytest
import torch

from core.models.mld.denoiser import MOTIONLCM_DENOISER, MldDenoiser, MldDenoiserConfig
from core.models.mld.layers import TransformerConfig

SMALL = TransformerConfig(width=64, ff_width=128, layers=3, heads=4)
SMALL_CONFIGS = {
    "mld_denoiser_small": MldDenoiserConfig(latent_width=64, transformer=SMALL),
    "motionlcm_denoiser_small": MldDenoiserConfig(
        latent_tokens=4, latent_width=16, transformer=SMALL, project_latent=True, text_relu=False
    ),
}


@pytest.mark.parametrize("case", ["sent", "scalar_t", "tokens"])
@pytest.mark.parametrize("name", SMALL_CONFIGS)
def test_published_output(published, name, case):
    """Prevents a network that loads published weights but computes something else."""
    data = published(name)
    model = data.load(MldDenoiser(SMALL_CONFIGS[name]))
    out = model(data[f"{case}/sample"], data[f"{case}/timestep"], data[f"{case}/encoder_hidden_states"])
    data.check(out, f"{case}/out", of_time=True)


@pytest.mark.parametrize(
    ("listing", "config"),
    [
        ("keys_mld_denoiser_full", MldDenoiserConfig()),
        ("keys_motionlcm_denoiser_full", MOTIONLCM_DENOISER),
    ],
)
def test_full_size_keys(published_keys, keys_of, listing, config):
    """Prevents a published checkpoint from failing to load by key."""
    assert keys_of(MldDenoiser(config)) == published_keys(listing)


def test_dropout_is_off_in_eval_and_on_in_training():
    """Prevents a reward gradient through dropout noise, and training without any."""
    model = MldDenoiser(SMALL_CONFIGS["mld_denoiser_small"])
    inputs = torch.randn(2, 1, 64), torch.tensor(500), torch.randn(2, 1, 768)
    assert not torch.equal(model(*inputs), model(*inputs))
    model.eval()
    assert torch.equal(model(*inputs), model(*inputs))


def test_wrong_shapes_are_named():
    """Prevents a broadcast of a wrong latent or text into a silent wrong answer."""
    model = MldDenoiser(SMALL_CONFIGS["mld_denoiser_small"])
    t, text = torch.tensor(5), torch.randn(2, 1, 768)
    with pytest.raises(ValueError, match="x_t has shape"):
        model(torch.randn(2, 4, 64), t, text)
    with pytest.raises(ValueError, match="text has shape"):
        model(torch.randn(2, 1, 64), t, text[:, 0])
    with pytest.raises(ValueError, match="positions"):
        model(torch.randn(2, 1, 64), t, torch.randn(2, 499, 768))


def test_wrong_sizes_are_named():
    """Prevents a configuration that fails only deep inside the network."""
    with pytest.raises(ValueError, match="odd"):
        TransformerConfig(layers=4)
    with pytest.raises(ValueError, match="divide"):
        TransformerConfig(width=64, heads=5)
    with pytest.raises(ValueError, match="project_latent"):
        MldDenoiserConfig(latent_width=32)
