"""The text-to-motion model as one piece: frozen VAE, denoiser, null text; implements core.diffusion.protocol.

Classifier-free guidance happens here, on the clean estimate: x0 = x0_u + w (x0_c - x0_u). Predicting x0 or eps is an
affine change at fixed x_t, so this equals guiding eps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.models.denoiser import Denoiser
from core.models.vae import MotionVae, latent_lengths
from core.text.encoder import TextFeatures


class LatentDiffusion(nn.Module):
    """See the module docstring. null: features of the empty text (1, S, C)."""

    denoiser: Denoiser

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
        return self.prepare(text, guidance_scale, lengths, x_t.shape[1])(x_t, t)

    def prepare(
        self, text: TextFeatures, guidance_scale: float, lengths: Tensor, size: int
    ) -> Callable[[Tensor, int], Tensor]:
        """(x_t, t) -> what predict_x0 gives, with all that a rollout's steps share computed once; size: L of x_t.

        Holds while the weights stay as they are.
        """
        sizes = latent_lengths(lengths)
        if guidance_scale != 1.0:
            null = self.null.to(sizes.device).select([0] * len(sizes))
            text, sizes = TextFeatures.concat([text, null]), sizes.repeat(2)
        prepared = self.denoiser.prepare(text, sizes, size)

        def predict(x_t: Tensor, t: int) -> Tensor:
            copies = len(sizes) // len(x_t)
            steps = torch.full((len(sizes),), t, device=x_t.device)
            x0_hat = self.denoiser.step(x_t.repeat(copies, 1, 1), steps, prepared)
            if copies == 1:
                return x0_hat
            conditional, unconditional = x0_hat.chunk(2)
            return unconditional + guidance_scale * (conditional - unconditional)

        return predict

    def decode(self, x0: Tensor, lengths: Tensor) -> Tensor:
        """Clean latents (B, L, D) -> features (B, F, 263) in physical units, differentiable."""
        return self.vae.decode(x0, lengths)

    def encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units -> latents (B, L, D)."""
        return self.vae.encode(features, lengths)
