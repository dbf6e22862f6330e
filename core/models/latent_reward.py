"""A noise-aware reward: cosine of a text and a VAE latent at any noise level, for EasyTune on x_t (its SDE mode).

The reward model with latents in place of features, told how noised they are (Tan et al. 2026; noise-aware SPM). Clean
motions are encoded first, so that monitors, reports and realism terms take it like any other reward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.diffusion.schedule import CLEAN
from core.models.layers import length_mask, neighbours, sinusoid
from core.models.reward import RewardConfig, TwoTowers
from core.models.vae import MotionVae, latent_lengths
from core.text.features import TextFeatures


@dataclass(frozen=True)
class LatentRewardConfig(RewardConfig):
    """Architecture of the noise-aware reward, and whose latents it reads."""

    latent_dim: int = 32  # of the VAE; training takes what the VAE has
    vae: str = ""  # fingerprint of the VAE; set by training


class LatentReward(TwoTowers):
    """See the module docstring. The VAE comes with it, moves with it, and is not saved with it."""

    config: LatentRewardConfig

    def __init__(self, config: LatentRewardConfig, vae: MotionVae | None = None) -> None:
        """vae: encodes clean motions; without it only latents are scored."""
        super().__init__(config, 3 * config.latent_dim)
        w = config.width
        self.time = nn.Sequential(nn.Linear(w, w), nn.GELU(), nn.Linear(w, w))
        self._vae = (vae,)  # in a tuple it is no submodule, whose weights would be saved

    def attach(self, vae: MotionVae) -> None:
        """Encode clean motions by this VAE."""
        self._vae = (vae,)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """To another device, or precision, with the VAE."""
        if self._vae[0] is not None:
            self._vae[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def embed_latent(self, x_t: Tensor, t: Tensor, lengths: Tensor) -> Tensor:
        """x_t (B, L, D) at timesteps t (B,), CLEAN where there is no noise -> unit embeddings (B, E). lengths: frames.

        ValueError for latents of another width.
        """
        if x_t.shape[-1] != self.config.latent_dim:
            raise ValueError(
                f"x_t has {x_t.shape[-1]} numbers a token, this reward reads latents of {self.config.latent_dim}. "
                "Align the model on whose VAE it was trained."
            )
        sizes = latent_lengths(lengths)
        x_t = x_t * length_mask(sizes, x_t.shape[1])[..., None]
        time = self.time(sinusoid(t + 1, self.config.width))
        return self._summary(self.motion_in(neighbours(x_t)) + time[:, None], sizes)

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units, frames (B,) -> unit embeddings (B, E); ValueError without a VAE."""
        (vae,) = self._vae
        if vae is None:
            raise ValueError("this reward has no VAE to encode motions with. Load it by core.models.checkpoint.")
        return self.embed_latent(vae.encode(features, lengths), torch.full_like(lengths, CLEAN), lengths)

    def noised(self, x_t: Tensor, t: int, lengths: Tensor, text: TextFeatures) -> Tensor:
        """Reward (B,) in [-1, 1] of latents x_t (B, L, D) at noise level t; raises as embed_latent and embed_text."""
        return (self.embed_latent(x_t, torch.full_like(lengths, t), lengths) * self.embed_text(text)).sum(-1)
