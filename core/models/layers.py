"""Building blocks in batch-first (B, L, D) layout. Padded positions are kept at exactly zero by a mask (B, L, 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@torch.no_grad()
def store_by_column(module: nn.Module) -> None:
    """Turn how the weights of all Linear layers lie in memory, in place; shapes and values stay.

    A product of few rows then reads them in order: a denoising step takes a sixth less time on a CPU.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.weight.data = part.weight.t().contiguous().t()


def _pad(context: Tensor) -> int:
    """Tokens to add: a softmax over fewer than 16 numbers is ten times slower than one over 16 (AVX-512)."""
    return max(0, 16 - context.shape[1])


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


@dataclass(frozen=True)
class FoldedContext:
    """Keys and values of B contexts of S tokens, H heads, as matrices that queries of width W meet directly.

    x Wq K' + bq K' = x (Wq K') + (bq K') and (p V) Wo = p (V Wo), for every head.
    """

    into: Tensor  # (B, W, H S) Wq K' / sqrt(W / H)
    offset: Tensor  # (B, 1, H S) bq K' / sqrt(W / H), -inf where padded
    out_of: Tensor  # (B, H S, W) V Wo


@dataclass(frozen=True)
class PlainContext:
    """A context (B, S, C) and its mask (B, S) as they are: with gradient, folding would keep more for backward."""

    tokens: Tensor
    mask: Tensor


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

    def forward(self, x: Tensor, context: Tensor, key_mask: Tensor | None) -> Tensor:
        """(B, L, width); key_mask None: nothing is padded."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, L, D/H)
        k, v = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, H, L, S)
        if key_mask is not None:
            scores = scores.masked_fill(~key_mask[:, None, None, :], float("-inf"))
        return self.out((scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def context(self, tokens: Tensor, mask: Tensor) -> FoldedContext | PlainContext:
        """The context in the form that `attend` takes: folded where no gradient is wanted."""
        return PlainContext(tokens, mask) if torch.is_grad_enabled() else self.fold(tokens, mask)

    def fold(self, context: Tensor, key_mask: Tensor) -> FoldedContext:
        """A context that many queries will meet, multiplied into the projections on both its sides once."""
        context, key_mask = F.pad(context, (0, 0, 0, _pad(context))), F.pad(key_mask, (0, _pad(context)))
        k, v = self.key_value(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, S, D/H)
        k = k / k.shape[-1] ** 0.5
        query, bias = (p.unflatten(0, (self.heads, -1)) for p in (self.query.weight, self.query.bias))
        offset = (k @ bias[..., None])[..., 0].masked_fill(~key_mask[:, None], float("-inf"))  # (B, H, S)
        out = self.out.weight.t().unflatten(0, (self.heads, -1))  # (H, D/H, W)
        return FoldedContext((k @ query).flatten(1, 2).mT, offset.flatten(1)[:, None], (v @ out).flatten(1, 2))

    def attend(self, x: Tensor, folded: FoldedContext | PlainContext) -> Tensor:
        """What `forward` gives for x and the context; a folded one takes two products in place of six."""
        if isinstance(folded, PlainContext):
            return self(x, folded.tokens, folded.mask)
        scores = torch.baddbmm(folded.offset, x, folded.into)  # (B, L, H S)
        weights = scores.unflatten(-1, (self.heads, -1)).softmax(-1).flatten(2)
        return torch.baddbmm(self.out.bias, weights, folded.out_of)


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
