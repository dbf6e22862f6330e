"""Latent denoiser: a transformer over latents (B, L, D) with cross-attention to text tokens and AdaLN on the timestep.

Predicts the clean latent x0 (prediction_type "sample"). It departs from MLD's skip transformer in three ways that pay
at this data size: text meets every latent by cross-attention, the timestep modulates every layer (Peebles & Xie 2023,
one shared modulation with per-layer offsets as in PixArt-alpha), and each latent knows how far it is from both ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from core.models.layers import Attention, FoldedContext, PlainContext, length_mask, sinusoid
from core.text.encoder import TextFeatures


@dataclass(frozen=True)
class DenoiserConfig:
    """Architecture of the latent denoiser."""

    latent_dim: int = 32  # D, as the VAE's
    text_dim: int = 384  # width of the text encoder's tokens (MiniLM)
    width: int = 256
    layers: int = 8
    heads: int = 4


@dataclass(frozen=True)
class Prepared:
    """What stays the same over all steps of a rollout of B rows: texts, lengths and weights, not x_t and t."""

    mask: Tensor  # (B, L) True at real latents
    full: bool  # no latent is padded
    position: Tensor  # (B, L, W)
    pooled: Tensor  # (B, W)
    words: list[FoldedContext | PlainContext]  # of every layer


class DenoiserLayer(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward; shift, scale and gate from the timestep."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        w = config.width
        self.self_attention = Attention(w, config.heads)
        self.cross_attention = Attention(w, config.heads, config.width)
        self.feed_forward = nn.Sequential(nn.Linear(w, 4 * w), nn.GELU(approximate="tanh"), nn.Linear(4 * w, w))
        self.norm1 = nn.LayerNorm(w, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(w)
        self.norm3 = nn.LayerNorm(w, elementwise_affine=False)
        self.modulation = nn.Parameter(torch.randn(6 * w) / w**0.5 * 0.1)

    def forward(self, x: Tensor, mask: Tensor | None, text: FoldedContext | PlainContext, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (condition + self.modulation)[:, None].chunk(6, -1)
        h = torch.addcmul(shift1, self.norm1(x), 1 + scale1)
        x = torch.addcmul(x, gate1, self.self_attention(h, h, mask))
        x = x + self.cross_attention.attend(self.norm2(x), text)
        h = torch.addcmul(shift2, self.norm3(x), 1 + scale2)
        return torch.addcmul(x, gate2, self.feed_forward(h))


class Denoiser(nn.Module):
    """x_t (B, L, D), timesteps (B,), text, latent lengths (B,) -> clean latents x0_hat (B, L, D), padded ones zero."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.input = nn.Linear(config.latent_dim, w)
        self.position = nn.Linear(2 * w, w)
        self.time = nn.Sequential(nn.Linear(w, w), nn.SiLU(), nn.Linear(w, w))
        self.text = nn.Sequential(nn.Linear(config.text_dim, w), nn.LayerNorm(w))
        self.pooled_text = nn.Linear(config.text_dim, w)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(w, 6 * w))
        self.layers = nn.ModuleList(DenoiserLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(w)
        self.output = nn.Linear(w, config.latent_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x_t: Tensor, t: Tensor, text: TextFeatures, lengths: Tensor) -> Tensor:
        return self.step(x_t, t, self.prepare(text, lengths, x_t.shape[1]))

    def prepare(self, text: TextFeatures, lengths: Tensor, size: int) -> Prepared:
        """What does not depend on x_t and t; size: L of the latents to come."""
        mask = length_mask(lengths, size)  # (B, L)
        steps = torch.arange(size, device=lengths.device).expand(len(lengths), -1)
        w = self.config.width
        ends = torch.cat([sinusoid(steps, w), sinusoid(lengths[:, None] - steps, w)], -1)  # (B, L, 2W)
        tokens = self.text(text.tokens)
        layers = cast(Iterable[DenoiserLayer], self.layers)
        words = [layer.cross_attention.context(tokens, text.mask) for layer in layers]
        return Prepared(mask, bool(mask.all()), self.position(ends), self.pooled_text(text.pooled), words)

    def step(self, x_t: Tensor, t: Tensor, p: Prepared) -> Tensor:
        """Clean latents x0_hat (B, L, D) of x_t (B, L, D) at timesteps t (B,)."""
        x = self.input(x_t) + p.position
        condition = self.time(sinusoid(t, self.config.width)) + p.pooled
        condition = self.modulation(condition)  # (B, 6W)
        keys = None if p.full else p.mask
        for layer, words in zip(self.layers, p.words, strict=True):
            x = layer(x, keys, words, condition)
        return self.output(self.norm(x)).float() * p.mask[..., None]
