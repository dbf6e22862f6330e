"""One pair ahead for each visitor: made while they look at the present one, so that the next one is there at once.

It is kept in memory and stored only when it is shown. Whoever waits for the models goes first: a pair ahead is then
given up, and made in the ordinary way when it is asked for.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from concurrent.futures import CancelledError as NeverStartedError
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass, replace
from threading import Event, Lock

from app.runs import CancelledError, Run, Runs
from core.engine import Engine, Prepared
from core.request import Request, random_seed

log = logging.getLogger(__name__)

_MAX_VISITORS = 32  # a pair takes about half a megabyte
_LOOK_EVERY_S = 0.1
_PAUSE_S = 1.0  # first the page may draw the pair it has got


@dataclass(frozen=True)
class _Ahead:
    wanted: Request  # without its seed
    run: Run
    hurry: Event  # ends the pause
    made: Future[Prepared]


class Prefetch:
    """Pairs ahead by visitor. Thread-safe."""

    def __init__(self, engine: Engine, runs: Runs) -> None:
        self.engine, self.runs = engine, runs
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._ahead: OrderedDict[str, _Ahead] = OrderedDict()
        self._lock = Lock()

    def begin(self, visitor: str, request: Request) -> None:
        """Start making what the visitor will most likely ask for next: the same from other noise."""
        run, hurry = Run(), Event()
        made = self._worker.submit(self._make, replace(request, seed=random_seed()), run, hurry)
        ahead = _Ahead(replace(request, seed=None), run, hurry, made)
        with self._lock:
            dropped = [self._ahead.pop(visitor, None)]
            self._ahead[visitor] = ahead
            if len(self._ahead) > _MAX_VISITORS:
                dropped.append(self._ahead.popitem(last=False)[1])
        for old in filter(None, dropped):
            _give_up(old)

    def take(self, visitor: str, request: Request, run: Run) -> Prepared | None:
        """The pair ahead if it is what is asked for, seed aside; waits while it is being made. None if there is none.

        CancelledError if `run`, the visitor's own, is cancelled meanwhile.
        """
        with self._lock:
            ahead = self._ahead.pop(visitor, None)
        if ahead is None:
            return None
        if ahead.wanted != replace(request, seed=None) or not (ahead.made.running() or ahead.made.done()):
            _give_up(ahead)
            return None
        ahead.hurry.set()
        try:
            return self._fitting(_wait(ahead, run), request)
        except (CancelledError, NeverStartedError):
            _give_up(ahead)
            run.check()
            return None
        except Exception:
            log.warning("The pair ahead could not be made", exc_info=True)
            return None

    def _fitting(self, prepared: Prepared, request: Request) -> Prepared | None:
        """The pair, unless other versions are compared by now."""
        made_by = {prepared.pair.left.model_version, prepared.pair.right.model_version}
        return prepared if made_by == set(self.engine.versions.sides(request.annotator)) else None

    def _make(self, request: Request, run: Run, hurry: Event) -> Prepared:
        def report(_done: float, _what: str) -> None:
            run.check()
            if self.runs.waiting:
                raise CancelledError

        hurry.wait(_PAUSE_S)
        with self.runs.turn(run, behind=True):
            return self.engine.prepare(request, report)


def _give_up(ahead: _Ahead) -> None:
    ahead.run.cancelled.set()
    ahead.hurry.set()
    ahead.made.cancel()


def _wait(ahead: _Ahead, run: Run) -> Prepared:
    while True:
        run.check()
        try:
            return ahead.made.result(timeout=_LOOK_EVERY_S)
        except TimeoutError:
            continue
