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
        self._count = threading.Lock()
        self.waiting = 0  # runs that wait for the models, those behind aside

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
    def turn(self, run: Run, behind: bool = False) -> Iterator[None]:
        """Wait until no other run holds the models; CancelledError if this one is cancelled meanwhile.

        A run `behind` takes only what nobody waits for, and should end when `waiting` is above 0.
        """
        self._wait(run, behind)
        try:
            run.check()
            yield
        finally:
            self._models.release()

    def _wait(self, run: Run, behind: bool) -> None:
        self._add_waiting(0 if behind else 1)
        try:
            while (behind and self.waiting) or not self._models.acquire(timeout=_LOOK_EVERY_S):
                run.check()
                if behind and self.waiting:
                    raise CancelledError
        finally:
            self._add_waiting(0 if behind else -1)

    def _add_waiting(self, number: int) -> None:
        with self._count:
            self.waiting += number
