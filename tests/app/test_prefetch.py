"""The pair after the next, over tiny models: ready when asked for, never in the way, never stored unseen."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from app.prefetch import Prefetch
from app.runs import CancelledError, Run, Runs
from core.engine import Engine
from core.request import Request

REQUEST = Request("a person walks forward", duration_s=2.0, seed=5, steps=2)


def test_next_pair_is_the_same_from_other_noise_and_stored_when_shown(engine: Engine) -> None:
    """Prevents pairs in the history that nobody has seen, and another prompt's pair on the screen."""
    prefetch = Prefetch(engine, Runs())
    prefetch.begin("ada", REQUEST)
    time.sleep(0.1)
    assert prefetch.take("bob", REQUEST, Run()) is None
    prepared = prefetch.take("ada", replace(REQUEST, seed=77), Run())
    assert prepared and prepared.pair.left.prompt == REQUEST.prompt and prepared.pair.left.seed != REQUEST.seed
    assert engine.store.counts() == (0, 0) and prefetch.take("ada", REQUEST, Run()) is None
    pair = engine.keep(prepared)
    assert engine.store.pair(pair.id) == pair and len(engine.store.load_motion(pair.left)) == 40
    prefetch.begin("ada", REQUEST)
    assert prefetch.take("ada", replace(REQUEST, prompt="a person waves"), Run()) is None


def test_pair_ahead_waits_for_those_who_ask(engine: Engine) -> None:
    """Prevents a prefetch that holds up a visitor, and a cancelled visitor who goes on waiting."""
    runs = Runs()
    prefetch, asked = Prefetch(engine, runs), Run()
    with runs.turn(asked):
        prefetch.begin("ada", REQUEST)
        time.sleep(0.2)
        cancelled = Run()
        cancelled.cancelled.set()
        with pytest.raises(CancelledError):
            prefetch.take("ada", REQUEST, cancelled)
    prefetch.begin("ada", replace(REQUEST, steps=400))
    while not runs._models.locked():
        time.sleep(0.01)
    with runs.turn(asked):
        pass
    assert prefetch.take("ada", replace(REQUEST, steps=400), Run()) is None, "it did not give way"
