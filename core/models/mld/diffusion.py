"""The published MLD / MotionLCM model as one piece; implements core.diffusion.protocol.

The denoiser predicts the noise; the clean latent is x0 = (x_t - sigma_t eps) / alpha_t. Guidance is the classifier-free
one, or, in networks distilled for few steps (MotionLCM), a number the denoiser is told. Text is one sentence vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.models.mld.denoiser import MldDenoiser, MldDenoiserConfig
from core.models.mld.layers import frame_mask
from core.models.mld.vae import MldVae, MldVaeConfig
from core.text.features import TextFeatures

SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "sample",  # predict_x0 has made a clean latent of the noise
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
}


@dataclass(frozen=True)
class MldConfig:
    """Both networks and the text encoder whose sentence vector they know."""

    vae: MldVaeConfig = field(default_factory=MldVaeConfig)
    denoiser: MldDenoiserConfig = field(default_factory=MldDenoiserConfig)
    text_encoder: str = (
        "sentence-t5-large"  # a name of core.text.encoder; clip-vit-large-patch14 in MLD's first release
    )

    def __post_init__(self) -> None:
        latents = [(c.latent_tokens, c.latent_width) for c in (self.vae, self.denoiser)]
        if latents[0] != latents[1]:
            raise ValueError(f"the VAE's latents are {latents[0]}, the denoiser's {latents[1]}. They must be the same.")


class MldDiffusion(nn.Module):
    """See the module docstring. Features go in and come out in physical units; normalisation is inside."""

    denoiser: nn.Module
    feature_mean: Tensor  # (263,) Mean.npy of the training data
    feature_std: Tensor  # (263,) Std.npy

    def __init__(self, config: MldConfig | None = None) -> None:
        super().__init__()
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        self.config = config = config or MldConfig()
        self.vae, self.denoiser = MldVae(config.vae), MldDenoiser(config.denoiser)
        self.register_buffer("feature_mean", torch.zeros(config.vae.features))
        self.register_buffer("feature_std", torch.ones(config.vae.features))
        self.schedule = SCHEDULE
        self.text_encoder: Any = None  # set by load_diffusion; makes the null text when first needed
        self.null: TextFeatures | None = None
        self._alphas: list[float] = DDIMScheduler(**SCHEDULE, clip_sample=False).alphas_cumprod.double().tolist()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.feature_mean.device

    def latent_shape(self, lengths: Tensor) -> tuple[int, int]:
        """(L, D) of the noise, whatever the lengths."""
        return self.config.vae.latent_tokens, self.config.vae.latent_width

    def predict_x0(self, x_t: Tensor, t: int, text: TextFeatures, guidance_scale: float, lengths: Tensor) -> Tensor:
        """Guided clean estimate x0_hat (B, L, D) of x_t (B, L, D) at training timestep t.

        text.pooled: (B, text_width). Raises ValueError where guidance needs the empty text and no encoder is there.
        """
        alpha_bar = self._alphas[t]
        eps = self._noise(
            x_t, torch.as_tensor(t, device=x_t.device), text.pooled[:, None].to(x_t.dtype), guidance_scale
        )
        return (x_t - (1.0 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5

    def _noise(self, x_t: Tensor, t: Tensor, text: Tensor, guidance_scale: float) -> Tensor:
        if self.config.denoiser.guidance_width or guidance_scale == 1.0:
            return self.denoiser(x_t, t, text, guidance_scale)
        null = self._null().pooled[:, None].to(x_t).expand(len(x_t), -1, -1)
        conditional, unconditional = self.denoiser(x_t.repeat(2, 1, 1), t, torch.cat([text, null])).chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def _null(self) -> TextFeatures:
        if self.null is not None:
            return self.null
        if self.text_encoder is None:
            raise ValueError("guidance needs the features of the empty text: set `null`, or guidance_scale=1.")
        null: TextFeatures = self.text_encoder.encode([""])
        self.null = null
        return null

    def decode(self, x0: Tensor, lengths: Tensor) -> Tensor:
        """Clean latents (B, L, D) -> features (B, F, 263) in physical units, padded frames zero, differentiable."""
        features = self.vae.decode(x0, lengths)
        mask = frame_mask(lengths, features.shape[1], features.device)
        return (features * self.feature_std + self.feature_mean) * mask[..., None]

    def encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units -> latents (B, L, D), the posterior mean."""
        return self.vae.encode((features - self.feature_mean) / self.feature_std, lengths)
