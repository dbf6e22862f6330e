"""What people have chosen on the Learn tab: versions to compare, one taste or many, when to learn by itself.

One small file beside the versions, replaced atomically; who changes it holds its lock, so that a job that ends and a
visitor who clicks don't undo each other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from core.motion.files import atomic_write

log = logging.getLogger(__name__)

FILE = "choices.json"
EVERY = (0, 10, 25, 50)  # votes after which learning may start by itself; 0 = never
_LOCK_WAIT_S = 10.0  # changing takes milliseconds
Sides = tuple[str, str]  # (baseline, candidate) that the arena compares; the candidate is the version in use


@dataclass(frozen=True)
class Choices:
    """shared: sides of all who have none of their own. own: annotator -> sides; they count while tastes are apart."""

    shared: Sides
    own: Mapping[str, Sides] = field(default_factory=dict)
    apart: bool = False  # a reward head, versions and sides for each annotator, instead of one for all
    every: int = 0  # one of EVERY

    def sides(self, annotator: str = "") -> Sides:
        """What this annotator compares."""
        return self.own.get(annotator, self.shared) if self.apart else self.shared

    def with_sides(self, sides: Sides, annotator: str = "") -> Choices:
        """The same with other sides for this annotator, or for all."""
        if self.apart and annotator:
            return replace(self, own={**self.own, annotator: sides})
        return replace(self, shared=sides)


def read_choices(folder: Path, default: Sides) -> Choices:
    """The choices kept in a folder; the default sides where there are none, or the file is damaged."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8"))
        own = {str(name): _sides(sides) for name, sides in kept["own"].items()}
        return Choices(_sides(kept["shared"]), own, bool(kept["apart"]), int(kept["every"]))
    except FileNotFoundError:
        return Choices(default)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("%s is damaged (%s)", folder / FILE, error)
        return Choices(default)


def change_choices(folder: Path, default: Sides, change: Callable[[Choices], Choices]) -> None:
    """Replace the choices kept in a folder by what `change` makes of them; nobody else changes them meanwhile."""
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".choices.lock", timeout=_LOCK_WAIT_S):
        kept = json.dumps(asdict(change(read_choices(folder, default))))
        atomic_write(folder / FILE, lambda file: file.write(kept.encode()))


def _sides(value: object) -> Sides:
    baseline, candidate = value  # type: ignore[misc]
    return str(baseline), str(candidate)
