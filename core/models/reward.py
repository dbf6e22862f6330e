"""Text-motion reward: cosine of a motion and a text embedding, trained by InfoNCE (TMR, Petrovich et al. 2023).

Deterministic: means only, nothing is sampled. Differentiable with respect to the motion, frozen while a policy is
aligned. Negatives whose meaning is the same as the positive's are filtered by their meaning key.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.models.layers import EncoderLayer, length_mask, neighbours, sinusoid
from core.motion.skeleton import N_FEATURES
from core.text.features import TextFeatures, check_width

PATCH = 4  # frames per token of the motion side


@dataclass(frozen=True)
class RewardConfig:
    """Architecture of the reward model."""

    text_dim: int = 384
    width: int = 192
    heads: int = 4
    motion_layers: int = 4
    text_layers: int = 2
    embedding: int = 128
    dropout: float = 0.1
    temperature: float = 0.07  # InfoNCE


class TwoTowers(nn.Module):
    """Two transformers and a cosine; what a motion's tokens are made of is up to the subclass."""

    reads = "minilm"  # the text encoder whose features it knows

    def __init__(self, config: RewardConfig, inputs: int) -> None:
        """inputs: numbers that a token of a motion is made of."""
        super().__init__()
        self.config = config
        w = config.width
        self.motion_in = nn.Linear(inputs, w)
        self.motion_layers = _layers(config, config.motion_layers)
        self.motion_out = nn.Sequential(nn.LayerNorm(w), nn.Linear(w, config.embedding))
        self.text_in = nn.Linear(config.text_dim, w)
        self.text_layers = _layers(config, config.text_layers)
        self.text_out = nn.Sequential(nn.LayerNorm(w), nn.Linear(w, config.embedding))

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units, frames (B,) -> unit embeddings (B, E)."""
        raise NotImplementedError

    def _summary(self, h: Tensor, sizes: Tensor) -> Tensor:
        """Tokens (B, L, width) of a motion, of which sizes (B,) are real -> unit embeddings (B, E)."""
        mask = length_mask(sizes, h.shape[1])
        h = h + sinusoid(torch.arange(h.shape[1], device=h.device), self.config.width)
        for layer in self.motion_layers:
            h = layer(h, mask)
        return F.normalize(_masked_mean(self.motion_out(h), mask).float(), dim=-1)

    def embed_text(self, text: TextFeatures) -> Tensor:
        """Token features -> unit embeddings (B, E); ValueError for text of another encoder."""
        check_width(text, self.config.text_dim, self.reads)
        steps = torch.arange(text.tokens.shape[1], device=text.tokens.device)
        h = self.text_in(text.tokens) + sinusoid(steps, self.config.width)
        for layer in self.text_layers:
            h = layer(h, text.mask)
        return F.normalize(_masked_mean(self.text_out(h), text.mask).float(), dim=-1)

    def forward(self, features: Tensor, lengths: Tensor, text: TextFeatures) -> Tensor:
        """Reward (B,) in [-1, 1]: cosine similarity of motion i and text i."""
        return (self.embed_motion(features, lengths) * self.embed_text(text)).sum(-1)


class RewardModel(TwoTowers):
    """A motion's tokens are patches of its features; see the module docstring."""

    feature_mean: Tensor  # (263,) over the training set
    feature_std: Tensor  # (263,), one spread per group of features

    def __init__(self, config: RewardConfig) -> None:
        super().__init__(config, 3 * PATCH * N_FEATURES)
        self.register_buffer("feature_mean", torch.zeros(N_FEATURES))
        self.register_buffer("feature_std", torch.ones(N_FEATURES))

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units, frames (B,) -> unit embeddings (B, E)."""
        x = (features - self.feature_mean) / self.feature_std * length_mask(lengths, features.shape[1])[..., None]
        x = F.pad(x, (0, 0, 0, -x.shape[1] % PATCH)).unflatten(1, (-1, PATCH)).flatten(2)
        return self._summary(self.motion_in(neighbours(x)), (lengths + PATCH - 1) // PATCH)


def _layers(config: RewardConfig, n: int) -> nn.ModuleList:
    return nn.ModuleList(EncoderLayer(config.width, config.heads, config.dropout) for _ in range(n))


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    weight = mask[..., None].to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1)


def info_nce(motion: Tensor, text: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE of unit embeddings (B, E), (B, E); pairs with same[i, j] (i != j) are no negatives."""
    logits = motion @ text.T / temperature
    ignore = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    logits = logits.masked_fill(ignore, float("-inf"))
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
