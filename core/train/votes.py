"""Votes of an arena as a set to train on: the motions voted on, and the pairs that the votes make of them."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.data.captioned import meaning_of
from core.data.motion_set import MotionSet
from core.preference.pairs import PreferencePair, RowPair, SourceWeights, vote_pairs
from core.preference.store import PreferenceStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VotedSet:
    """motions: each with its prompt as the only caption; pairs: rows of them."""

    motions: MotionSet
    pairs: tuple[RowPair, ...]

    @property
    def digest(self) -> str:
        """The same for the same votes."""
        return hashlib.sha256(repr(self.pairs).encode()).hexdigest()[:8]


def load_votes(folder: Path, database: str | None, train: MotionSet, weights: SourceWeights) -> VotedSet:
    """The standing votes of everyone. folder: an arena's data; database: SQLAlchemy URL, SQLite in it if None.

    Where a prompt is a caption of `train`, "both bad" sets that motion above both takes. Its features have train's
    dtype. FileNotFoundError where there is no such folder, or naming the file of a motion that is missing; ValueError
    where no vote makes a pair. Side effect: stores the motions of `train` that such votes name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist. Give --votes the data folder of an arena.")
    store = PreferenceStore(folder, database)
    row_of = {caption: i for i, captions in enumerate(train.captions) for caption in captions}

    def training_motion(prompt: str) -> str | None:
        return store.save_motion(train.motion(row_of[prompt])) if prompt in row_of else None

    try:
        pairs = vote_pairs(store, None, weights, training_motion)
        if not pairs:
            raise ValueError(f"There is no vote in {folder} to learn from. Vote on the page, or leave out --votes.")
        log.info("learning from %d pairs of votes", len(pairs))
        return _voted_set(pairs, store, train.features.dtype)
    finally:
        store.close()


def _voted_set(pairs: list[PreferencePair], store: PreferenceStore, dtype: np.dtype) -> VotedSet:
    named = dict.fromkeys((p.prompt, name) for p in pairs for name in (p.chosen_sha256, p.rejected_sha256))
    row_of = {key: row for row, key in enumerate(named)}
    features = [store.motions.load(name).astype(dtype) for _, name in named]
    prompts = tuple(prompt for prompt, _ in named)
    motions = MotionSet(
        np.concatenate(features),
        np.cumsum([0, *map(len, features)]),
        tuple((prompt,) for prompt in prompts),
        prompts,
        tuple(map(meaning_of, prompts)),
    )
    return VotedSet(motions, tuple(_by_row(pair, row_of) for pair in pairs))


def _by_row(pair: PreferencePair, row_of: dict[tuple[str, str], int]) -> RowPair:
    chosen, rejected = (row_of[pair.prompt, name] for name in (pair.chosen_sha256, pair.rejected_sha256))
    return RowPair(chosen, rejected, pair.source, pair.tie, pair.weight, pair.created)
