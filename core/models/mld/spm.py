"""The published SPM reward of EasyTune: how well a motion fits a text, as a cosine in a shared latent space.

Text enters as token embeddings (sentence-T5-large gives 1024 numbers a token); the text encoder itself is not part
of a saved SPM. Deterministic: embeddings are the posterior means, never samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.models.mld.layers import (
    LearnedPositions,
    SkipTransformer,
    TimeEmbedding,
    TransformerConfig,
    decode_frames,
    encode_tokens,
    frame_mask,
)

TIME_SINUSOID_WIDTH, TIME_TOKEN_WIDTH = 512, 256  # fixed in the published class, whatever the transformer's width


@dataclass(frozen=True)
class SpmConfig:
    """Defaults: the published SPM."""

    features: int = 263  # HumanML3D feature vector
    latent_tokens: int = 1  # L
    transformer: TransformerConfig = TransformerConfig()
    text_width: int = 1024  # of a token embedding
    text_encoder: str = "sentence-t5-large"  # a name of core.text.encoder


class Spm(nn.Module):
    """Motion encoder, text encoder and decoder around one latent space; parameter names as published."""

    def __init__(self, config: SpmConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SpmConfig()
        width = config.transformer.width
        self.global_motion_token = nn.Parameter(torch.randn(config.latent_tokens, width))
        self.global_text_token = nn.Parameter(torch.randn(config.latent_tokens, width))
        self.query_motion_pos_encoder = LearnedPositions(width)
        self.query_text_pos_encoder = LearnedPositions(width)
        self.query_pos_decoder = LearnedPositions(width)
        self.motion_encoder = SkipTransformer(config.transformer)
        self.text_encoder = SkipTransformer(config.transformer)
        self.text_encoder.norm = self.motion_encoder.norm  # one shared LayerNorm in the published class
        self.decoder = SkipTransformer(config.transformer, cross_attention=True)
        self.dist_motion_layer = nn.Linear(width, 2 * width)
        self.dist_text_layer = nn.Linear(width, 2 * width)
        self.skel_embedding = nn.Linear(config.features, width)
        self.text_embedding = nn.Linear(config.text_width, width)
        self.final_layer = nn.Linear(width, config.features)
        self.time_embedding = TimeEmbedding(TIME_SINUSOID_WIDTH, TIME_TOKEN_WIDTH)

    def forward(self, features: Tensor, lengths: Tensor | Sequence[int], text: Tensor, text_mask: Tensor) -> Tensor:
        """Reward (B,) in [-1, 1]: cosine of motion and text embedding, one text a motion.

        features: (B, F, 263) normalised. lengths: (B,). text: (B, S, text_width). text_mask: (B, S), True = real.
        """
        motion = self.encode_motion(features, lengths).flatten(1)  # (B, L * D)
        return F.cosine_similarity(motion, self.encode_text(text, text_mask).flatten(1), dim=-1)

    def encode_motion(self, features: Tensor, lengths: Tensor | Sequence[int], t: Tensor | None = None) -> Tensor:
        """Mean motion embedding (B, L, D); arguments as `motion_posterior`."""
        return self.motion_posterior(features, lengths, t)[0]

    def encode_text(self, text: Tensor, mask: Tensor) -> Tensor:
        """Mean text embedding (B, L, D); arguments as `text_posterior`."""
        return self.text_posterior(text, mask)[0]

    def motion_posterior(
        self, features: Tensor, lengths: Tensor | Sequence[int], t: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and std, each (B, L, D), of a motion; with t () or (B,) of a motion noised to that timestep."""
        mask = frame_mask(lengths, features.shape[1], features.device)
        tokens = self.global_motion_token.expand(len(features), -1, -1)  # (B, L, D)
        if t is not None:
            tokens = torch.cat([tokens, self._time_token(t.expand(len(features)))], dim=1)  # (B, L + 1, D)
        x = self.skel_embedding(features)
        encoded = encode_tokens(self.motion_encoder, self.query_motion_pos_encoder, tokens, x, mask)
        return _mean_std(self.dist_motion_layer(encoded[:, : self.config.latent_tokens]))

    def text_posterior(self, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """text: (B, S, text_width) token embeddings; mask: (B, S) True = real. Mean and std, each (B, L, D)."""
        x = self.text_embedding(text)
        encoded = encode_tokens(self.text_encoder, self.query_text_pos_encoder, self.global_text_token, x, mask)
        return _mean_std(self.dist_text_layer(encoded))

    def decode(self, latent: Tensor, lengths: Tensor | Sequence[int]) -> Tensor:
        """latent: (B, L, D) -> normalised features (B, max(lengths), 263), exactly 0 beyond each length."""
        return decode_frames(self.decoder, self.query_pos_decoder, self.final_layer, latent, lengths)

    def _time_token(self, t: Tensor) -> Tensor:
        width = self.config.transformer.width
        if width != TIME_TOKEN_WIDTH:
            raise ValueError(f"t needs transformer.width={TIME_TOKEN_WIDTH} as published, not {width}. Leave t=None.")
        return self.time_embedding(t)[:, None]  # (B, 1, D)


def _mean_std(parameters: Tensor) -> tuple[Tensor, Tensor]:
    mean, logvar = parameters.chunk(2, dim=-1)
    return mean, (0.5 * logvar).exp()
