"""Votes as training pairs: what stands in the store, beside what mining adds; source, weight and time are kept.

A click is a pair with target (1, 0), a tie one with (1/2, 1/2). "Both bad" names no winner, but both takes are worse
than the training motion of that prompt, where there is one. Skipped and undone votes are no pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.preference.store import PreferenceStore, VoteRow

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
    annotator: str  # empty for mined pairs
    created: datetime  # UTC


@dataclass(frozen=True)
class SourceWeights:
    """How much a pair of each source counts beside one click."""

    human: float = 1.0
    both_bad: float = 0.5  # such a vote makes two pairs
    mined: float = 0.1

    def __post_init__(self) -> None:
        for name in ("human", "both_bad", "mined"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative. Use 0 to leave a source out.")


class PairBuffer:
    """The store's standing votes as pairs, with mined pairs beside them. Reads the store at every call, keeps no copy.

    training_motion: prompt -> name of the stored training motion that it describes, or None.
    """

    def __init__(
        self,
        store: PreferenceStore,
        weights: SourceWeights | None = None,
        training_motion: Callable[[str], str | None] | None = None,
    ) -> None:
        self.store = store
        self.weights = weights or SourceWeights()
        self._training_motion = training_motion or (lambda prompt: None)
        self._mined: list[PreferencePair] = []

    def add_mined(self, pairs: Sequence[PreferencePair]) -> None:
        """Put mined pairs beside the votes; they live as long as the buffer."""
        self._mined += pairs

    def pairs(self, annotator: str | None = None) -> list[PreferencePair]:
        """All pairs, votes oldest first, then mined ones; of one annotator's votes, or of everyone's (None).

        A changed vote counts as its last value, an undone or skipped one not at all.
        """
        votes = [pair for row in self.store.vote_rows(annotator) for pair in self._of_vote(row)]
        return votes + self._mined

    def _of_vote(self, row: VoteRow) -> Iterator[PreferencePair]:
        if row.verdict == "both_bad":
            better = self._training_motion(row.prompt)
            for worse in (row.left_sha256, row.right_sha256) if better else ():
                yield self._pair(row, str(better), worse, "both_bad", self.weights.both_bad)
        elif row.verdict != "skip":
            left, right = row.left_sha256, row.right_sha256
            chosen, rejected = (right, left) if row.verdict == "right" else (left, right)
            yield self._pair(row, chosen, rejected, "human", self.weights.human)

    @staticmethod
    def _pair(row: VoteRow, chosen: str, rejected: str, source: Source, weight: float) -> PreferencePair:
        tie = row.verdict == "tie"
        return PreferencePair(row.prompt, chosen, rejected, source, tie, weight, row.annotator, row.created)
