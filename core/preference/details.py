"""What a vote may say beyond its verdict: an answer to each criterion, a comment, how often the motions were played.

A table of its own in the arena's database, appended like the votes; the last entry of an annotator on a pair stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from core.preference.store import connect, create_tables, utc, writing
from core.preference.types import check_annotator, check_verdict, now

MAX_COMMENT_LETTERS = 2000

_metadata = sa.MetaData()
_details = sa.Table(
    "vote_details",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pair_id", sa.Text, nullable=False, index=True),
    sa.Column("annotator", sa.Text, nullable=False),
    sa.Column("criteria", sa.Text, nullable=False),  # JSON object, criterion -> verdict
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("plays", sa.Integer),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True)
class VoteDetails:
    """One entry. ValueError for a verdict that is none, or a comment that is too long."""

    pair_id: str
    annotator: str
    criteria: Mapping[str, str] = field(default_factory=dict)  # criterion -> verdict
    comment: str = ""
    plays: int | None = None  # how often the motions ran from the start; None if unknown
    created: datetime = field(default_factory=now)  # UTC

    def __post_init__(self) -> None:
        check_annotator(self.annotator)
        for verdict in self.criteria.values():
            check_verdict(verdict)
        if len(self.comment) > MAX_COMMENT_LETTERS:
            raise ValueError(f"The comment has {len(self.comment)} letters, at most {MAX_COMMENT_LETTERS} are kept.")


class DetailStore:
    """The details of votes. Thread-safe."""

    def __init__(self, database: str) -> None:
        """database: the SQLAlchemy URL of the arena's store. ValueError if it can't be used."""
        self._engine = connect(database)
        create_tables(self._engine, _metadata)

    def close(self) -> None:
        self._engine.dispose()

    def record(self, *entries: VoteDetails) -> None:
        """Append; returns when all are committed."""
        rows = [{**vars(entry), "criteria": json.dumps(dict(entry.criteria))} for entry in entries]
        if rows:
            with writing(self._engine) as connection:
                connection.execute(sa.insert(_details), rows)

    def standing(self) -> list[VoteDetails]:
        """The last entry of each annotator on each pair, oldest first."""
        last = sa.select(sa.func.max(_details.c.id)).group_by(_details.c.pair_id, _details.c.annotator)
        query = sa.select(_details).where(_details.c.id.in_(last)).order_by(_details.c.id)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            VoteDetails(r.pair_id, r.annotator, json.loads(r.criteria), r.comment, r.plays, utc(r.created))
            for r in rows
        ]
