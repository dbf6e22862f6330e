"""What was shown and answered, found again: by words of the prompt, model version, verdict and annotator, in pages.

A version can be asked for among pairs that were voted on only: before the vote nobody is to learn what a pair compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from core.preference.store import PairRecord, PreferenceStore, connect, current_votes
from core.preference.types import VERDICTS

UNANSWERED = "none"  # the verdict of a pair that nobody has voted on

_pairs = sa.table("pairs", *map(sa.column, ("id", "left_take", "right_take", "created")))
_takes = sa.table("takes", *map(sa.column, ("id", "prompt", "model_version")))


@dataclass(frozen=True)
class Search:
    """What a pair has to be like; what is empty asks for nothing. ValueError for a verdict that is none."""

    text: str = ""  # somewhere in the prompt, in capitals or not
    version: str = ""  # on either side, of a pair with a vote
    verdict: str = ""  # of a standing vote, or UNANSWERED
    annotator: str = ""  # of a standing vote; with `verdict`, of the same vote

    def __post_init__(self) -> None:
        if self.verdict and self.verdict not in (*VERDICTS, UNANSWERED):
            raise ValueError(f"verdict={self.verdict!r} is unknown. Choose one of {', '.join(VERDICTS)}, {UNANSWERED}.")


class Choices(NamedTuple):
    """What can be searched for, in alphabetical order."""

    versions: list[str]
    annotators: list[str]


class History:
    """Searches in the store's database. Thread-safe."""

    def __init__(self, store: PreferenceStore) -> None:
        self._store, self._engine = store, connect(store.database)

    def close(self) -> None:
        self._engine.dispose()

    def ids(self, search: Search) -> list[str]:
        """The ids of all pairs that are found, newest first."""
        query = _query(search).order_by(_pairs.c.created.desc(), _pairs.c.id)
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def page(self, search: Search, limit: int, offset: int = 0) -> tuple[list[PairRecord], int]:
        """Some of the pairs found, newest first, each with its standing votes; and how many there are in all."""
        ids = self.ids(search)
        return [self.record(pair_id) for pair_id in ids[offset : offset + limit]], len(ids)

    def record(self, pair_id: str) -> PairRecord:
        """One pair with its standing votes; ValueError if there is none."""
        return PairRecord(self._store.pair(pair_id), tuple(self._store.votes(pair_id)))

    def choices(self) -> Choices:
        """The versions of pairs that were voted on, and who voted."""
        c = current_votes.c
        sides = sa.union(sa.select(c.left_version), sa.select(c.right_version))
        with self._engine.connect() as connection:
            versions, annotators = connection.scalars(sides).all(), connection.scalars(sa.select(c.annotator)).all()
        return Choices(sorted(set(versions)), sorted(set(annotators)))


def _query(search: Search) -> sa.Select:
    """Ids of the pairs that are found."""
    left = _takes.alias("l")
    joined = _pairs.join(left, left.c.id == _pairs.c.left_take)
    query, vote = sa.select(_pairs.c.id).select_from(joined), _vote(search)
    if words := search.text.strip().lower():
        query = query.where(sa.func.lower(left.c.prompt).contains(words, autoescape=True))
    if search.verdict == UNANSWERED:
        return query.where(~sa.exists(sa.select(current_votes.c.id).where(current_votes.c.pair_id == _pairs.c.id)))
    return query if vote is None else query.where(sa.exists(vote))


def _vote(search: Search) -> sa.Select | None:
    """A standing vote on the pair as asked for; None if no such vote is asked for."""
    c = current_votes.c
    wanted = []
    if search.verdict:
        wanted.append(c.verdict == search.verdict)
    if search.annotator:
        wanted.append(c.annotator == search.annotator)
    if search.version:
        wanted.append(sa.or_(c.left_version == search.version, c.right_version == search.version))
    return sa.select(c.id).where(c.pair_id == _pairs.c.id, *wanted) if wanted else None
