"""The published MLD / MotionLCM motion VAE: 263 features a frame <-> a few latent tokens, any length up to the table.

Deterministic: `encode` gives the posterior mean; `posterior` also its standard deviation, sampling is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.models.mld.layers import (
    LearnedPositions,
    SkipTransformer,
    TransformerConfig,
    decode_frames,
    encode_tokens,
    frame_mask,
)


@dataclass(frozen=True)
class MldVaeConfig:
    """Defaults: EasyTune's and MLD's published VAE. See `MOTIONLCM_VAE` for the other one."""

    features: int = 263  # HumanML3D feature vector
    latent_tokens: int = 1  # L
    latent_width: int = 256  # width of one latent token
    transformer: TransformerConfig = TransformerConfig()
    project_latent: bool = False  # linear maps between transformer and latent width (MotionLCM)

    def __post_init__(self) -> None:
        if not self.project_latent and self.latent_width != self.transformer.width:
            raise ValueError(
                f"latent_width={self.latent_width} differs from transformer.width={self.transformer.width}. "
                "Set project_latent=True or make them equal."
            )


MOTIONLCM_VAE = MldVaeConfig(latent_tokens=16, latent_width=32, project_latent=True)


class MldVae(nn.Module):
    """Transformer VAE on normalised features; parameter names as published."""

    def __init__(self, config: MldVaeConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MldVaeConfig()
        width = config.transformer.width
        self.global_motion_token = nn.Parameter(torch.randn(2 * config.latent_tokens, width))  # means, log-variances
        self.latent_pre = nn.Linear(width, config.latent_width) if config.project_latent else nn.Identity()
        self.latent_post = nn.Linear(config.latent_width, width) if config.project_latent else nn.Identity()
        self.query_pos_encoder = LearnedPositions(width)
        self.encoder = SkipTransformer(config.transformer)
        self.query_pos_decoder = LearnedPositions(width)
        self.decoder = SkipTransformer(config.transformer, cross_attention=True)
        self.skel_embedding = nn.Linear(config.features, width)
        self.final_layer = nn.Linear(width, config.features)

    def posterior(self, features: Tensor, lengths: Tensor | Sequence[int]) -> tuple[Tensor, Tensor]:
        """features: (B, F, 263) normalised; lengths: (B,) in 1..F. Returns mean and std, each (B, L, latent_width)."""
        mask = frame_mask(lengths, features.shape[1], features.device)
        encoded = encode_tokens(
            self.encoder, self.query_pos_encoder, self.global_motion_token, self.skel_embedding(features), mask
        )  # (B, 2L, D)
        mean, logvar = self.latent_pre(encoded).chunk(2, dim=1)  # (B, L, latent_width) each
        return mean, (0.5 * logvar).exp()

    def encode(self, features: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
        """The posterior mean (B, L, latent_width); frames beyond a motion's length have no influence."""
        return self.posterior(features, lengths)[0]

    def decode(self, x0: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
        """x0: (B, L, latent_width) -> normalised features (B, max(lengths), 263), exactly 0 beyond each length."""
        return decode_frames(self.decoder, self.query_pos_decoder, self.final_layer, self.latent_post(x0), lengths)
