"""Runs that can be cancelled: at most one for each browser tab, one at a time for the models."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_LOOK_EVERY_S = 0.1  # how often a waiting run looks whether it was cancelled


class CancelledError(Exception):
    """The visitor has cancelled the run."""


@dataclass(frozen=True)
class Run:
    """What a running handler asks whether it may go on."""

    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """CancelledError once the run has been cancelled."""
        if self.cancelled.is_set():
            raise CancelledError


class Runs:
    """The present runs by visitor. Thread-safe."""

    def __init__(self) -> None:
        self._by_visitor: dict[str, Run] = {}
        self._models = threading.Lock()

    @contextmanager
    def start(self, visitor: str) -> Iterator[Run]:
        """The visitor's run, until the block ends."""
        run = self._by_visitor[visitor] = Run()
        try:
            yield run
        finally:
            if self._by_visitor.get(visitor) is run:
                del self._by_visitor[visitor]

    def cancel(self, visitor: str) -> None:
        """Ask the visitor's run to stop; without one nothing happens."""
        run = self._by_visitor.get(visitor)
        if run is not None:
            run.cancelled.set()

    @contextmanager
    def turn(self, run: Run) -> Iterator[None]:
        """Wait until no other run holds the models; CancelledError if this one is cancelled meanwhile."""
        while not self._models.acquire(timeout=_LOOK_EVERY_S):
            run.check()
        try:
            run.check()
            yield
        finally:
            self._models.release()
