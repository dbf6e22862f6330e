"""The published MDM (trans_enc): diffusion on the features themselves, predicting the clean motion.

One token of time and text is put before the frames of a plain transformer encoder. Left out: actions, the decoder and
GRU variants, and CLIP, whose (B, 512) sentence vector comes in as `text`. Added for models of our own: word tokens
between that token and the frames (`text_tokens`), through the same text layer, so that no key is new.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.models.mld.layers import TransformerConfig, TransformerLayer, frame_mask

MAX_POSITIONS = 5000  # rows of the published sinusoid table


@dataclass(frozen=True)
class MdmConfig:
    """Defaults: the published humanml_trans_enc_512."""

    features: int = 263  # HumanML3D feature vector
    width: int = 512  # D
    ff_width: int = 1024  # hidden width of the feed-forward block
    layers: int = 8
    heads: int = 4
    dropout: float = 0.1
    text_width: int = 512  # CLIP ViT-B/32
    positions: int = MAX_POSITIONS  # rows of the position table
    mask_frames: bool = False  # trained with padding hidden from attention; True for the newer released models
    text_tokens: bool = False  # the words of the text as tokens of the sequence too; False for released models


class SinusoidTable(nn.Module):
    """Fixed sine/cosine positions, `pe` (rows, 1, D) of published checkpoints; any stored row count loads, or none."""

    def __init__(self, width: int, rows: int = MAX_POSITIONS) -> None:
        super().__init__()
        self.pe: Tensor
        position = torch.arange(rows, dtype=torch.float32)[:, None]
        frequency = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
        table = torch.stack([torch.sin(position * frequency), torch.cos(position * frequency)], dim=-1)  # interleaved
        self.register_buffer("pe", table.flatten(1)[:, None])  # (rows, 1, D)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        stored = state_dict.get(prefix + "pe")
        if stored is not None and stored.shape[1:] == self.pe.shape[1:]:
            self.pe = self.pe.new_empty(stored.shape)
        state_dict.setdefault(prefix + "pe", self.pe)
        super()._load_from_state_dict(state_dict, prefix, *args)


class TimestepEmbedder(nn.Module):
    """Timestep -> row of the shared table -> Linear, SiLU, Linear."""

    def __init__(self, table: SinusoidTable, width: int) -> None:
        super().__init__()
        self.sequence_pos_encoder = table
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) int -> (B, D)."""
        return self.time_embed(self.sequence_pos_encoder.pe[t, 0])


class PlainTransformer(nn.Module):
    """Layers one after another, without skips or a last norm."""

    def __init__(self, layer: TransformerConfig, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(layer) for _ in range(count))

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """x: (B, S, D). padding: (B, S) bool, True = hidden. Returns (B, S, D)."""
        for layer in self.layers:
            x = layer(x, padding=padding)
        return x


class Mdm(nn.Module):
    """Clean-motion prediction x0(x_t, t, text) on normalised features; parameter names as published."""

    def __init__(self, config: MdmConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MdmConfig()
        width = config.width
        self.input_process = nn.ModuleDict({"poseEmbedding": nn.Linear(config.features, width)})
        self.sequence_pos_encoder = SinusoidTable(width, config.positions)
        self.dropout = nn.Dropout(config.dropout)
        layer = TransformerConfig(width, config.ff_width, 1, config.heads, config.dropout)
        self.seqTransEncoder = PlainTransformer(layer, config.layers)
        self.embed_timestep = TimestepEmbedder(self.sequence_pos_encoder, width)
        self.embed_text = nn.Linear(config.text_width, width)
        self.output_process = nn.ModuleDict({"poseFinal": nn.Linear(width, config.features)})

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        text: Tensor | None,
        lengths: Tensor | Sequence[int] | None = None,
        words: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Predicted clean features (B, F, 263).

        x_t: (B, F, 263) noised features. t: () or (B,) int timesteps. text: (B, text_width), None = unconditional.
        lengths: (B,) in 1..F, frames from there on are hidden; needed (ValueError) where `mask_frames` is set.
        Published networks without it saw their padding; here a motion must not hang on the longest one of its batch.
        words: tokens (B, S, text_width) and mask (B, S) bool, True = real; read only where `text_tokens` is set.
        """
        batch, frames, _ = x_t.shape
        if text is None:
            text = x_t.new_zeros(batch, self.config.text_width)  # the text layer's bias stays, as published
        condition = self.embed_timestep(t.expand(batch)) + self.embed_text(text)  # (B, D)
        sequence = torch.cat([condition[:, None], self.input_process["poseEmbedding"](x_t)], dim=1)  # (B, 1 + F, D)
        sequence = self.dropout(sequence + self.sequence_pos_encoder.pe[: 1 + frames, 0])
        padding = self._padding(lengths, frames, x_t.device)
        if self.config.text_tokens and words is not None:
            sequence, padding = self._with_words(sequence, padding, *words)
        return self.output_process["poseFinal"](self.seqTransEncoder(sequence, padding)[:, -frames:])

    def _with_words(
        self, sequence: Tensor, padding: Tensor | None, tokens: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Words (B, S, D) put before the sequence, with positions of their own from the far end of the table."""
        if padding is None:
            padding = mask.new_zeros(sequence.shape[:2])
        positions = self.sequence_pos_encoder.pe[-tokens.shape[1] :, 0].flip(0)  # word 0 has the last row
        words = self.dropout(self.embed_text(tokens) + positions)
        return torch.cat([words, sequence], dim=1), torch.cat([~mask, padding], dim=1)

    def _padding(self, lengths: Tensor | Sequence[int] | None, frames: int, device: torch.device) -> Tensor | None:
        """(B, 1 + F) bool, True = hidden; the condition token is always visible."""
        if lengths is None:
            if not self.config.mask_frames:
                return None
            raise ValueError(
                "lengths=None, but this model was trained with mask_frames. Pass the frames of each motion."
            )
        return ~frame_mask(torch.as_tensor(lengths) + 1, frames + 1, device)


@dataclass(frozen=True)
class DiffusionTables:
    """Per-timestep constants of a Gaussian diffusion, each (T,) float64."""

    betas: np.ndarray
    alphas_cumprod: np.ndarray
    posterior_mean_coef1: np.ndarray  # weight of x0 in the mean of q(x_{t-1} | x_t, x0)
    posterior_mean_coef2: np.ndarray  # weight of x_t
    posterior_variance: np.ndarray

    @property
    def posterior_log_variance_clipped(self) -> np.ndarray:
        """Log of the posterior variance; its first entry, log 0, is replaced by the second."""
        return np.log(np.append(self.posterior_variance[1], self.posterior_variance[1:]))


def cosine_diffusion(steps: int) -> DiffusionTables:
    """MDM's schedule: cosine alphas (Nichol & Dhariwal 2021, eq. 17), betas capped at 0.999; posterior DDPM eq. (6-7).

    steps: T >= 2, else ValueError. Published models use 1000 or 50.
    """
    if steps < 2:
        raise ValueError(f"steps={steps} is below 2. Published models use 1000 or 50.")
    alpha_bar = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    cumprod = np.cumprod(1.0 - betas)
    previous = np.append(1.0, cumprod[:-1])
    return DiffusionTables(
        betas=betas,
        alphas_cumprod=cumprod,
        posterior_mean_coef1=betas * np.sqrt(previous) / (1.0 - cumprod),
        posterior_mean_coef2=(1.0 - previous) * np.sqrt(1.0 - betas) / (1.0 - cumprod),
        posterior_variance=betas * (1.0 - previous) / (1.0 - cumprod),
    )
