"""The arena's memory: pairs, votes and motions, on SQLite (default) or PostgreSQL.

Votes are events that are only ever appended; undo is an event too. The view `current_votes` gives, for each pair and
annotator, the last vote that was not undone. So a second vote on a pair is no error: it is kept as a change, marked
`blind = false` because the names were shown after the first one.

Order of writing: motion files, then the pair that names them, then votes. Each call is one transaction of its own
(threads and processes may share the store), and returns only after the commit: SQLite runs in WAL mode with
synchronous=FULL, so what was acknowledged survives a kill and a power cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from core.preference.motions import MotionFiles
from core.preference.types import NOISE, Pair, Take, Vote, check_annotator, check_verdict, now

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 60.0  # how long a write waits for another process; a starved machine should wait, not fail

_metadata = sa.MetaData()
_COLUMN_TYPES = {"str": sa.Text, "int": sa.BigInteger, "float": sa.Float(53)}

_versions = sa.Table("schema_version", _metadata, sa.Column("version", sa.Integer, primary_key=True))

_takes = sa.Table(
    "takes",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(field.name, _COLUMN_TYPES[str(field.type)], nullable=False) for field in dataclasses.fields(Take)),
)

_pairs = sa.Table(
    "pairs",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("left_take", sa.ForeignKey("takes.id"), nullable=False),
    sa.Column("right_take", sa.ForeignKey("takes.id"), nullable=False),
    sa.Column("created", sa.DateTime(timezone=True), nullable=False, index=True),
)

vote_events = sa.Table(
    "vote_events",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, sa.CheckConstraint("kind IN ('vote', 'undo')"), nullable=False),
    sa.Column("pair_id", sa.ForeignKey("pairs.id"), nullable=False, index=True),
    sa.Column("annotator", sa.Text, nullable=False),
    sa.Column("verdict", sa.Text),  # null for undo
    sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    sa.Column("left_version", sa.Text, nullable=False),
    sa.Column("right_version", sa.Text, nullable=False),
    sa.Column("code_version", sa.Text, nullable=False),
    sa.Column("response_s", sa.Float(53)),
    sa.Column("blind", sa.Boolean, nullable=False),
)

_CURRENT_VOTES_SQL = """CREATE VIEW current_votes AS SELECT e.* FROM vote_events AS e
JOIN (SELECT MAX(id) AS id FROM vote_events GROUP BY pair_id, annotator) AS last_one ON e.id = last_one.id
WHERE e.kind = 'vote'"""
current_votes = sa.table("current_votes", *(sa.column(c.name, c.type) for c in vote_events.columns))


def _all_pairs() -> sa.Select:
    left, right = _takes.alias("left_take_row"), _takes.alias("right_take_row")
    columns = [_pairs.c.id, _pairs.c.created]
    for name, table in (("left", left), ("right", right)):
        columns += [table.c[field.name].label(f"{name}_{field.name}") for field in dataclasses.fields(Take)]
    joined = _pairs.join(left, _pairs.c.left_take == left.c.id).join(right, _pairs.c.right_take == right.c.id)
    return sa.select(*columns).select_from(joined)


_PAIRS = _all_pairs()  # made once: SQLAlchemy takes milliseconds for the columns of an alias


_left, _right = _takes.alias("l"), _takes.alias("r")
_voted_pairs = current_votes.join(_pairs, _pairs.c.id == current_votes.c.pair_id)
_voted_takes = _voted_pairs.join(_left, _left.c.id == _pairs.c.left_take).join(
    _right, _right.c.id == _pairs.c.right_take
)


def _judgements(*columns: Any) -> sa.Select:
    """Columns of the standing votes and their takes, attention checks aside."""
    no_check = [_left.c.motion_sha256 != _right.c.motion_sha256, _left.c.model_version != NOISE]
    return sa.select(*columns).select_from(_voted_takes).where(*no_check, _right.c.model_version != NOISE)


@dataclass(frozen=True)
class PairRecord:
    """A pair with its current votes, oldest first."""

    pair: Pair
    votes: tuple[Vote, ...]


class VoteRow(NamedTuple):
    """A standing vote with what learning needs of its pair: prompt and the motions' names."""

    prompt: str
    left_sha256: str
    right_sha256: str
    verdict: str
    annotator: str
    created: datetime  # UTC


class PreferenceStore:
    """Pairs and votes in a database, motions in files beside it. Thread-safe."""

    def __init__(self, data_dir: Path, database: str | None = None) -> None:
        """Open or create the store under data_dir; `database` is an SQLAlchemy URL, SQLite in data_dir if None.

        ValueError if the URL can't be used, or the database was written by a newer program.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        self.motions = MotionFiles(data_dir / "motions")
        self.database = database or default_database(data_dir)  # URL, for what stands in tables of its own beside it
        self._engine = connect(self.database)
        _prepare_schema(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    def save_motion(self, features: np.ndarray) -> str:
        """Write (F, 263) features to their file and return the hash to put into a Take."""
        return self.motions.save(features)

    def load_motion(self, take: Take) -> np.ndarray:
        """The stored features (F, 263) float32 of a take."""
        return self.motions.load(take.motion_sha256)

    def add_pair(self, pair: Pair) -> None:
        """Store a pair whose motion files exist; FileNotFoundError if one doesn't, ValueError if the id is taken."""
        for take in (pair.left, pair.right):
            if not self.motions.path(take.motion_sha256).exists():
                raise FileNotFoundError(f"Motion {take.motion_sha256} is not stored. Save it before its pair.")
        with writing(self._engine) as connection:
            if connection.scalar(sa.select(sa.literal(1)).where(_pairs.c.id == pair.id)):
                raise ValueError(f"Pair {pair.id} is already stored. Use a new id.")
            insert = sa.insert(_takes).returning(_takes.c.id)
            ids = [
                connection.execute(insert, dataclasses.asdict(take)).scalar_one() for take in (pair.left, pair.right)
            ]
            row = {"id": pair.id, "left_take": ids[0], "right_take": ids[1], "created": pair.created}
            connection.execute(sa.insert(_pairs).values(**row))

    def pair(self, pair_id: str) -> Pair:
        """The pair of this id; ValueError if there is none."""
        with self._engine.connect() as connection:
            return _read_pair(connection, pair_id)

    def pairs(self) -> list[Pair]:
        """All pairs, oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(_PAIRS.order_by(_pairs.c.created, _pairs.c.id))
            return [_pair(row) for row in rows]

    def record_vote(
        self,
        pair_id: str,
        verdict: str,
        annotator: str,
        code_version: str,
        response_s: float | None = None,
        hidden: bool | None = None,
        once: bool = False,
    ) -> Vote:
        """Append a vote and return it once it is committed. An earlier vote of the same annotator is superseded.

        hidden: whether the names were hidden; if not given, they were seen if this annotator has voted here before.
        once: where a vote of this annotator stands, return that one and append nothing, so that an answer sent twice
        counts once. ValueError for an unknown pair, verdict or a bad name.
        """
        verdict, annotator = check_verdict(verdict), check_annotator(annotator)
        with writing(self._engine) as connection:
            _lock_pair(connection, pair_id)
            pair = _read_pair(connection, pair_id)
            mine = sa.select(vote_events).where(vote_events.c.pair_id == pair_id, vote_events.c.annotator == annotator)
            last = connection.execute(mine.order_by(vote_events.c.id.desc()).limit(1)).first()
            if once and last is not None and last.kind == "vote":
                return _vote(last)
            vote = Vote(
                pair_id=pair_id,
                verdict=verdict,
                annotator=annotator,
                created=now(),
                left_version=pair.left.model_version,
                right_version=pair.right.model_version,
                code_version=code_version,
                response_s=response_s,
                blind=last is None if hidden is None else hidden,
            )
            connection.execute(sa.insert(vote_events).values(kind="vote", **dataclasses.asdict(vote)))
        return vote

    def undo_vote(self, pair_id: str, annotator: str) -> Vote:
        """Append an undo of the annotator's current vote on this pair; returns that vote, ValueError if none stands."""
        annotator = check_annotator(annotator)
        with writing(self._engine) as connection:
            _lock_pair(connection, pair_id)
            c = current_votes.c
            row = connection.execute(
                sa.select(current_votes).where(c.pair_id == pair_id, c.annotator == annotator)
            ).first()
            if row is None:
                raise ValueError(f"{annotator!r} has no vote on pair {pair_id!r} to undo. Vote first.")
            vote = _vote(row)
            values = dataclasses.asdict(vote) | {"kind": "undo", "verdict": None, "created": now(), "blind": False}
            connection.execute(sa.insert(vote_events).values(**values))
        return vote

    def votes(self, pair_id: str | None = None) -> list[Vote]:
        """The votes that stand, oldest first; of one pair, or of all."""
        query = sa.select(current_votes).order_by(current_votes.c.id)
        if pair_id is not None:
            query = query.where(current_votes.c.pair_id == pair_id)
        with self._engine.connect() as connection:
            return [_vote(row) for row in connection.execute(query)]

    def events(self) -> list[dict[str, Any]]:
        """All events, undos and superseded votes included, oldest first: the columns of vote_events by name."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(vote_events).order_by(vote_events.c.id)).mappings()
            return [{**row, "created": utc(row["created"])} for row in rows]

    def add_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Append events of another store, as `events` gave them; their pairs must be stored. New ids are given."""
        rows = [{key: value for key, value in event.items() if key != "id"} for event in events]
        with writing(self._engine) as connection:
            if rows:
                connection.execute(sa.insert(vote_events), rows)

    def recent(self, limit: int = 50, offset: int = 0) -> list[PairRecord]:
        """The newest pairs first, each with its standing votes."""
        query = _PAIRS.order_by(_pairs.c.created.desc(), _pairs.c.id).limit(limit).offset(offset)
        with self._engine.connect() as connection:
            pairs = [_pair(row) for row in connection.execute(query)]
            wanted = sa.select(current_votes).where(current_votes.c.pair_id.in_([pair.id for pair in pairs]))
            votes = [_vote(row) for row in connection.execute(wanted.order_by(current_votes.c.id))]
        return [PairRecord(pair, tuple(vote for vote in votes if vote.pair_id == pair.id)) for pair in pairs]

    def vote_rows(self, annotator: str | None = None) -> list[VoteRow]:
        """The standing votes with their motions, oldest first, attention checks aside; of one annotator, or of all."""
        left, right, c = _left.c, _right.c, current_votes.c
        columns = (left.prompt, left.motion_sha256, right.motion_sha256, c.verdict, c.annotator, c.created)
        query = _judgements(*columns).order_by(c.id)
        if annotator is not None:
            query = query.where(c.annotator == annotator)
        with self._engine.connect() as connection:
            return [VoteRow._make((*row[:-1], utc(row[-1]))) for row in connection.execute(query)]

    def counts(self) -> tuple[int, int]:
        """How many pairs and how many standing votes there are."""
        with self._engine.connect() as connection:
            pairs = connection.scalar(sa.select(sa.func.count()).select_from(_pairs))
            votes = connection.scalar(sa.select(sa.func.count()).select_from(current_votes))
        return int(pairs or 0), int(votes or 0)

    def answers_by_annotator(self) -> dict[str, int]:
        """Annotator -> vote_rows that tell which take is better, or that neither is; most diligent first."""
        c, number = current_votes.c, sa.func.count()
        query = _judgements(c.annotator, number).where(c.verdict.in_(("left", "right", "tie")))
        with self._engine.connect() as connection:
            rows = connection.execute(query.group_by(c.annotator).order_by(number.desc(), c.annotator))
            return {name: int(votes) for name, votes in rows}


def default_database(data_dir: Path) -> str:
    """URL of the SQLite file in data_dir, where no other database is named."""
    return f"sqlite:///{(data_dir / 'arena.db').resolve().as_posix()}"


def connect(url: str) -> sa.Engine:
    """An engine for an SQLAlchemy URL; SQLite is made durable. ValueError, password hidden, if it can't be used."""
    try:
        backend = sa.make_url(url).get_backend_name()
        if backend == "sqlite":
            engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
            event.listen(engine, "connect", _make_durable)
        else:
            engine = sa.create_engine(url, pool_pre_ping=True)
        engine.connect().close()
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, DBAPIError) as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise ValueError(
            f"The database {_without_password(url)} can't be opened ({reason}). "
            "Give a URL such as sqlite:///arena.db or postgresql+psycopg://user:password@host/arena."
        ) from error
    return engine


def _make_durable(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One write transaction. SQLite takes its write lock at once, so reads before the write see no stale state."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)


def _prepare_schema(engine: sa.Engine) -> None:
    """Create the tables at the first start; refuse a database of a newer program."""
    try:
        _create_schema(engine)
    except DBAPIError:  # another process may have created them between our look and our write
        _create_schema(engine)
    with engine.connect() as connection:
        found = connection.scalar(sa.select(sa.func.max(_versions.c.version)))
    if found != SCHEMA_VERSION:
        raise ValueError(
            f"The database has schema version {found}, this program knows {SCHEMA_VERSION}. "
            "Update the program, or choose another --database or --data-dir."
        )


def create_tables(engine: sa.Engine, tables: sa.MetaData) -> None:
    """Create what is missing of further tables beside the store's; safe where many processes start at once."""
    try:
        tables.create_all(engine)
    except DBAPIError:  # another process may have created them between our look and our write
        tables.create_all(engine)


def _create_schema(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        inspector = sa.inspect(connection)
        if inspector.has_table("schema_version"):
            return
        _metadata.create_all(connection)
        connection.execute(sa.text(_CURRENT_VOTES_SQL))
        connection.execute(sa.insert(_versions).values(version=SCHEMA_VERSION))


def _lock_pair(connection: sa.Connection, pair_id: str) -> None:
    """Events on one pair are written one after the other; SQLite has locked the database already."""
    connection.execute(sa.select(_pairs.c.id).where(_pairs.c.id == pair_id).with_for_update())


def _read_pair(connection: sa.Connection, pair_id: str) -> Pair:
    row = connection.execute(_PAIRS.where(_pairs.c.id == pair_id)).first()
    if row is None:
        raise ValueError(f"Pair {pair_id!r} is unknown. Generate a pair first, or copy its id from the library.")
    return _pair(row)


def _pair(row: sa.Row) -> Pair:
    left, right = (
        Take(**{field.name: getattr(row, f"{side}_{field.name}") for field in dataclasses.fields(Take)})
        for side in ("left", "right")
    )
    return Pair(id=row.id, left=left, right=right, created=utc(row.created))


def _vote(row: sa.Row) -> Vote:
    values: dict[str, Any] = {field.name: getattr(row, field.name) for field in dataclasses.fields(Vote)}
    values["created"] = utc(row.created)
    return Vote(**values)


def utc(moment: datetime) -> datetime:
    """SQLite forgets the time zone; all our times are UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
