"""Who judges what next: a study's comparisons shared fairly over any number of annotators, on any number of servers.

Items are rows in the arena's database. An item is answered when the vote on its pair stands: there is no second truth,
and an undo opens the item again. Handing out takes the study's row lock (SQLite: the write lock), so two annotators
never count the same free place twice. A comparison goes to who has not seen it, the least handed out first; an item
left open for `ABANDONED_AFTER` no longer counts, so that others fill its place. Plan for some slack, more places among
the people than the comparisons need: the last free ones may be such that the last person has seen them already.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Literal, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.preference.store import connect, create_tables, current_votes, writing
from core.preference.studies import Study
from core.preference.types import check_annotator, now

ABANDONED_AFTER = timedelta(minutes=30)

_metadata = sa.MetaData()
_studies = sa.Table(
    "studies",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("definition", sa.Text, nullable=False),  # JSON
)
_items = sa.Table(
    "study_items",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("annotator", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("comparison", sa.Integer, nullable=False),
    sa.Column("swapped", sa.Boolean, nullable=False),
    sa.Column("pair_id", sa.Text),  # null until the pair is made
    sa.Column("issued", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("study", "annotator", "position"),
    sa.Index("study_items_by_comparison", "study", "comparison"),
)


@dataclass(frozen=True)
class Item:
    """What one annotator is to be shown: make or find this pair, attach it, let it be voted on."""

    id: int
    kind: Literal["comparison", "repeat", "check"]
    prompt: str
    seed: int
    left_version: str
    right_version: str  # the same as the left one in a check
    pair_id: str | None  # of the pair attached to it, None if none is yet


@dataclass(frozen=True)
class StudyProgress:
    """Where one annotator stands."""

    answered: int
    total: int  # including repeats and attention checks

    @property
    def done(self) -> bool:
        return self.answered >= self.total


class StudyQueue:
    """The queue of one study. Thread-safe; many processes may share the database."""

    def __init__(self, study: Study, database: str) -> None:
        """database: the SQLAlchemy URL of the arena's store, which must have been opened once.

        ValueError if the database can't be used, or the study was changed since its first item.
        """
        self.study, self._comparisons = study, study.comparisons()
        self._engine = connect(database)
        create_tables(self._engine, _metadata)
        self._register()

    def close(self) -> None:
        self._engine.dispose()

    def next_item(self, annotator: str, ahead: int = 0) -> Item | None:
        """The annotator's first open item, or the one `ahead` places after it, to prepare it meanwhile.

        The same until it is answered, also after a restart. None when there is nothing (more) for this annotator.
        """
        annotator = check_annotator(annotator)
        with writing(self._engine) as connection:
            self._lock(connection)
            rows = self._rows(connection, annotator)
            still_open = [row for row in rows if row.verdict is None]
            while len(still_open) <= ahead:
                row = self._hand_out(connection, annotator, rows)
                if row is None:
                    return None
                rows.append(row)
                still_open.append(row)
        return self._item(still_open[ahead])

    def attach(self, item_id: int, pair_id: str) -> str:
        """Tell which stored pair shows the item; returns the pair that counts, the first one attached."""
        with writing(self._engine) as connection:
            free = sa.and_(_items.c.id == item_id, _items.c.pair_id.is_(None))
            connection.execute(sa.update(_items).where(free).values(pair_id=pair_id))
            attached = connection.scalar(sa.select(_items.c.pair_id).where(_items.c.id == item_id))
        if attached is None:
            raise ValueError(f"item {item_id} is unknown. Ask for the next item first.")
        return str(attached)

    def progress(self, annotator: str) -> StudyProgress:
        """How many items of this annotator are answered, of how many."""
        annotator = check_annotator(annotator)
        with self._engine.connect() as connection:
            answered = [row for row in self._rows(connection, annotator) if row.verdict is not None]
        return StudyProgress(len(answered), len(self.study.schedule(annotator)))

    def _register(self) -> None:
        definition = json.dumps(asdict(self.study), sort_keys=True)
        try:
            with writing(self._engine) as connection:
                connection.execute(sa.insert(_studies).values(name=self.study.name, definition=definition))
        except IntegrityError:
            with self._engine.connect() as connection:
                stored = connection.scalar(sa.select(_studies.c.definition).where(_studies.c.name == self.study.name))
            if stored != definition:
                raise ValueError(
                    f"study {self.study.name!r} is under way with another definition. Undo the change, or rename it."
                ) from None

    def _lock(self, connection: sa.Connection) -> None:
        """One hand-out at a time; SQLite has locked the database already and knows no row locks."""
        connection.execute(sa.select(_studies.c.name).where(_studies.c.name == self.study.name).with_for_update())

    def _rows(self, connection: sa.Connection, annotator: str | None = None) -> list[sa.Row]:
        """Items with the verdict of the vote that stands on them, in order; of one annotator, or of all."""
        votes = current_votes.c
        same = sa.and_(votes.pair_id == _items.c.pair_id, votes.annotator == _items.c.annotator)
        query = sa.select(_items, votes.verdict).select_from(_items.outerjoin(current_votes, same))
        query = query.where(_items.c.study == self.study.name).order_by(_items.c.position)
        if annotator is not None:
            query = query.where(_items.c.annotator == annotator)
        return list(connection.execute(query))

    def _hand_out(self, connection: sa.Connection, annotator: str, rows: list[sa.Row]) -> sa.Row | None:
        """Store and return the next item after `rows`, or None if there is none."""
        schedule = self.study.schedule(annotator)
        if len(rows) >= len(schedule):
            return None
        kind = schedule[len(rows)]
        choose = {"comparison": self._comparison, "repeat": self._repeat, "check": self._check}[kind]
        chosen = choose(connection, annotator, rows)
        if chosen is None:
            return None
        values = {"study": self.study.name, "annotator": annotator, "position": len(rows), "kind": kind}
        values |= {"comparison": chosen[0], "swapped": chosen[1], "issued": now()}
        insert = sa.insert(_items).values(**values).returning(*_items.c, sa.null().label("verdict"))
        return connection.execute(insert).one()

    def _comparison(self, connection: sa.Connection, annotator: str, rows: list[sa.Row]) -> tuple[int, bool] | None:
        """An unseen comparison that is still wanted, the least handed out first, and its side."""
        taken, swaps = self._taken(connection)
        seen = {row.comparison for row in rows if row.kind == "comparison"}
        free = [i for i in range(len(taken)) if taken[i] < self.study.votes_per_pair and i not in seen]
        if not free:
            return None
        chosen = min(free, key=lambda i: (taken[i], self.study.draw(annotator, str(i))))
        return chosen, self._side(chosen, taken[chosen], swaps[chosen])

    def _taken(self, connection: sa.Connection) -> tuple[list[int], list[int]]:
        """For each comparison: how often it was handed out and counts, and how often of these swapped."""
        taken, swaps = [0] * len(self._comparisons), [0] * len(self._comparisons)
        for comparison, swapped, count in connection.execute(self._taken_query()):
            taken[comparison] += count
            swaps[comparison] += count if swapped else 0
        return taken, swaps

    def _taken_query(self) -> sa.Select:
        """Counts by comparison and side of the items that are answered (a skip is no answer) or not yet abandoned."""
        votes, c = current_votes.c, _items.c
        same = sa.and_(votes.pair_id == c.pair_id, votes.annotator == c.annotator)
        fresh = sa.and_(votes.verdict.is_(None), c.issued > now() - ABANDONED_AFTER)
        counts = sa.or_(fresh, votes.verdict != "skip")
        query = sa.select(c.comparison, c.swapped, sa.func.count()).select_from(_items.outerjoin(current_votes, same))
        query = query.where(c.study == self.study.name, c.kind == "comparison", counts)
        return query.group_by(c.comparison, c.swapped)

    def _side(self, comparison: int, taken: int, swaps: int) -> bool:
        """The side shown less often so far; where even, every other prompt begins swapped."""
        if 2 * swaps != taken:
            return 2 * swaps < taken
        prompt, versions = divmod(comparison, len(self._comparisons) // len(self.study.prompts))
        return bool((prompt + versions) % 2)

    def _repeat(self, _connection: sa.Connection, _annotator: str, rows: list[sa.Row]) -> tuple[int, bool] | None:
        """The oldest comparison of this annotator that was not repeated yet, sides swapped."""
        repeated = {row.comparison for row in rows if row.kind == "repeat"}
        first = (row for row in rows if row.kind == "comparison" and row.comparison not in repeated)
        return next(((row.comparison, not row.swapped) for row in first), None)

    def _check(self, _connection: sa.Connection, annotator: str, rows: list[sa.Row]) -> tuple[int, bool]:
        """Any comparison, of which one motion is shown twice; `swapped` tells which one."""
        draw = self.study.draw(annotator, "check", str(len(rows)))
        return int(draw * len(self._comparisons)), draw * len(self._comparisons) % 1.0 < 0.5

    def _item(self, row: sa.Row) -> Item:
        comparison = self._comparisons[row.comparison]
        left, right = (comparison.first, comparison.second)
        left, right = (right, left) if row.swapped else (left, right)
        right = left if row.kind == "check" else right
        kind = cast(Literal["comparison", "repeat", "check"], row.kind)
        return Item(row.id, kind, comparison.prompt, comparison.seed, left, right, row.pair_id)
