"""The takes of a study on a shelf in the arena's database: made once, then the same for every annotator and server."""

from __future__ import annotations

import json
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.preference.store import connect, create_tables, writing
from core.preference.types import Take

_metadata = sa.MetaData()
_takes = sa.Table(
    "study_takes",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("take", sa.Text, nullable=False),  # JSON of the fields of Take
    sa.UniqueConstraint("study", "prompt", "version"),
)


class TakeShelf:
    """One take for each prompt and version of one study. Thread-safe; many processes may share the database."""

    def __init__(self, study: str, database: str) -> None:
        """database: the SQLAlchemy URL of the arena's store. ValueError if it can't be used."""
        self.study = study
        self._engine = connect(database)
        create_tables(self._engine, _metadata)

    def close(self) -> None:
        self._engine.dispose()

    def get(self, prompt: str, version: str) -> Take | None:
        """The take that counts; None if there is none yet."""
        c = _takes.c
        query = sa.select(c.take).where(c.study == self.study, c.prompt == prompt, c.version == version)
        with self._engine.connect() as connection:
            found = connection.scalar(query)
        return None if found is None else Take(**json.loads(found))

    def put(self, prompt: str, version: str, take: Take) -> Take:
        """Offer a take, whose motion is stored; returns the one that counts, the first one offered."""
        row = {"study": self.study, "prompt": prompt, "version": version, "take": json.dumps(asdict(take))}
        try:
            with writing(self._engine) as connection:
                connection.execute(sa.insert(_takes).values(**row))
        except IntegrityError:
            return self.get(prompt, version) or take
        return take
