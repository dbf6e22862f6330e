"""Names for people in what leaves the arena: one for each person of an arena, the same in each of its exports.

A pseudonym is a hash of the name under a random key that only the arena's database holds. So people of two arenas whose
datasets are merged stay apart, and a later export finds the people of an earlier one again.
"""

from __future__ import annotations

import hashlib
import re
import secrets

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.preference.store import connect, create_tables, writing

_PSEUDONYM = re.compile(r"annotator-[0-9a-f]{10}")

_metadata = sa.MetaData()
_keys = sa.Table(
    "pseudonym_key",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # 1: there is one key
    sa.Column("key", sa.Text, nullable=False),
)


class Pseudonyms:
    """Callable, name -> pseudonym; a pseudonym, as imported from another arena, stays what it is."""

    def __init__(self, database: str) -> None:
        """database: the SQLAlchemy URL of the arena's store. Side effect: draws the arena's key where there is none."""
        engine = connect(database)
        create_tables(engine, _metadata)
        try:
            with writing(engine) as connection:
                connection.execute(sa.insert(_keys).values(id=1, key=secrets.token_hex(16)))
        except IntegrityError:
            pass  # drawn before
        with engine.connect() as connection:
            self._key = bytes.fromhex(str(connection.scalar(sa.select(_keys.c.key))))
        engine.dispose()

    def __call__(self, name: str) -> str:
        if _PSEUDONYM.fullmatch(name):
            return name
        return f"annotator-{hashlib.blake2b(name.encode(), key=self._key, digest_size=5).hexdigest()}"
