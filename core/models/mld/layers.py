"""Transformer parts shared by the published motion networks (MLD, MotionLCM, SPM, MDM), batch-first.

Parameter names and shapes are those of the published checkpoints; attention itself is PyTorch's. Left out of the
published code because no released model uses it: pre-norm layers, sine positions, controlnet residuals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_POSITIONS = 500  # rows of the published position tables; tokens plus frames must fit


@dataclass(frozen=True)
class TransformerConfig:
    """Size of one transformer stack; the defaults are MLD's published size."""

    width: int = 256  # D, token width
    ff_width: int = 1024  # hidden width of the feed-forward block
    layers: int = 9  # odd: input blocks, one middle block, output blocks
    heads: int = 4  # attention heads, must divide width
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.layers < 1 or self.layers % 2 == 0:
            raise ValueError(f"layers={self.layers} must be odd and positive (skip blocks pair around a middle one).")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}. Choose a divisor of the width.")


class TransformerLayer(nn.Module):
    """Self-attention, optional cross-attention and feed-forward, each followed by residual and LayerNorm."""

    def __init__(self, config: TransformerConfig, cross_attention: bool = False) -> None:
        super().__init__()
        width, heads, dropout = config.width, config.heads, config.dropout
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.multihead_attn = (
            nn.MultiheadAttention(width, heads, dropout, batch_first=True) if cross_attention else None
        )
        self.linear1 = nn.Linear(width, config.ff_width)
        self.linear2 = nn.Linear(config.ff_width, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width) if cross_attention else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        """x: (B, S, D). memory: (B, M, D), required with cross-attention. padding: (B, S) bool, True = hidden key."""
        attended, _ = self.self_attn(x, x, x, key_padding_mask=padding, need_weights=False)
        x = self.norm1(x + self.dropout(attended))
        if self.multihead_attn is None or self.norm3 is None:
            return self.norm2(x + self._feed_forward(x))
        attended, _ = self.multihead_attn(x, memory, memory, need_weights=False)
        x = self.norm2(x + self.dropout(attended))
        return self.norm3(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(x)))))


class SkipTransformer(nn.Module):
    """U-shaped stack: the k-th last block also sees the output of the k-th first one (MLD, appendix)."""

    def __init__(self, config: TransformerConfig, cross_attention: bool = False) -> None:
        super().__init__()
        pairs = config.layers // 2
        self.input_blocks = nn.ModuleList(TransformerLayer(config, cross_attention) for _ in range(pairs))
        self.middle_block = TransformerLayer(config, cross_attention)
        self.output_blocks = nn.ModuleList(TransformerLayer(config, cross_attention) for _ in range(pairs))
        self.linear_blocks = nn.ModuleList(nn.Linear(2 * config.width, config.width) for _ in range(pairs))
        self.norm = nn.LayerNorm(config.width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor, memory: Tensor | None = None, padding: Tensor | None = None) -> Tensor:
        """Same arguments and shapes as `TransformerLayer.forward`; returns (B, S, D)."""
        skips: list[Tensor] = []
        for block in self.input_blocks:
            x = block(x, memory, padding)
            skips.append(x)
        x = self.middle_block(x, memory, padding)
        for block, merge in zip(self.output_blocks, self.linear_blocks, strict=True):
            x = block(merge(torch.cat([x, skips.pop()], dim=-1)), memory, padding)  # (B, S, 2D) -> (B, S, D)
        return self.norm(x)


class LearnedPositions(nn.Module):
    """Adds a learned vector per position; the table keeps its published shape (500, 1, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pe = nn.Parameter(torch.rand(MAX_POSITIONS, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, S, D), S <= 500, else ValueError."""
        if x.shape[1] > MAX_POSITIONS:
            raise ValueError(f"{x.shape[1]} positions, but the table has {MAX_POSITIONS}. Shorten the motion or text.")
        return x + self.pe[: x.shape[1], 0]  # (S, D)


class TimeEmbedding(nn.Module):
    """Diffusion time -> token: sinusoid, Linear, SiLU, Linear.

    With guidance_width > 0 a sinusoid of the guidance weight, through `cond_proj`, is added to that of time: the way a
    distilled network (MotionLCM) is told how strongly to follow the text.
    """

    def __init__(self, sinusoid_width: int, width: int, guidance_width: int = 0) -> None:
        super().__init__()
        self.cond_proj = nn.Linear(guidance_width, sinusoid_width, bias=False) if guidance_width else None
        self.linear_1 = nn.Linear(sinusoid_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor, guidance_scale: float | None = None) -> Tensor:
        """t: (B,) timesteps -> (B, D) in the dtype of the weights; guidance_scale only where guidance_width > 0."""
        weight = self.linear_1.weight
        time = time_sinusoid(t, weight.shape[1]).to(weight.dtype)  # (B, sinusoid_width)
        if self.cond_proj is not None and guidance_scale is not None:
            w = torch.full_like(t, guidance_scale - 1.0, dtype=torch.float32)
            time = time + self.cond_proj(guidance_sinusoid(w, self.cond_proj.in_features).to(weight.dtype))
        return self.linear_2(F.silu(self.linear_1(time)))


def time_sinusoid(t: Tensor, width: int) -> Tensor:
    """(B,) -> (B, width) float32: cosines then sines of t / 10000^(k / half), computed in float32 as published."""
    half = width // 2
    exponents = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t[:, None].float() * exponents.exp()  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def guidance_sinusoid(w: Tensor, width: int) -> Tensor:
    """(B,) -> (B, width) float32: sines then cosines of 1000 w, last frequency 1/10000 (Luo et al. 2023, LCM)."""
    half = width // 2
    exponents = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=w.device) / (half - 1)
    angles = 1000.0 * w[:, None].float() * exponents.exp()  # (B, half)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def frame_mask(lengths: Tensor | Sequence[int], frames: int, device: torch.device | None = None) -> Tensor:
    """(B,) lengths -> (B, frames) bool, True = real; ValueError where a length is outside 1..frames."""
    lengths = torch.as_tensor(lengths)
    if lengths.min() < 1 or lengths.max() > frames:
        raise ValueError(f"lengths={lengths.tolist()} must lie in 1..{frames}. Pass the frame count of each motion.")
    return torch.arange(frames, device=device) < lengths.to(device)[:, None]


def encode_tokens(
    encoder: SkipTransformer, positions: LearnedPositions, tokens: Tensor, x: Tensor, mask: Tensor
) -> Tensor:
    """Lets always-visible tokens (P, D) or (B, P, D) read x (B, S, D), mask (B, S) True = real; returns (B, P, D)."""
    tokens = tokens.expand(len(x), -1, -1)
    visible = mask.new_ones(tokens.shape[:2])  # (B, P)
    sequence = positions(torch.cat([tokens, x], dim=1))  # (B, P + S, D)
    return encoder(sequence, padding=~torch.cat([visible, mask], dim=1))[:, : tokens.shape[1]]


def decode_frames(
    decoder: SkipTransformer,
    positions: LearnedPositions,
    head: nn.Linear,
    memory: Tensor,
    lengths: Tensor | Sequence[int],
) -> Tensor:
    """memory (B, L, D) -> (B, max(lengths), head's width): one query a frame, exactly 0 beyond each length."""
    frames = int(torch.as_tensor(lengths).max())
    mask = frame_mask(lengths, frames, memory.device)
    queries = positions(memory.new_zeros(len(memory), frames, memory.shape[-1]))  # (B, F, D)
    return head(decoder(queries, memory, padding=~mask)).masked_fill(~mask[..., None], 0.0)
