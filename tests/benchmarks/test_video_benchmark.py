"""The benchmark of videos: it must keep running, also where nothing can be drawn."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.video import Watch, main


def test_smoke_run_measures_or_says_why_not(
    tiny_checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a benchmark that nobody can run, and a traceback on a machine without OpenGL."""
    out = tmp_path / "video.json"
    code = main(["--frames", "40", "--repeats", "1", "--checkpoints", str(tiny_checkpoints), "--out", str(out)])
    printed = capsys.readouterr()
    if code:
        assert "3D video needs an OpenGL driver" in printed.err and not out.exists()
        return
    assert json.loads(out.read_text())["seconds"]["MP4 of the pair"][0] > 0
    assert "| 40 frames, 960x480;" in printed.out


def test_missing_models_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a video of random weights."""
    assert main(["--checkpoints", str(tmp_path), "--out", str(tmp_path / "v.json")]) == 1
    assert "is missing. Make it with" in capsys.readouterr().err


def test_watch_notices_a_thread_that_holds_everything_up() -> None:
    """Prevents a benchmark that calls a frozen page responsive."""
    watch = Watch()
    watch.start()
    busy = sorted(range(4_000_000), key=lambda n: -n)  # one call that keeps the interpreter
    start = time.perf_counter()
    sorted(busy)
    held = time.perf_counter() - start
    watch.end()
    assert max(watch.late_s) > held / 4
