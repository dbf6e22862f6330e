"""Pairs that tell most about a taste: of several takes by both versions, the two whose comparison is least foregone.

The taste is learnt from the votes that stand, again whenever there are a tenth more; the reward that votes build on is
loaded at the first choice.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.learning.progress import MIN_VOTES
from core.models.checkpoint import load_reward
from core.preference.active import most_telling
from core.preference.head import PreferenceReward, motion_vectors, pad
from core.preference.pairs import vote_pairs
from core.preference.refine import RefineConfig, embed_motions, embed_prompts, learn_head

if TYPE_CHECKING:
    from core.preference.store import PreferenceStore
    from core.text.encoder import TextEncoder

_MOST_VOTES = 300  # the newest; more hardly change what is still unknown
_GROWTH = 10  # a head is learnt anew where a tenth more votes stand


@dataclass(frozen=True)
class _Taste:
    head: PreferenceReward
    votes: int  # that stood when it was learnt


class TellingPairs:
    """Chooses takes for annotators. Thread-safe."""

    def __init__(self, store: PreferenceStore, checkpoints: Path, reward: str, device: str) -> None:
        """reward: folder below checkpoints. Nothing is loaded yet."""
        self._store, self._folder, self._reward, self._device = store, checkpoints, reward, device
        self._lock = threading.Lock()
        self._tastes: dict[str | None, _Taste] = {}
        self._vectors: dict[str, Tensor] = {}

    def choose(
        self,
        prompt: str,
        ours: Sequence[np.ndarray],
        theirs: Sequence[np.ndarray],
        encoder: TextEncoder,
        annotator: str | None = None,
    ) -> tuple[int, int]:
        """(i, j): which of our takes (F, 263) to show beside which of theirs, all of one prompt.

        annotator: whose taste; None: everyone's. (0, 0) while there are too few votes to learn from.
        FileNotFoundError or ValueError, as load_reward raises.
        """
        with self._lock:
            head = self._head(annotator, encoder)
        if head is None:
            return 0, 0
        with torch.no_grad():
            vectors = motion_vectors(head.base, *pad([*ours, *theirs], self._device))
            words = embed_prompts(head.base, [prompt], encoder)[prompt].expand(len(vectors), -1)
            inputs = head.inputs(vectors, words)
        i, j = torch.cartesian_prod(torch.arange(len(ours)), torch.arange(len(ours), len(vectors))).T
        best, _ = most_telling(head, inputs[i], inputs[j])
        return int(i[best]), int(j[best]) - len(ours)

    def _head(self, annotator: str | None, encoder: TextEncoder) -> PreferenceReward | None:
        answers = self._store.answers_by_annotator()
        votes = sum(answers.values()) if annotator is None else answers.get(annotator, 0)
        known = self._tastes.get(annotator)
        if votes < MIN_VOTES or (known and known.votes <= votes < known.votes + max(1, known.votes // _GROWTH)):
            return known.head if known and votes >= MIN_VOTES else None
        base = known.head.base if known else load_reward(self._folder, self._device, self._reward)
        pairs = vote_pairs(self._store, annotator)[-_MOST_VOTES:]
        names = dict.fromkeys(name for pair in pairs for name in (pair.chosen_sha256, pair.rejected_sha256))
        fresh = [name for name in names if name not in self._vectors]
        self._vectors |= embed_motions(base, fresh, self._store.motions.load)
        words = embed_prompts(base, list(dict.fromkeys(pair.prompt for pair in pairs)), encoder)
        head, _ = learn_head(base, pairs, self._vectors, words, RefineConfig(annotator=annotator or ""))
        self._tastes[annotator] = _Taste(head, votes)
        return head
