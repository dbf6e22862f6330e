"""The judge: a text-motion evaluator that no alignment ever sees.

It shares nothing with the reward: recurrent instead of attentive, its own word embeddings instead of MiniLM, joint
positions and velocities instead of all features, the margin loss of the T2M evaluator (Guo et al. 2022) instead of
InfoNCE, near misses in every batch. Embeddings have no fixed length: distances are in units of a tenth of the margin.
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
    margin: float = 10.0  # distance from which on a mismatched pair costs nothing, T2M
    hardest: int = 16  # nearest mismatched motions of a text, and texts of a motion, that its loss looks at


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

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> word ids (B, W) and counts (B,); words outside the vocabulary are UNKNOWN."""
        rows = [[self._ids.get(w, UNKNOWN) for w in WORD.findall(t.lower())] or [UNKNOWN] for t in texts]
        size = max(map(len, rows))
        device = self.words.weight.device
        ids = torch.tensor([row + [PAD] * (size - len(row)) for row in rows], device=device)
        return ids, torch.tensor([len(row) for row in rows], device=device)

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units, frames (B,) -> embeddings (B, E)."""
        x = ((features - self.feature_mean) / self.feature_std)[..., _USED]
        x = x * length_mask(lengths, x.shape[1])[..., None]
        x = F.pad(x, (0, 0, 0, -x.shape[1] % STRIDE)).unflatten(1, (-1, STRIDE)).flatten(2)
        steps = (lengths + STRIDE - 1) // STRIDE
        return _summary(self.motion_gru, self.frames(x), steps, self.dropout, self.motion_out)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> embeddings (B, E)."""
        ids, counts = self.tokenize(texts)
        return _summary(self.text_gru, self.dropout(self.words(ids)), counts, self.dropout, self.text_out)

    def loss(self, motion: Tensor, text: Tensor, same: Tensor) -> Tensor:
        """Contrastive loss of embeddings (B, E), (B, E); same (B, B) bool marks every matching pair.

        Own pairs cost their squared distance d^2, mismatched ones max(0, margin - d)^2 (Hadsell et al. 2006; Guo et
        al. 2022), averaged over the `hardest` mismatches of every text and of every motion.
        """
        squared = torch.cdist(motion, text, compute_mode="donot_use_mm_for_euclid_dist").square()
        distance = (squared + 1e-6).sqrt()  # the square root of an exact 0 has no gradient
        apart = F.relu(self.config.margin - distance).square().masked_fill(same, 0.0)  # (B, B)
        count = min(self.config.hardest, len(same))
        mismatched = apart.topk(count, 0).values.mean() + apart.topk(count, 1).values.mean()
        return squared.diagonal().mean() + 0.5 * mismatched


def _summary(gru: nn.GRU, x: Tensor, lengths: Tensor, dropout: nn.Module, out: nn.Linear) -> Tensor:
    """Last states of both directions beside the mean over time, projected."""
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    states, last = gru(packed)
    states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    mean = states.sum(1) / lengths[:, None]
    h = torch.cat([last[0], last[1], mean], -1)  # (B, 4W)
    return out(dropout(h)).float()
