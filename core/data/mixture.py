"""Several prepared sets as one: a small JSON file that names them, taken wherever an archive is.

    {"sets": {"bandai-namco.npz": 1.0, "bvh.npz": 3.0}}

Paths are relative to the JSON file. A weight is how often a set's training motions count; validation and test sets are
never weighted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.data.captioned import even_captions
from core.data.motion_set import MotionSet, join
from core.motion.files import atomic_write

SUFFIX = ".json"


def write_mixture(out: Path, archives: Sequence[Path], weights: Sequence[float] = ()) -> str:
    """Write the JSON file; returns a summary. Raises FileNotFoundError and ValueError for what can't be mixed."""
    weights = weights or (1.0,) * len(archives)
    if len(weights) != len(archives) or len(archives) < 2:
        raise ValueError(
            f"{len(archives)} archives and {len(weights)} weights: give two archives or more, one weight each."
        )
    if any(not 0.0 < w <= 100.0 for w in weights):
        raise ValueError(f"weights={tuple(weights)} must be above 0 and at most 100.")
    if out.suffix != SUFFIX:
        raise ValueError(f"{out} must end with {SUFFIX}: a mixture is a list of archives, not an archive.")
    for archive in archives:
        if not archive.is_file():
            raise FileNotFoundError(f"{archive} does not exist. Make it with `python -m core prepare`.")
    named = {_relative(a, out.parent): w for a, w in zip(archives, weights, strict=True)}
    atomic_write(out, lambda file: file.write(json.dumps({"sets": named}, indent=2).encode()))
    return f"{', '.join(f'{w:g} x {name}' for name, w in named.items())} -> {out}"


def _relative(archive: Path, folder: Path) -> str:
    archive, folder = archive.resolve(), folder.resolve()
    return str(archive.relative_to(folder)) if archive.is_relative_to(folder) else str(archive)


def read_mixture(path: Path) -> dict[Path, float]:
    """Archive -> weight; ValueError where the file is no mixture."""
    try:
        sets = json.loads(path.read_text())["sets"]
        return {path.parent / name: float(weight) for name, weight in sets.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no mixture ({error}). Make it with `python -m core prepare mix`.") from None


def mix(sets: Sequence[MotionSet], weights: Sequence[float]) -> MotionSet:
    """One set of several; a set of weight w gives w times its motions, the last round in an order drawn from a seed."""
    made = join([part.pick(_weighted(len(part), w)) for part, w in zip(sets, weights, strict=True)])
    return replace(made, captions=even_captions(made.captions))


def _weighted(count: int, weight: float) -> np.ndarray:
    """Indices 0 .. count-1, each floor(weight) times, and a share of them once more."""
    full, total = int(weight), round(count * weight)
    rest = np.random.default_rng(0).permutation(count)[: max(0, total - full * count)]
    return np.concatenate([np.tile(np.arange(count), full), np.sort(rest)]).astype(np.int64)
