"""The text-to-motion model as one piece: frozen VAE, denoiser, null text; implements core.diffusion.protocol.

Classifier-free guidance happens here, on the clean estimate: x0 = x0_u + w (x0_c - x0_u). Predicting x0 or eps is an
affine change at fixed x_t, so this equals guiding eps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.models.denoiser import Denoiser
from core.models.vae import MotionVae, latent_lengths
from core.text.encoder import TextFeatures


class LatentDiffusion(nn.Module):
    """See the module docstring. null: features of the empty text (1, S, C)."""

    denoiser: nn.Module

    def __init__(self, vae: MotionVae, denoiser: Denoiser, null: TextFeatures) -> None:
        super().__init__()
        if vae.config.latent_dim != denoiser.config.latent_dim:
            raise ValueError(
                f"VAE latents have {vae.config.latent_dim} numbers, the denoiser {denoiser.config.latent_dim}."
            )
        self.vae, self.denoiser, self.null = vae, denoiser, null

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vae.feature_mean.device

    def latent_shape(self, lengths: Tensor) -> tuple[int, int]:
        """(L, D) of the noise for a batch of motions of these lengths (B,), frames."""
        return int(latent_lengths(lengths).max()), self.vae.config.latent_dim

    def predict_x0(self, x_t: Tensor, t: int, text: TextFeatures, guidance_scale: float, lengths: Tensor) -> Tensor:
        """Guided clean estimate x0_hat (B, L, D) of x_t (B, L, D) at training timestep t."""
        steps = torch.full((len(x_t),), t, device=x_t.device)
        sizes = latent_lengths(lengths)
        if guidance_scale == 1.0:
            return self.denoiser(x_t, steps, text, sizes)
        null = self.null.to(x_t.device).select([0] * len(x_t))
        both = TextFeatures.concat([text, null])
        twice = self.denoiser(x_t.repeat(2, 1, 1), steps.repeat(2), both, sizes.repeat(2))
        conditional, unconditional = twice.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def decode(self, x0: Tensor, lengths: Tensor) -> Tensor:
        """Clean latents (B, L, D) -> features (B, F, 263) in physical units, differentiable."""
        return self.vae.decode(x0, lengths)

    def encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units -> latents (B, L, D)."""
        return self.vae.encode(features, lengths)
