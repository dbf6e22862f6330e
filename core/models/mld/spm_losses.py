"""What the published SPM was trained by, for who trains an imported one further; the weights are those of EasyTune.

Distributions are diagonal Gaussians, given as mean and standard deviation, as `Spm.motion_posterior` returns them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.models.reward import info_nce

Gaussian = tuple[Tensor, Tensor]  # mean, standard deviation


@dataclass(frozen=True)
class SpmLossConfig:
    """Weights and constants as published."""

    kl: float = 1e-5
    latent: float = 1e-5
    contrastive: float = 0.1
    temperature: float = 0.1
    same_text: float = 0.9  # texts more alike than this, 0 to 1, are no negatives of each other

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not 0.5 <= self.same_text <= 1.0:
            raise ValueError(
                f"temperature={self.temperature} must be positive, same_text={self.same_text} in 0.5-1. "
                "0.1 and 0.9 are published."
            )


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """Mean over all numbers of KL(q || p)."""
    (mean_q, std_q), (mean_p, std_p) = q, p
    ratio = (std_q / std_p) ** 2
    return (0.5 * (ratio + ((mean_p - mean_q) / std_p) ** 2 - 1.0 - ratio.log())).mean()


def filtered_info_nce(motion: Tensor, text: Tensor, sentences: Tensor | None, config: SpmLossConfig) -> Tensor:
    """Contrast of latents motion (B, D) and text (B, D); sentences (B, S): vectors that tell texts alike, or None.

    Texts are alike where the cosine of their vectors, brought to 0..1, is above `same_text` (TMR).
    """
    same = torch.zeros(len(motion), len(motion), dtype=torch.bool, device=motion.device)
    if sentences is not None:
        unit = F.normalize(sentences, dim=-1)
        same = unit @ unit.T > 2.0 * config.same_text - 1.0
    return info_nce(F.normalize(motion, dim=-1), F.normalize(text, dim=-1), same, config.temperature)


def spm_loss(
    reconstructions: tuple[Tensor, Tensor],
    features: Tensor,
    posteriors: tuple[Gaussian, Gaussian],
    latents: tuple[Tensor, Tensor],
    sentences: Tensor,
    config: SpmLossConfig | None = None,
) -> Tensor:
    """The whole loss, a scalar. Of each pair the motion's comes first, then the text's.

    reconstructions: (B, F, 263) each, of features (B, F, 263), normalised. posteriors: (B, L, D) each number.
    latents: (B, L, D) each. sentences: (B, S). ValueError for latents of more than one token, as published.
    """
    config = config or SpmLossConfig()
    motion, text = posteriors
    if latents[0].shape[1] != 1:
        raise ValueError(f"latents have {latents[0].shape[1]} tokens; the published contrast takes one. Use L = 1.")
    standard = torch.zeros_like(motion[0]), torch.ones_like(motion[1])
    kl = sum(gaussian_kl(q, p) for q, p in ((text, motion), (motion, text), (motion, standard), (text, standard)))
    reconstruction = sum(F.smooth_l1_loss(made, features) for made in reconstructions)
    contrast = filtered_info_nce(latents[0][:, 0], latents[1][:, 0], sentences, config)
    return (
        reconstruction
        + config.kl * kl
        + config.latent * F.smooth_l1_loss(latents[0], latents[1])
        + config.contrastive * contrast
    )
