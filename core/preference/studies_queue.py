"""Who judges what next: a study's comparisons shared fairly over any number of annotators, on any number of servers.

Items are rows in the arena's database. An item is answered when the vote on its pair stands: there is no second truth,
and an undo opens the item again. Handing out takes the study's row lock (SQLite: the write lock), so two annotators
never count the same free place twice. Whoever comes n-th gets the n-th share of the study's plan, as far as it is still
wanted; then, and whoever comes after the last share, what is handed out least and not seen yet. An item left open for
`ABANDONED_AFTER` no longer counts, so that others fill its place; so does a skip. What people skip or leave needs more
people than the plan has shares.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.preference.store import connect, create_tables, vote_events, writing
from core.preference.studies import Study
from core.preference.types import NOISE, REAL, check_annotator, now

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
# made once: SQLAlchemy takes milliseconds for the columns of an alias, more than the database for the answer
_past, _last = vote_events.alias("past"), vote_events.alias("last")
_newest = (
    sa.select(sa.func.max(_past.c.id))
    .where(_past.c.pair_id == _items.c.pair_id, _past.c.annotator == _items.c.annotator)
    .correlate(_items)
    .scalar_subquery()
)
_with_last_event = _items.outerjoin(_last, _last.c.id == _newest)


@dataclass(frozen=True)
class Item:
    """What one annotator is to be shown: make or find this pair, attach it, let it be voted on."""

    id: int
    kind: Literal["comparison", "repeat", "check"]
    prompt: str
    seed: int
    left_version: str
    right_version: str  # in a check the same as the left one, or REAL and NOISE stand beside each other
    pair_id: str | None  # of the pair attached to it, None if none is yet
    verdict: str | None = None  # of the vote that stands on it


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
        self.study, self._comparisons, self._plan = study, study.comparisons(), study.plan()
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
        with self._engine.connect() as connection:
            still_open = [row for row in self._rows(connection, annotator) if row.verdict is None]
        if len(still_open) > ahead:  # no lock for what was handed out already
            return self._item(still_open[ahead])
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

    def items(self, annotator: str) -> list[Item]:
        """All items handed out to this annotator so far, in order."""
        with self._engine.connect() as connection:
            return [self._item(row) for row in self._rows(connection, check_annotator(annotator))]

    def item_of(self, annotator: str, pair_id: str) -> Item:
        """The annotator's item that this pair shows; ValueError if there is none."""
        for item in self.items(annotator):
            if item.pair_id == pair_id:
                return item
        raise ValueError(f"Pair {pair_id!r} was not given to {annotator!r}. Reload the page to see the next one.")

    def last_answered(self, annotator: str) -> Item | None:
        """The item whose standing vote is the annotator's newest one; None if there is none."""
        with self._engine.connect() as connection:
            rows = self._rows(connection, check_annotator(annotator))
        answered = [row for row in rows if row.verdict is not None]
        return self._item(max(answered, key=lambda row: row.event)) if answered else None

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

    def _rows(self, connection: sa.Connection, annotator: str) -> list[sa.Row]:
        """The annotator's items in order, each with its last event and the verdict of the vote that stands on it."""
        query = self._with_verdict(*_items.c).where(_items.c.annotator == annotator).order_by(_items.c.position)
        return list(connection.execute(query))

    def _with_verdict(self, *columns: sa.ColumnElement) -> sa.Select:
        """Columns of the study's items, `event` and `verdict`; both come from an index on the pair, however many votes.

        A verdict is null before the vote and after an undo.
        """
        found = sa.select(*columns, _last.c.id.label("event"), _last.c.verdict).select_from(_with_last_event)
        return found.where(_items.c.study == self.study.name)

    def _hand_out(self, connection: sa.Connection, annotator: str, rows: list[sa.Row]) -> sa.Row | None:
        """Store and return the next item after `rows`, or None if there is none."""
        choose = {"comparison": self._comparison, "repeat": self._repeat, "check": self._check}
        for kind in self._kinds_left(annotator, rows):
            if (chosen := choose[kind](connection, annotator, rows)) is not None:
                values = {"annotator": annotator, "position": len(rows), "kind": kind}
                return self._store_item(connection, values | {"comparison": chosen[0], "swapped": chosen[1]})
        return None

    def _store_item(self, connection: sa.Connection, values: dict[str, Any]) -> sa.Row:
        insert = (
            sa.insert(_items)
            .values(study=self.study.name, issued=now(), **values)
            .returning(*_items.c, sa.null().label("event"), sa.null().label("verdict"))
        )
        return connection.execute(insert).one()

    def _kinds_left(self, annotator: str, rows: list[sa.Row]) -> list[str]:
        """The kind that is due after `rows`, then, in case there is nothing of it, what else is still to come."""
        schedule = self.study.schedule(annotator)
        left = Counter(schedule) - Counter(row.kind for row in rows)
        return [kind for kind in dict.fromkeys((*schedule[len(rows) :], *left)) if left[kind]]

    def _comparison(self, connection: sa.Connection, annotator: str, rows: list[sa.Row]) -> tuple[int, bool] | None:
        """An unseen comparison that is still wanted, of the annotator's share if there is one, and its side."""
        taken, swaps = self._taken(connection)
        seen = {row.comparison for row in rows if row.kind == "comparison"}
        free = {i for i in range(len(taken)) if taken[i] < self.study.votes_per_pair and i not in seen}
        if not free:
            return None
        planned = (i for i in self._share(connection, rows) if i in free)
        least = min(free, key=lambda i: (taken[i], self.study.draw(annotator, str(i))))
        chosen = next(planned, least)
        return chosen, self._side(chosen, taken[chosen], swaps[chosen])

    def _share(self, connection: sa.Connection, rows: list[sa.Row]) -> list[int]:
        """The part of the plan for an annotator with these items; empty for those who come after the last one."""
        before = sa.select(sa.func.count()).where(_items.c.study == self.study.name, _items.c.position == 0)
        if rows:
            before = before.where(_items.c.id < rows[0].id)
        start = int(connection.scalar(before) or 0) * self.study.share
        return self._plan[start : start + self.study.share]

    def _taken(self, connection: sa.Connection) -> tuple[list[int], list[int]]:
        """For each comparison: how often it was handed out and counts, and how often of these swapped."""
        taken, swaps = [0] * len(self._comparisons), [0] * len(self._comparisons)
        for comparison, swapped, count in connection.execute(self._taken_query()):
            taken[comparison] += count
            swaps[comparison] += count if swapped else 0
        return taken, swaps

    def _taken_query(self) -> sa.Select:
        """Counts by comparison and side of the items that are answered (a skip is no answer) or not yet abandoned."""
        items = self._with_verdict(_items.c.comparison, _items.c.swapped, _items.c.issued)
        i = items.where(_items.c.kind == "comparison").subquery().c
        fresh = sa.and_(i.verdict.is_(None), i.issued > now() - ABANDONED_AFTER)
        query = sa.select(i.comparison, i.swapped, sa.func.count()).where(sa.or_(fresh, i.verdict != "skip"))
        return query.group_by(i.comparison, i.swapped)

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

    def _check(self, connection: sa.Connection, annotator: str, rows: list[sa.Row]) -> tuple[int, bool] | None:
        """Any comparison, of which one motion is shown twice, or any real motion (counted on after the comparisons).

        `swapped` tells which motion of the comparison, or which side of the real one. The two sorts take turns. None
        for a newcomer to whom no comparison is left.
        """
        if not rows and self._comparison(connection, annotator, rows) is None:
            return None
        draw = self.study.draw(annotator, "check", str(len(rows)))
        earlier = sum(row.kind == "check" for row in rows)
        if self.study.real_motions and earlier % 2 == 0:
            first, n = len(self._comparisons), len(self.study.real_motions)
        else:
            first, n = 0, len(self._comparisons)
        return first + int(draw * n), draw * n % 1.0 < 0.5

    def _item(self, row: sa.Row) -> Item:
        kind = cast(Literal["comparison", "repeat", "check"], row.kind)
        if row.comparison >= len(self._comparisons):
            real = self.study.real_motions[row.comparison - len(self._comparisons)]
            prompt, seed, left, right = real.prompt, 0, REAL, NOISE
        else:
            comparison = self._comparisons[row.comparison]
            prompt, seed, left, right = comparison.prompt, comparison.seed, comparison.first, comparison.second
        left, right = (right, left) if row.swapped else (left, right)
        right = left if kind == "check" and REAL not in (left, right) else right
        return Item(row.id, kind, prompt, seed, left, right, row.pair_id, row.verdict)
