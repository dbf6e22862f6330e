"""Motion VAE: padding leaks nowhere, units are physical, each loss term sees its own error."""

from __future__ import annotations

import pytest
import torch

from core.models.vae import MotionVae, VaeConfig, VaeLossWeights, latent_lengths, vae_loss
from core.motion.skeleton import N_FEATURES

LENGTHS = torch.tensor([61, 40, 44, 57])  # every remainder of the 4 frames of a latent, except 2


@pytest.fixture(scope="module")
def vae() -> MotionVae:
    torch.manual_seed(0)
    model = MotionVae(VaeConfig(latent_dim=6, width=24, hidden=32, blocks=3, refine_width=16)).eval()
    for module in (model.refine_out, *(block.norm for block in model.encoder)):  # biases, which leak first
        torch.nn.init.normal_(module.weight, std=0.3)
        torch.nn.init.normal_(module.bias, std=0.3)
    for buffer in (model.feature_mean, model.latent_mean):
        buffer.normal_()
    for buffer in (model.feature_std, model.latent_std):
        buffer.uniform_(0.5, 2.0)
    return model.requires_grad_(False)


def motions(lengths: torch.Tensor = LENGTHS, padding: float = 0.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    features = torch.randn(len(lengths), int(lengths.max()), N_FEATURES, generator=g)
    features[torch.arange(features.shape[1]) >= lengths[:, None]] = padding
    return features


@pytest.mark.parametrize("padding", [0.0, 7.0])
def test_encode_is_the_same_alone_and_padded(vae, padding) -> None:
    """Fails where the frames behind a short motion, or biases on them, reach its latents."""
    together = vae.encode(motions(padding=padding), LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        alone = vae.encode(motions()[i : i + 1, :n], LENGTHS[i : i + 1])
        assert alone.shape == (1, -(-n // 4), 6)
        torch.testing.assert_close(together[i, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)
        assert not together[i, alone.shape[1] :].any()


@pytest.mark.parametrize("padding", [0.0, 7.0])
def test_decode_is_the_same_alone_and_padded(vae, padding) -> None:
    """Fails where padded latents, or the smoothing across patches, reach the last frames of a short motion."""
    sizes = latent_lengths(LENGTHS)
    z = torch.randn(4, int(sizes.max()), 6, generator=torch.Generator().manual_seed(2))
    z[torch.arange(z.shape[1]) >= sizes[:, None]] = padding
    together = vae.decode(z, LENGTHS)
    assert together.shape == (4, 61, N_FEATURES)
    for i, n in enumerate(LENGTHS.tolist()):
        alone = vae.decode(z[i : i + 1, : sizes[i]], LENGTHS[i : i + 1])
        assert alone.shape == (1, n, N_FEATURES)
        torch.testing.assert_close(together[i, :n], alone[0], atol=1e-5, rtol=0)
        assert not together[i, n:].any()


def test_latents_do_not_depend_on_units(vae) -> None:
    """Fails where normalisation is forgotten or done twice."""
    import copy

    other = copy.deepcopy(vae)
    other.feature_mean.zero_()
    other.feature_std.fill_(1.0)
    features = motions()
    torch.testing.assert_close(other.encode(vae.normalize(features), LENGTHS), vae.encode(features, LENGTHS))
    other.latent_mean.zero_()
    other.latent_std.fill_(1.0)
    mean, _ = vae.encode_distribution(features, LENGTHS)
    torch.testing.assert_close(other.encode(vae.normalize(features), LENGTHS), mean)


def test_gradient_reaches_the_latent_and_only_within_the_motion(vae) -> None:
    """Alignment differentiates through the decoder; fails where a mask cuts it or padding gets a gradient."""
    z = torch.randn(2, 12, 6, requires_grad=True)
    vae.decode(z, torch.tensor([48, 40])).square().sum().backward()
    assert z.grad is not None and bool(z.grad[0].abs().sum(-1).gt(0).all())
    assert bool(z.grad[1, :10].abs().sum(-1).gt(0).all()) and not z.grad[1, 10:].any()


def test_loss_is_the_weighted_sum_of_its_terms_and_ignores_padding(vae) -> None:
    """Fails where a term is logged but not trained, or padded frames are trained on."""
    weights = VaeLossWeights()
    values = []
    for features in (motions(), motions(padding=9.0)):
        torch.manual_seed(3)
        values.append(vae_loss(vae, features, LENGTHS, weights))
    parts = {k: float(v) for k, v in values[0].items() if k != "loss"}
    expected = sum((1.0 if k == "reconstruction" else getattr(weights, k)) * v for k, v in parts.items())
    assert float(values[0]["loss"]) == pytest.approx(expected, rel=1e-5)
    for name, value in values[0].items():
        assert float(values[1][name]) == pytest.approx(float(value), rel=1e-5), name
    assert all(v > 0 for v in parts.values())


def test_a_diverged_vae_says_so(vae) -> None:
    features = motions()
    features[0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="KL is not finite"):
        vae_loss(vae, features, LENGTHS, VaeLossWeights())
