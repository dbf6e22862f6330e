"""A noise-aware reward: cosine of a text and a VAE latent at any noise level, for EasyTune on x_t (its SDE mode).

The reward model with latents in place of features, told how noised they are (Tan et al. 2026; noise-aware SPM). Clean
motions are encoded first, so that monitors, reports and realism terms take it like any other reward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.models.layers import length_mask, neighbours, sinusoid
from core.models.reward import RewardConfig, RewardModel
from core.models.vae import latent_lengths
from core.text.features import TextFeatures

CLEAN = -1  # the timestep of a latent without noise


@dataclass(frozen=True)
class LatentRewardConfig(RewardConfig):
    """Architecture of the noise-aware reward."""

    latent_dim: int = 32  # of the VAE


class LatentReward(RewardModel):
    """See the module docstring. encode: features (B, F, 263), frames (B,) -> latents (B, L, D); the VAE's."""

    encode: Callable[[Tensor, Tensor], Tensor]

    def __init__(self, config: LatentRewardConfig) -> None:
        super().__init__(config)
        w = config.width
        self.motion_in = nn.Linear(3 * config.latent_dim, w)
        self.time = nn.Sequential(nn.Linear(w, w), nn.GELU(), nn.Linear(w, w))

    def embed_latent(self, x_t: Tensor, t: Tensor, lengths: Tensor) -> Tensor:
        """x_t (B, L, D) at timesteps t (B,), CLEAN where there is no noise -> unit embeddings (B, E). lengths: frames.

        ValueError for latents of another width.
        """
        if x_t.shape[-1] != self.motion_in.in_features // 3:
            raise ValueError(
                f"x_t has {x_t.shape[-1]} numbers a token, this reward reads latents of "
                f"{self.motion_in.in_features // 3}. Align the model on whose VAE it was trained."
            )
        sizes = latent_lengths(lengths)
        x_t = x_t * length_mask(sizes, x_t.shape[1])[..., None]
        time = self.time(sinusoid(t + 1, self.config.width))
        return self._summary(self.motion_in(neighbours(x_t)) + time[:, None], sizes)

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units, frames (B,) -> unit embeddings (B, E)."""
        return self.embed_latent(self.encode(features, lengths), torch.full_like(lengths, CLEAN), lengths)

    def noised(self, x_t: Tensor, t: int, lengths: Tensor, text: TextFeatures) -> Tensor:
        """Reward (B,) in [-1, 1] of latents x_t (B, L, D) at noise level t; raises as embed_latent and embed_text."""
        return (self.embed_latent(x_t, torch.full_like(lengths, t), lengths) * self.embed_text(text)).sum(-1)
