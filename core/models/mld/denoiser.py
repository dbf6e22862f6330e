"""The published MLD / MotionLCM denoiser: predicts the noise in a latent from time and text.

Latent, time and text tokens form one sequence through a skip transformer; the latent positions are the answer.
Text tokens are all attended (the published models give a single sentence token), there is no text mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.models.mld.layers import LearnedPositions, SkipTransformer, TimeEmbedding, TransformerConfig


@dataclass(frozen=True)
class MldDenoiserConfig:
    """Defaults: EasyTune's and MLD's published denoiser. See `MOTIONLCM_DENOISER` for the other one."""

    latent_tokens: int = 1  # L
    latent_width: int = 256  # width of one latent token
    transformer: TransformerConfig = TransformerConfig()
    project_latent: bool = False  # linear maps between latent and transformer width (MotionLCM)
    text_width: int = 768  # sentence-T5-large
    text_relu: bool = True  # ReLU before the text projection (MLD), none in MotionLCM
    time_width: int = 768  # width of the time sinusoid
    guidance_width: int = 0  # of the guidance sinusoid of distilled networks, 256 in MotionLCM; 0 = none

    def __post_init__(self) -> None:
        if not self.project_latent and self.latent_width != self.transformer.width:
            raise ValueError(
                f"latent_width={self.latent_width} differs from transformer.width={self.transformer.width}. "
                "Set project_latent=True or make them equal."
            )


MOTIONLCM_DENOISER = MldDenoiserConfig(latent_tokens=16, latent_width=32, project_latent=True, text_relu=False)


class MldDenoiser(nn.Module):
    """Noise prediction eps(x_t, t, text) in latent space; parameter names as published."""

    def __init__(self, config: MldDenoiserConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MldDenoiserConfig()
        width, latent_width = config.transformer.width, config.latent_width
        self.latent_pre = nn.Linear(latent_width, width) if config.project_latent else nn.Identity()
        self.latent_post = nn.Linear(width, latent_width) if config.project_latent else nn.Identity()
        self.time_embedding = TimeEmbedding(config.time_width, width, config.guidance_width)
        self.emb_proj = nn.Sequential(
            nn.ReLU() if config.text_relu else nn.Identity(), nn.Linear(config.text_width, width)
        )
        self.query_pos = LearnedPositions(width)
        self.encoder = SkipTransformer(config.transformer)

    def forward(self, x_t: Tensor, t: Tensor, text: Tensor, guidance_scale: float | None = None) -> Tensor:
        """Predicted noise (B, L, latent_width).

        x_t: (B, L, latent_width). t: () or (B,) timesteps 0..999. text: (B, S, text_width), S >= 1.
        guidance_scale: what a distilled network (guidance_width > 0) shall imitate; others ignore it.
        Raises ValueError on a latent or text of another size.
        """
        expected = (self.config.latent_tokens, self.config.latent_width)
        if tuple(x_t.shape[1:]) != expected:
            raise ValueError(f"x_t has shape {tuple(x_t.shape)}, expected (B, {expected[0]}, {expected[1]}).")
        if text.dim() != 3 or text.shape[-1] != self.config.text_width:
            raise ValueError(f"text has shape {tuple(text.shape)}, expected (B, S, {self.config.text_width}).")
        latent = self.latent_pre(x_t)  # (B, L, D)
        time = self.time_embedding(t.expand(len(x_t)), guidance_scale)[:, None]  # (B, 1, D)
        sequence = torch.cat([latent, time, self.emb_proj(text)], dim=1)  # (B, L + 1 + S, D)
        return self.latent_post(self.encoder(self.query_pos(sequence))[:, : expected[0]])
