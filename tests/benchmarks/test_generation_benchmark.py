"""The benchmark of generation, over tiny untrained models: it must keep running when the code it measures changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.generation import Prompts, main, markdown, timed


def test_smoke_run_writes_every_measure(
    tiny_checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a benchmark that nobody can run any more, and numbers without the machine they hold for."""
    threads = torch.get_num_threads()
    try:
        code = main(
            ["--smoke", "--threads", "1", "--checkpoints", str(tiny_checkpoints), "--out", str(tmp_path / "b.json")]
        )
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["config"]["threads"] == 1 and report["machine"]["cpu"] and report["weights"]["base"]
    assert len(report["seconds"]) == 7 and all(len(times) == 1 and times[0] > 0 for times in report["seconds"].values())
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in report["seconds"])


def test_missing_models_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents times of random weights."""
    assert main(["--smoke", "--checkpoints", str(tmp_path), "--out", str(tmp_path / "b.json")]) == 1
    assert "config.json is missing. Make it with" in capsys.readouterr().err and not (tmp_path / "b.json").exists()


def test_warm_up_is_not_counted_and_measures_take_turns() -> None:
    """Prevents a first call, slow from loading, in the median."""
    calls: list[tuple[str, int]] = []
    seconds = timed({name: lambda repeat, name=name: calls.append((name, repeat)) for name in "ab"}, repeats=2)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_table_shows_the_median_and_the_fastest() -> None:
    """Prevents a mean that one busy moment spoils, or seconds under a heading of milliseconds."""
    report = {
        "config": {"threads": 2},
        "machine": {"cpu": "abacus", "load": 0.5},
        "seconds": {"pair": [0.5, 0.1, 0.2]},
    }
    assert markdown(report).splitlines()[-1] == "| pair | 200.0 | 100.0 |"


def test_prompts_never_repeat() -> None:
    """Prevents the text encoder's cache from hiding its time."""
    prompts = Prompts()
    drawn = [prompts.fresh() for _ in range(200)]
    assert len(set(drawn)) == 200
