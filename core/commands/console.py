"""What every command shows on the console: one progress line that rewrites itself, and how it ends."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from core import UnavailableError


def exit_code(work: Callable[[], object], resumes: bool = True) -> int:
    """Do the work, with a log on the console; 1 and one sentence for bad input, 130 when it was interrupted.

    resumes: whether the same command goes on where it was interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        work()
    except (ValueError, OSError, FloatingPointError, UnavailableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped" + "; run the same command again to go on where it left off" * resumes, file=sys.stderr)
        return 130
    return 0


class ProgressLine:
    """callback(step, total, info) for anything long; writes to stderr, at most ten times a second."""

    def __init__(self, what: str) -> None:
        self.what, self.shown = what, 0.0
        self.first: tuple[float, int] | None = None  # time and step of the first call: a resumed run starts late

    def __call__(self, step: int, total: int, info: Any = None) -> None:
        now = time.monotonic()
        self.first = began, at = self.first or (now, step)
        if now - self.shown < 0.1 and step < total:
            return
        self.shown = now
        left = f", {(now - began) / (step - at) * (total - step) / 60:.1f} min left" if step > at else ""
        values = {k: v for k, v in info.items() if isinstance(v, int | float)} if isinstance(info, dict) else {}
        details = "  ".join(f"{k} {v:.4g}" for k, v in values.items()) if isinstance(info, dict) else str(info or "")
        end = "\n" if step >= total or not sys.stderr.isatty() else "\r"
        sys.stderr.write(f"{self.what} {step}/{total}{left}  {details[:100]:<100}{end}")
        sys.stderr.flush()
