"""What a job tells about itself: metrics.jsonl in its work folder, one object a line, only ever appended.

Every row has "phase" (a key of PHASES), "done" (0-1 within the phase) and "seconds" since the start; figures stand
beside them. The page reads the file while it grows; afterwards it is part of the version, and its curves are drawn
from it alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"
MIN_VOTES = 5  # fewer tell nothing
PHASES = {  # phase: what the page calls it, and its usual share of the whole time
    "load": ("Loading the models", 0.20),
    "refine": ("Learning from the votes", 0.10),
    "align": ("Aligning the model", 0.66),
    "save": ("Saving the version", 0.04),
}


@dataclass
class Progress:
    """Writes the rows of one job; a context manager that keeps the file open."""

    folder: Path
    started: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Progress:
        self._file = (self.folder / FILE).open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def report(self, phase: str, done: float = 0.0, **figures: Any) -> float:
        """Append one row, which a reader sees at once; returns the seconds since the start."""
        seconds = round(time.monotonic() - self.started, 2)
        row = {"phase": phase, "done": round(done, 4), "seconds": seconds, **figures}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        return seconds


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The whole rows of a job's folder so far; none if there is no file, a line still being written is passed over."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def fraction(rows: Sequence[dict[str, Any]]) -> float:
    """How much of the whole is done, 0-1, as far as the rows tell."""
    if not rows:
        return 0.0
    last = rows[-1]
    phases = list(PHASES)
    before = sum(PHASES[phase][1] for phase in phases[: phases.index(last["phase"])])
    return min(1.0, before + PHASES[last["phase"]][1] * last["done"])
