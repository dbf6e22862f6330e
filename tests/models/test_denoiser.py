"""Latent denoiser: padding of motions and of texts changes nothing; time, text and length all matter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.models.denoiser import Denoiser, DenoiserConfig
from core.text.features import TextFeatures

SIZES = torch.tensor([15, 10, 12])
CONFIG = DenoiserConfig(latent_dim=6, text_dim=12, width=24, layers=2, heads=3)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    model = Denoiser(CONFIG).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    return model


def texts(extra: int = 0, padding: float = 0.0) -> TextFeatures:
    """Three texts of 7, 3 and 5 tokens, padded to 7 + extra."""
    g = torch.Generator().manual_seed(1)
    tokens = torch.full((3, 7 + extra, 12), padding)
    tokens[:, :7] = torch.randn(3, 7, 12, generator=g)
    mask = torch.arange(7 + extra) < torch.tensor([7, 3, 5])[:, None]
    tokens[~mask] = padding
    return TextFeatures(tokens, mask, torch.randn(3, 12, generator=g))


def noised(padding: float = 0.0) -> torch.Tensor:
    x_t = torch.randn(3, 15, 6, generator=torch.Generator().manual_seed(2))
    x_t[torch.arange(15) >= SIZES[:, None]] = padding
    return x_t


T = torch.tensor([999, 500, 3])


@pytest.mark.parametrize("padding", [0.0, 5.0])
def test_padded_batch_equals_each_motion_alone(denoiser, padding) -> None:
    """Fails where attention looks at padded latents or padded words."""
    together = denoiser(noised(padding), T, texts(padding=padding), SIZES)
    assert together.shape == (3, 15, 6)
    for i, n in enumerate(SIZES.tolist()):
        alone = denoiser(noised()[i : i + 1, :n], T[i : i + 1], texts().select([i]), SIZES[i : i + 1])
        torch.testing.assert_close(together[i, :n], alone[0], atol=1e-5, rtol=0)
        assert not together[i, n:].any()


def test_longer_padding_of_texts_changes_nothing(denoiser) -> None:
    """Fails where a caption's meaning depends on its neighbours in the batch."""
    torch.testing.assert_close(
        denoiser(noised(), T, texts(6, 4.0), SIZES), denoiser(noised(), T, texts(), SIZES), atol=1e-5, rtol=0
    )


def test_time_words_and_length_matter(denoiser) -> None:
    """Fails where a condition is computed and then not used."""
    base = denoiser(noised(), T, texts(), SIZES)
    words = replace(texts(), tokens=texts().tokens.roll(1, 0))
    for name, other in {
        "time": denoiser(noised(), T - 2, texts(), SIZES),
        "words": denoiser(noised(), T, words, SIZES),
        "pooled": denoiser(noised(), T, replace(texts(), pooled=texts().pooled.roll(1, 0)), SIZES),
        "length": denoiser(noised(), T, texts(), SIZES - 1),
    }.items():
        assert (other - base)[:, :9].abs().amax((1, 2)).min() > 1e-5, name


def test_untrained_denoiser_predicts_the_mean() -> None:
    """Zero output at the start: fails where the first steps of training begin far from the data."""
    torch.manual_seed(0)
    assert not Denoiser(CONFIG).eval()(noised(), T, texts(), SIZES).any()


def test_width_must_fit_the_heads() -> None:
    with pytest.raises(ValueError, match="width=24 is not a multiple of heads=5"):
        Denoiser(replace(CONFIG, heads=5))
