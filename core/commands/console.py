"""What every command shows on the console: one progress line that rewrites itself, values beside it."""

from __future__ import annotations

import sys
import time
from typing import Any


class ProgressLine:
    """callback(step, total, info) for anything long; writes to stderr, at most ten times a second."""

    def __init__(self, what: str) -> None:
        self.what, self.started, self.shown = what, time.monotonic(), 0.0

    def __call__(self, step: int, total: int, info: Any = None) -> None:
        now = time.monotonic()
        if now - self.shown < 0.1 and step < total:
            return
        self.shown = now
        left = (now - self.started) / max(1, step) * (total - step)
        values = {k: v for k, v in info.items() if isinstance(v, int | float)} if isinstance(info, dict) else {}
        details = "  ".join(f"{k} {v:.4g}" for k, v in values.items()) if isinstance(info, dict) else str(info or "")
        end = "\n" if step >= total or not sys.stderr.isatty() else "\r"
        sys.stderr.write(f"{self.what} {step}/{total}, {left / 60:.1f} min left  {details[:100]:<100}{end}")
        sys.stderr.flush()
