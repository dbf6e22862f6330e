"""Many motions at once: the files of core.exports for any number of pairs, in one zip with a table of what is what.

Like the single files, neither names nor table tell which model made a motion: the votes may be still to come. The
preference dataset (core.preference.dataset) tells it.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from core.exports import KINDS, LETTERS, export_pair
from core.motion.files import atomic_write
from core.motion.skeleton import FPS
from core.preference.types import Pair

if TYPE_CHECKING:
    from core.engine import Engine, Progress

INDEX = "index.csv"
_COLUMNS = ("file", "pair", "side", "prompt", "seed", "frames", "fps")


def zip_exports(
    engine: Engine, pair_ids: Sequence[str], kinds: Sequence[str], target: Path, progress: Progress | None = None
) -> Path:
    """Write the pairs' motions as each of `kinds` (keys of core.exports.KINDS) into the zip `target` and return it.

    ValueError for no pair, no kind, or an unknown one; UnavailableError where video can't be drawn. `progress` may
    raise.
    """
    if not pair_ids or not kinds:
        raise ValueError("There is nothing to export. Choose at least one pair and one format.")
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"kind={sorted(unknown)[0]!r} is unknown. Choose from {', '.join(KINDS)}.")

    def write(file: IO[bytes]) -> None:
        rows: list[tuple] = []
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for done, pair_id in enumerate(pair_ids):
                if progress is not None:
                    progress(done / len(pair_ids), f"Pair {done + 1} of {len(pair_ids)}")
                pair = engine.store.pair(pair_id)
                rows += [_add(archive, engine, pair, side, kind) for kind in kinds for side in _sides(kind)]
            archive.writestr(INDEX, _table(rows))

    atomic_write(target, write)
    return target


def _sides(kind: str) -> tuple[str, ...]:
    return ("left",) if KINDS[kind].both else tuple(LETTERS)


def _add(archive: zipfile.ZipFile, engine: Engine, pair: Pair, side: str, kind: str) -> tuple:
    """Put one file in and return its row."""
    path, take = export_pair(engine, pair, side, kind), pair.take(side)
    archive.write(path, path.name)
    letter = "A and B" if KINDS[kind].both else LETTERS[side]
    return path.name, pair.id, letter, take.prompt, take.seed, take.frames, FPS


def _table(rows: list[tuple]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([_COLUMNS, *rows])
    return text.getvalue()
