"""Pairs to learn from: the votes that stand in a store, and beside them what mining adds, in one buffer.

A click is a pair with target (1, 0), a tie one with (1/2, 1/2). "Both bad" names no winner, but both takes are worse
than the training motion of that prompt, where there is one. Skipped and undone votes are no pairs. Every pair keeps
its source, weight and time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np

from core.preference.store import PreferenceStore, VoteRow
from core.preference.types import now

Source = Literal["human", "mined", "both_bad"]


@dataclass(frozen=True)
class PreferencePair:
    """Two motions of one prompt and which is better; of a tie neither is, the order then says nothing."""

    prompt: str
    chosen_sha256: str  # names of stored motions, see core.preference.motions
    rejected_sha256: str
    source: Source
    tie: bool
    weight: float  # of this pair's log-likelihood; 1 = one click
    annotator: str
    created: datetime  # UTC


@dataclass(frozen=True)
class SourceWeights:
    """How much a pair of each source counts beside one click."""

    human: float = 1.0
    both_bad: float = 0.5  # such a vote makes two pairs
    mined: float = 1.0  # how many meet a click in a batch is core.train.spl_task's to say

    def __post_init__(self) -> None:
        for name in ("human", "both_bad", "mined"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative. Use 0 to leave a source out.")


def vote_pairs(
    store: PreferenceStore,
    annotator: str | None = None,
    weights: SourceWeights | None = None,
    training_motion: Callable[[str], str | None] = lambda prompt: None,
) -> list[PreferencePair]:
    """The standing votes as pairs, oldest first; of one annotator, or of everyone (None).

    training_motion: prompt -> name of the stored training motion that it describes, or None.
    A changed vote counts as its last value, an undone or skipped one not at all.
    """
    weights = weights or SourceWeights()
    return [pair for row in store.vote_rows(annotator) for pair in _of_vote(row, weights, training_motion)]


def _of_vote(
    row: VoteRow, weights: SourceWeights, training_motion: Callable[[str], str | None]
) -> Iterator[PreferencePair]:
    if row.verdict == "both_bad":
        better = training_motion(row.prompt)
        for worse in (row.left_sha256, row.right_sha256) if better else ():
            yield _pair(row, str(better), worse, "both_bad", weights.both_bad)
    elif row.verdict != "skip":
        left, right = row.left_sha256, row.right_sha256
        chosen, rejected = (right, left) if row.verdict == "right" else (left, right)
        yield _pair(row, chosen, rejected, "human", weights.human)


def _pair(row: VoteRow, chosen: str, rejected: str, source: Source, weight: float) -> PreferencePair:
    return PreferencePair(
        row.prompt, chosen, rejected, source, row.verdict == "tie", weight, row.annotator, row.created
    )


@dataclass(frozen=True)
class RowPair:
    """Two motions of a set, by row, and which is better for a text of the chosen one; see PreferencePair."""

    chosen: int
    rejected: int
    source: Source
    tie: bool
    weight: float
    created: datetime  # UTC


@dataclass
class PairBuffer:
    """Pairs of one set of motions, whoever made them: votes stay, mined pairs give way to those mined next."""

    votes: list[RowPair] = field(default_factory=list)
    mined: list[RowPair] = field(default_factory=list)

    def renew_mined(self, rows: np.ndarray, weight: float) -> None:
        """Take what core.preference.mining.mine found, as rows (M, 2) of the set, in place of what was mined before."""
        moment = now()
        self.mined = [RowPair(chosen, rejected, "mined", False, weight, moment) for chosen, rejected in rows.tolist()]
