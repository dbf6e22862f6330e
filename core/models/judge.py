"""The judge: a text-motion evaluator that no alignment ever sees.

It shares nothing with the reward: recurrent instead of attentive, its own word embeddings instead of MiniLM, joint
positions and velocities instead of all features, a pairwise sigmoid loss (Zhai et al. 2023) instead of InfoNCE.
Embeddings have unit length, so MM-Dist lies in [0, 2].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.models.layers import length_mask
from core.motion.skeleton import N_FEATURES

_USED = [*range(0, 67), *range(193, 263)]  # root, positions, velocities, contacts: everything but rotations
STRIDE = 4  # frames per step of the recurrent network
WORD = re.compile(r"[a-z]+")
PAD, UNKNOWN = 0, 1


@dataclass(frozen=True)
class JudgeConfig:
    """Architecture of the judge; words is its vocabulary, in the order of their ids from 2 on."""

    words: tuple[str, ...]
    word_dim: int = 96
    width: int = 192
    embedding: int = 128
    dropout: float = 0.15


class Judge(nn.Module):
    """Two bidirectional GRUs; see the module docstring."""

    feature_mean: Tensor  # (263,) over the training set
    feature_std: Tensor  # (263,), one spread per group of features

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self._ids = {word: i + 2 for i, word in enumerate(config.words)}
        self.register_buffer("feature_mean", torch.zeros(N_FEATURES))
        self.register_buffer("feature_std", torch.ones(N_FEATURES))
        self.frames = nn.Sequential(
            nn.Linear(STRIDE * len(_USED), w), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(w, w)
        )
        self.motion_gru = nn.GRU(w, w, batch_first=True, bidirectional=True)
        self.motion_out = nn.Linear(4 * w, config.embedding)
        self.words = nn.Embedding(len(config.words) + 2, config.word_dim, padding_idx=PAD)
        self.text_gru = nn.GRU(config.word_dim, w, batch_first=True, bidirectional=True)
        self.text_out = nn.Linear(4 * w, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-5.0))

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> word ids (B, W) and counts (B,); words outside the vocabulary are UNKNOWN."""
        rows = [[self._ids.get(w, UNKNOWN) for w in WORD.findall(t.lower())] or [UNKNOWN] for t in texts]
        size = max(map(len, rows))
        device = self.words.weight.device
        ids = torch.tensor([row + [PAD] * (size - len(row)) for row in rows], device=device)
        return ids, torch.tensor([len(row) for row in rows], device=device)

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units, frames (B,) -> unit embeddings (B, E)."""
        x = ((features - self.feature_mean) / self.feature_std)[..., _USED]
        x = x * length_mask(lengths, x.shape[1])[..., None]
        x = F.pad(x, (0, 0, 0, -x.shape[1] % STRIDE)).unflatten(1, (-1, STRIDE)).flatten(2)
        steps = (lengths + STRIDE - 1) // STRIDE
        return _summary(self.motion_gru, self.frames(x), steps, self.dropout, self.motion_out)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> unit embeddings (B, E)."""
        ids, counts = self.tokenize(texts)
        return _summary(self.text_gru, self.dropout(self.words(ids)), counts, self.dropout, self.text_out)

    def loss(self, motion: Tensor, text: Tensor, same: Tensor) -> Tensor:
        """Pairwise sigmoid loss of unit embeddings; same (B, B) bool marks every matching pair."""
        logits = motion @ text.T * self.log_scale.exp() + self.bias
        return -F.logsigmoid(torch.where(same, logits, -logits)).sum() / len(logits)


def _summary(gru: nn.GRU, x: Tensor, lengths: Tensor, dropout: nn.Module, out: nn.Linear) -> Tensor:
    """Last states of both directions beside the mean over time, projected to unit length."""
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, last = gru(packed)
    states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    mean = states.sum(1) / lengths[:, None]
    h = torch.cat([last[0], last[1], mean], -1)  # (B, 4W)
    return F.normalize(out(dropout(h)).float(), dim=-1)
