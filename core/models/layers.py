"""Building blocks in batch-first (B, L, D) layout. Padded positions are kept at exactly zero by a mask (B, L, 1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths -> (B, size) bool, True at real positions."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def sinusoid(positions: Tensor, width: int, period: float = 10_000.0) -> Tensor:
    """(...,) positions -> (..., width) sines and cosines (Vaswani et al. 2017)."""
    half = width // 2
    frequencies = torch.exp(-math.log(period) * torch.arange(half, device=positions.device) / half)
    angles = positions[..., None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


def neighbours(x: Tensor, dilation: int = 1) -> Tensor:
    """(B, L, D) -> (B, L, 3D): each position beside those `dilation` before and after it, zero outside."""
    pad = F.pad(x, (0, 0, dilation, dilation))
    size = x.shape[1]
    return torch.cat([pad[:, :size], x, pad[:, 2 * dilation : 2 * dilation + size]], -1)


class ConvBlock(nn.Module):
    """Residual block: a width-3 dilated convolution (as one matrix product) to `hidden`, GELU, back to `width`."""

    def __init__(self, width: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(3 * width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = neighbours(self.norm(x) * mask, self.dilation)
        return (x + self.down(F.gelu(self.up(h)))) * mask


class Attention(nn.Module):
    """Multi-head attention of queries x (B, L, D) over a context (B, S, C); key_mask (B, S) is True where real.

    Written out: at these lengths (under 64) the backward pass of PyTorch's fused attention is several times slower on
    a CPU (benchmarks/training.py).
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width={width} is not a multiple of heads={heads}.")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, key_mask: Tensor) -> Tensor:
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, L, D/H)
        k, v = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, H, L, S)
        weights = scores.masked_fill(~key_mask[:, None, None, :], float("-inf")).softmax(-1)
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer with GELU and a feed-forward of 4x the width."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.dropout(self.attention(h, h, mask))
        return x + self.dropout(self.feed_forward(self.norm2(x)))
