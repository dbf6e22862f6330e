"""The text-to-motion model as one piece: guidance, shapes, and rows that do not touch each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from core.diffusion.protocol import MotionDiffusion
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.latent import LatentDiffusion
from core.models.vae import MotionVae, VaeConfig
from core.text.features import TextFeatures

LENGTHS = torch.tensor([57, 44])


def texts(lengths: list[int], seed: int) -> TextFeatures:
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens = torch.randn(*mask.shape, 12, generator=g) * mask[..., None]
    return TextFeatures(tokens, mask, torch.randn(len(lengths), 12, generator=g))


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    torch.manual_seed(0)
    denoiser = Denoiser(DenoiserConfig(latent_dim=6, text_dim=12, width=16, layers=1, heads=2))
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    vae = MotionVae(VaeConfig(latent_dim=6, width=16, hidden=16, blocks=1, refine_width=8))
    return LatentDiffusion(vae, denoiser, texts([2], 9)).eval().requires_grad_(False)


@pytest.fixture
def predict(model) -> Callable[[float], torch.Tensor]:
    x_t = torch.randn(2, 15, 6, generator=torch.Generator().manual_seed(3))
    return lambda scale: model.predict_x0(x_t, 500, texts([7, 4], 1), scale, LENGTHS)


def test_implements_the_protocol(model) -> None:
    assert isinstance(model, MotionDiffusion)
    assert model.latent_shape(LENGTHS) == (15, 6)
    assert model.decode(torch.zeros(2, 15, 6), LENGTHS).shape == (2, 57, 263)
    assert model.encode(torch.zeros(2, 57, 263), LENGTHS).shape == (2, 15, 6)


def test_guidance_is_linear_between_null_and_text(predict) -> None:
    """x0 = x0_u + w (x0_c - x0_u): fails where null and text are swapped, or w = 1 takes another path."""
    free, told = predict(0.0), predict(1.0)
    assert (free - told).abs().max() > 1e-3
    torch.testing.assert_close(predict(3.0), free + 3.0 * (told - free), atol=1e-5, rtol=0)
    torch.testing.assert_close(predict(1.0), predict(1.0 + 1e-7), atol=1e-5, rtol=0)


def test_null_text_is_the_same_for_every_row(model) -> None:
    """Fails where unconditional rows see their neighbour's prompt."""
    x_t = torch.randn(1, 12, 6).repeat(2, 1, 1)
    free = model.predict_x0(x_t, 500, texts([7, 4], 1), 0.0, torch.tensor([46, 46]))
    torch.testing.assert_close(free[0], free[1], atol=1e-6, rtol=0)


def test_guided_rows_equal_rows_alone(model, predict) -> None:
    together = predict(2.5)
    x_t = torch.randn(2, 15, 6, generator=torch.Generator().manual_seed(3))
    for i, n in enumerate([15, 11]):
        alone = model.predict_x0(x_t[i : i + 1, :n], 500, texts([7, 4], 1).select([i]), 2.5, LENGTHS[i : i + 1])
        torch.testing.assert_close(together[i, :n], alone[0], atol=1e-5, rtol=0)


def test_vae_and_denoiser_must_fit(model) -> None:
    other = MotionVae(VaeConfig(latent_dim=5, width=16, hidden=16, blocks=1))
    with pytest.raises(ValueError, match="VAE latents have 5 numbers, the denoiser 6"):
        LatentDiffusion(other, model.denoiser, model.null)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_prepared_rollout_gives_what_a_single_prediction_gives(model, scale) -> None:
    """Fails where something that changes from step to step is kept over a rollout."""
    x_t = torch.randn(2, 15, 6, generator=torch.Generator().manual_seed(3))
    prepared = model.prepare(texts([7, 4], 1), scale, LENGTHS, 15)
    for t in (999, 500, 3):
        torch.testing.assert_close(prepared(x_t, t), model.predict_x0(x_t, t, texts([7, 4], 1), scale, LENGTHS))
        x_t = x_t * 0.5
