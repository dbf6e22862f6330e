"""Runs that can be cancelled, without a page."""

from __future__ import annotations

import threading
import time

import pytest

from app.runs import CancelledError, Runs


def test_cancel_stops_only_the_own_run() -> None:
    """Prevents one visitor from stopping another's run."""
    runs = Runs()
    with runs.start("ada") as mine, runs.start("bob") as other:
        runs.cancel("ada")
        runs.cancel("nobody")
        with pytest.raises(CancelledError):
            mine.check()
        other.check()


def test_cancelled_while_waiting_for_the_models() -> None:
    """Prevents a Cancel that works only once the models are free, and models that stay taken."""
    runs = Runs()
    with runs.start("ada") as first, runs.turn(first), runs.start("bob") as second:
        threading.Timer(0.05, runs.cancel, ["bob"]).start()
        with pytest.raises(CancelledError), runs.turn(second):
            pass
    with runs.start("bob") as third, runs.turn(third):
        third.check()


def test_who_is_behind_gives_way() -> None:
    """Prevents a visitor who waits for a pair that nobody has asked for yet."""
    runs = Runs()
    with runs.start("ada") as ahead, runs.turn(ahead, behind=True), runs.start("bob") as asked:
        assert not runs.waiting
        seen: list[int] = []

        def look_then_cancel() -> None:
            while not runs.waiting:
                time.sleep(0.001)
            seen.append(runs.waiting)
            runs.cancel("bob")

        threading.Thread(target=look_then_cancel, daemon=True).start()
        with pytest.raises(CancelledError), runs.turn(asked):
            pass
        assert seen == [1] and not runs.waiting
    with runs.start("cleo") as first, runs.turn(first), runs.start("dan") as second:
        threading.Timer(0.05, runs.cancel, ["dan"]).start()
        with pytest.raises(CancelledError), runs.turn(second, behind=True):
            pass
