"""EasyTune and its rivals from the same base, reward, prompts and seeds: memory, time, and what the judge says.

    python -m benchmarks.alignment                     # everything, some 11 hours of one core; run again after a kill
    python -m benchmarks.alignment --scale laptop      # the same in two to three hours: small batches
    python -m benchmarks.alignment --stages cost       # memory and time only, minutes
    python -m benchmarks.alignment --ablation          # EasyTune with each guard alone; benchmarks.guards: all but one
    python -m benchmarks.alignment --smoke             # does it run? needs the checkpoints, not the archive

The judge (checkpoints/judge) is no part of any training here. Writes report.md, report.json and curves.png to --out;
every finished measurement lies in --out/cells and is not made again. The same command in a second terminal shares the
work: each measurement is made by whoever comes first (draft-50 holds 13.5 GB in each; pin one core to each).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

if not __package__:  # python benchmarks/alignment.py
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import filelock
import torch
import tyro

from benchmarks.alignment_cost import in_fresh_process, measure_cost
from benchmarks.alignment_curves import Curve, Exam, make_exam
from benchmarks.alignment_report import headlines, markdown, picture
from benchmarks.alignment_setup import (
    BY_NAME,
    CLOCKS,
    VARIANTS,
    Benchmark,
    World,
    lasting,
    load_world,
    refuse_others,
    scaled,
)
from benchmarks.generation import machine
from core.commands.console import ProgressLine, exit_code
from core.metrics.intervals import Interval
from core.motion.files import atomic_write

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""

    def work() -> None:
        config = tyro.cli(Benchmark, args=arguments, prog="python -m benchmarks.alignment")
        print(markdown(run(scaled(config)), CLOCKS[config.clock]))

    return exit_code(work)


def run(config: Benchmark) -> dict[str, Any]:
    """All results of config.out after the stages of `config` are done. Side effects: see the module docstring.

    Raises ValueError where config.out holds results of other settings, and as load_world does.
    """
    cells = config.out / "cells"
    _check_settings(config, cells / "settings.json")
    if "cost" in config.stages:
        measure_costs(config, cells)
    if "curves" in config.stages:
        learn(config, cells)
    results = collect(cells, config.shown or VARIANTS)
    _write_reports(results, config)
    return results


def _check_settings(config: Benchmark, path: Path) -> None:
    """Rows that learn from the ensemble add it to what the results of the folder share."""
    joint = config.ensemble if any(VARIANTS[name].ensemble for name in config.names) else ()
    now = lasting(config, (*config.rewards, *joint)) | ({"ensemble": list(joint)} if joint else {})
    found = json.loads(path.read_text()) if path.exists() else now
    refuse_others(found, now, path.parent)
    _store(path, {**found, **now, **{name: found.get(name, {}) | now[name] for name in BY_NAME}})


def _store(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, default=str)
    atomic_write(path, lambda file: file.write(text.encode()))


def measure_costs(config: Benchmark, cells: Path) -> None:
    """Memory and time of every row that has none yet; rows that were killed are tried again.

    Each has a process of its own, but in a smoke run, whose figures mean nothing.
    """
    report, measure = ProgressLine("memory and time"), measure_cost if config.smoke else in_fresh_process
    for done, name in enumerate(config.names, start=1):
        path = cells / "cost" / f"{name}.json"
        with claimed(path) as mine:
            if mine and (not path.exists() or "failed" in json.loads(path.read_text())):
                _store(path, measure(config, name))
        report(done, len(config.names), name)


def learn(config: Benchmark, cells: Path) -> None:
    """Every curve that is not finished; seeds in the outer loop, so that all rows have one seed first."""
    world = load_world(config, prompts=True)
    val, test = make_exam(world, "val", config.prompts), make_exam(world, "test", config.test_prompts)
    judge_base(world, val, test, cells / "base.json")
    for seed in config.seeds:
        for name in config.names:
            with claimed(cells / "curves" / f"{name}-{seed}.json") as mine:
                curve = Curve(world, cells / "curves", name, seed)
                if mine and not curve.finished():
                    try:
                        curve.run(val, test, ProgressLine(f"{name}, seed {seed}, seconds"))
                    except torch.OutOfMemoryError as error:
                        log.warning("%s, seed %d, is left out: %s", name, seed, error)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether the measurement kept in `path` is this process's to make; the claim ends with the block or the process.

    Side effect: an empty file beside it, path + ".lock".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{path}.lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        log.info("%s is being measured by another process", path)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def judge_base(world: World, val: Exam, test: Exam, path: Path) -> None:
    """Mark the base once on the validation prompts and with the test noise of every seed."""
    base = json.loads(path.read_text()) if path.exists() else {"val": val.mark(world.model), "test": {}}
    for seed in world.config.seeds:
        if str(seed) not in base["test"]:
            base["test"][str(seed)] = test.mark(world.model, seed)
    _store(path, base)


def collect(cells: Path, names: Collection[str]) -> dict[str, Any]:
    """What was measured so far of the rows `names`, in the order it was measured."""
    base = cells / "base.json"
    curves: dict[str, dict[str, Any]] = {}
    for path in sorted((cells / "curves").glob("*.json"), key=lambda p: p.stat().st_ctime):
        name, _, seed = path.stem.rpartition("-")
        if name in names:
            curves.setdefault(name, {})[seed] = json.loads(path.read_text())
    costs = [path for path in sorted((cells / "cost").glob("*.json")) if path.stem in names]
    return {
        "settings": json.loads((cells / "settings.json").read_text()),
        "machine": machine(),
        "cost": {path.stem: json.loads(path.read_text()) for path in costs},
        "base": json.loads(base.read_text()) if base.exists() else {},
        "curves": {name: seeds for name, seeds in curves.items() if all(cell["points"] for cell in seeds.values())},
    }


def _write_reports(results: dict[str, Any], config: Benchmark) -> None:
    clock = CLOCKS[config.clock]
    plain = {
        row: {k: asdict(v) if isinstance(v, Interval) else v for k, v in figures.items()}
        for row, figures in headlines(results, clock).items()
    }
    _store(config.out / "report.json", {"headlines": plain, **results})
    text = markdown(results, clock)
    atomic_write(config.out / "report.md", lambda file: file.write(text.encode()))
    if results["curves"]:
        image = picture(results, clock)
        atomic_write(config.out / "curves.png", lambda file: file.write(image))
    log.info("wrote %s", config.out)


if __name__ == "__main__":
    sys.exit(main())
