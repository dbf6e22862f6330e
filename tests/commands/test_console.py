"""The progress line of every command."""

from __future__ import annotations

import pytest

from core import UnavailableError
from core.commands import console


def test_time_left_counts_from_where_a_resumed_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Prevents steps of an earlier process from making this one look fast."""
    clock = iter([100.0, 160.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    report = console.ProgressLine("training")
    report(3200, 6000)
    report(3250, 6000, {"loss": 0.5})
    first, second = capsys.readouterr().err.splitlines()
    assert first.strip() == "training 3200/6000"
    assert second.strip() == "training 3250/6000, 55.0 min left  loss 0.5"  # 60 s for 50 steps, 2750 to go


def test_what_a_machine_cannot_do_is_a_sentence(capsys: pytest.CaptureFixture) -> None:
    """Prevents a traceback where there is no OpenGL, or models are not ready."""

    def work() -> None:
        raise UnavailableError("No OpenGL here.")

    assert console.exit_code(work) == 1
    assert capsys.readouterr().err.strip() == "error: No OpenGL here."
