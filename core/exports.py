"""Files that leave the house: video of a pair, and one motion in any format of core.formats.

File names carry the pair's id and the letter of the side, never the name of a model: the vote may be still to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.formats import FORMATS, Format
from core.motion.skeleton import FPS
from core.preference.types import Pair, Take

if TYPE_CHECKING:
    from core.engine import Engine, Progress

LETTERS = {"left": "A", "right": "B"}


@dataclass(frozen=True)
class Source:
    """What a writer draws from: a stored pair, one of its sides, and the engine that keeps both.

    ValueError for another side.
    """

    engine: Engine
    pair: Pair
    side: str  # "left" or "right"; writers of both sides leave it
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.pair.take(self.side)

    @property
    def take(self) -> Take:
        return self.pair.take(self.side)

    def features(self) -> np.ndarray:
        """(F, 263) float32 of the side."""
        return self.engine.store.load_motion(self.take)


@dataclass(frozen=True)
class Kind:
    """One sort of file: its button's word, the end of its name, who writes it, and whether it shows both sides."""

    label: str
    ending: str
    write: Callable[[Source, Path], object]
    both: bool = False


def export_pair(engine: Engine, pair: Pair, side: str, kind: str, progress: Progress | None = None) -> Path:
    """Write one export below data_dir/exports and return its path; an existing file is returned as it is.

    kind: a key of KINDS; "mp4" shows both bodies (side is ignored), "glb" is skinned and animated, "bvh" SMPL's
    skeleton, "npz" in AMASS layout, "npy" the features (F, 263) float32, "joints" (F, 22, 3) float32 metres.
    ValueError for another kind or side; UnavailableError where video can't be drawn.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown. Choose one of {', '.join(KINDS)}.")
    return write_export(Source(engine, pair, side, progress), KINDS[kind])


def write_export(source: Source, kind: Kind) -> Path:
    """As export_pair, for a kind that need not stand in KINDS. Writers must write all or nothing (atomic_write)."""
    letter = "" if kind.both else f"-{LETTERS[source.side]}"
    path = source.engine.settings.data_dir / "exports" / f"arena-{source.pair.id}{letter}{kind.ending}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        kind.write(source, path)
    return path


def _write_format(form: Format, source: Source, path: Path) -> None:
    form.write(path, source.features(), source.engine.body())


def _write_video(source: Source, path: Path) -> None:
    from core.body.skinning import ground_offset, skin
    from core.render.video import render_pair_mp4

    body, progress = source.engine.body(), source.progress
    lift = np.array([0.0, ground_offset(body), 0.0], np.float32)  # soles, not foot joints, on the floor
    takes = (source.pair.left, source.pair.right)
    left, right = (skin(body, *source.engine.poses(take)) + lift for take in takes)

    def report(step: int, total: int) -> None:
        if progress is not None:
            progress(step / total, f"Drawing frame {step} of {total}")

    render_pair_mp4(path, left, right, body.faces, FPS, progress=report)


KINDS = {
    "mp4": Kind("MP4", ".mp4", _write_video, both=True),
    **{key: Kind(form.label, form.ending, partial(_write_format, form)) for key, form in FORMATS.items()},
}  # a new kind is one line here, or in core.formats: the page offers whatever stands in this table
