"""The alignment benchmark end to end on the shipped models (--smoke), killed on its way and run again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.alignment import main
from benchmarks.alignment_setup import Benchmark

ROOT = Path(__file__).parents[2]
ROWS = [*Benchmark().methods, "easytune+guards"]
OPTIONS = ["--smoke", "--methods", *ROWS, "--clock", "cpu"]
SECONDS = 400  # for the first curve, on a busy machine


def test_a_killed_benchmark_goes_on_and_writes_all_it_promises(tmp_path, capsys) -> None:
    """Fails where a row, the table, the figure or the JSON is missing, or what was finished is measured again."""
    out = tmp_path / "out"
    curves = out / "cells" / "curves"
    with open(tmp_path / "log", "w") as log:
        victim = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.alignment", *OPTIONS, "--out", str(out)],
            cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and not (curves / "easytune-0.json").exists() and victim.poll() is None:
            time.sleep(0.05)
        victim.kill()
    assert victim.wait() != 0 and not (out / "report.md").exists(), (tmp_path / "log").read_text()
    finished = _cells(out)
    assert {"cost/easytune.json", "cost/draft-50.json"} <= finished.keys()
    assert main([*OPTIONS, "--out", str(out)]) == 0
    printed, report = capsys.readouterr().out, json.loads((out / "report.json").read_text())
    whole = _cells(out)
    assert all(whole[name] == finished[name] for name in ("cost/easytune.json", "cost/draft-50.json"))
    before, after = (json.loads(cells["curves/easytune-0.json"])["points"] for cells in (finished, whole))
    assert after[: len(before)] == before
    for name in ROWS:
        assert f"| {name} |" in printed and min(report["cost"][name]["trajectory_cpu_s"]) > 0
        if name.startswith(("easytune", "terminal-gradient")):  # one step is held at a time, whatever T is
            short, long = report["cost"][name]["saved_bytes"].values()
            assert 0.95 * short < long < 1.05 * short
            assert long < 0.3116 * max(report["cost"]["draft-50"]["saved_bytes"].values())  # the paper's share
        points = report["curves"][name]["0"]["points"]
        assert points[-1]["update"] >= 1 and points[-1]["mm_dist"] > 0
    assert (out / "report.md").read_text().strip() in printed and (out / "curves.png").stat().st_size > 10_000
    assert main([*OPTIONS, "--out", str(out), "--clock", "wall", "--repeats", "3", "--shown", "draft-50", "refl"]) == 0
    assert set(json.loads((out / "report.json").read_text())["curves"]) == {"draft-50", "refl"}
    later = _cells(out)
    assert later.keys() == whole.keys()
    for name, cell in whole.items():  # by the wall a curve may have been short of its time, and goes on
        curve = name.startswith("curves/")
        assert later[name] == cell or curve and _points(later[name])[: len(_points(cell))] == _points(cell), name


def test_a_reward_that_is_none_is_refused_in_a_sentence(tmp_path, capsys) -> None:
    """Prevents a traceback for the judge, or a VAE, named as a reward."""
    assert main(["--smoke", "--out", str(tmp_path), "--rewards", "judge"]) == 1
    assert "judge holds a Judge, which is no reward" in capsys.readouterr().err


def _points(cell: str) -> list[dict]:
    return json.loads(cell)["points"]


def _cells(out: Path) -> dict[str, str]:
    """Every finished measurement of the folder."""
    cells = out / "cells"
    return {
        str(path.relative_to(cells)): path.read_text()
        for folder in ("cost", "curves")
        for path in (cells / folder).glob("*.json")
    }
