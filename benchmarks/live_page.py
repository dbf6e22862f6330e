"""A live step beside a page in use: `python -m benchmarks.live_page`.

Simulated votes go into a store, app.py is started on it, and a client has pairs made over HTTP: first with nothing else
going on, then while `python -m core live`, which is what the Learn tab starts, learns from the votes. Prints a table
and writes JSON: seconds of the step, and of a pair before and meanwhile. --smoke is a small one.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from benchmarks.generation import deliver, machine
from benchmarks.live import App, start_app
from benchmarks.live_align import store_votes
from benchmarks.live_loop import LiveLoop, cast_votes, set_stage, split_prompts
from benchmarks.takes import PoolConfig
from core.commands.console import exit_code
from core.diffusion.rollout import SamplerConfig
from core.learning.versions import VersionStore
from core.preference.pairs import PreferencePair
from core.settings import ROOT


@dataclass(frozen=True)
class LivePage:
    """Measure a live step and the page beside it."""

    checkpoints: Path = Path("checkpoints")
    out: Path = Path("outputs/live-page")  # the pool of takes that is voted on stays here
    votes: int = 50
    rule: str = "calmer"  # by which the simulated person votes
    prompt: str = "a tired person walks forward, then waves with the right hand"  # 192 frames
    idle: int = 5  # pairs made before the step
    pause_s: float = 1.0  # between two pairs, as a person looks
    smoke: bool = False  # few votes on motions of few steps


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""

    def work() -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        config = tyro.cli(LivePage, args=arguments, prog="python -m benchmarks.live_page")
        report = run(replace(config, votes=6, idle=1) if config.smoke else config)
        deliver(report, markdown(report), config.out / "live-page.json")

    return exit_code(work)


def run(config: LivePage) -> dict[str, Any]:
    """Seconds of every measure. RuntimeError where the page or the step gives up."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        vote(config, data)
        app = start_app(data, config.checkpoints.resolve())
        try:
            seconds, step = measure(config, app, data)
        finally:
            app.kill()
        made = VersionStore(config.checkpoints, data).versions()[-1]
    return {"config": asdict(config), "machine": machine(), "seconds": seconds, "step": step, "learnt": made.learnt}


def vote(config: LivePage, data: Path) -> None:
    """Votes of a simulated person in a fresh store."""
    steps = 2 if config.smoke else 8
    pool = PoolConfig(30, 2, ("base", "aligned"), sampler=SamplerConfig(steps, solver="dpm++"))
    loop = LiveLoop(checkpoints=config.checkpoints, out=config.out, pool=pool, rules=(config.rule,))
    stage, (voted, _) = set_stage(loop), split_prompts(loop, 0)
    pairs: list[PreferencePair] = []
    cast_votes(pairs, config.votes, "random", loop, stage, config.rule, 0, voted)
    store_votes(data, pairs, stage.pool)


def measure(config: LivePage, app: App, data: Path) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of pairs before and during the step, and of the step."""
    from gradio_client import Client

    client = Client(app.url, verbose=False)

    def pair() -> float:
        time.sleep(config.pause_s)
        started = time.perf_counter()
        client.predict(config.prompt, api_name="/generate")
        return time.perf_counter() - started

    pair()  # the first one waits for the models
    seconds = {"a pair, nothing else going on": [pair() for _ in range(config.idle)]}
    places = ["--data-dir", str(data), "--checkpoints", str(config.checkpoints.resolve())]
    started, meanwhile = time.perf_counter(), seconds.setdefault("a pair during the step", [])
    command = [sys.executable, "-m", "core", "live", *places]
    with (data / "live.log").open("wb") as log:
        step = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        while step.poll() is None:
            meanwhile.append(pair())
        took = time.perf_counter() - started
    if step.returncode:
        raise RuntimeError(f"The step failed: {(data / 'live.log').read_text().strip().splitlines()[-1]}")
    return seconds, {"step, pairs being made beside it": took}


def markdown(report: dict[str, Any]) -> str:
    """The table of a report; seconds."""
    here = report["machine"]
    rows = [
        f"| {name} | {len(times)} | {statistics.median(times):.2f} | {max(times):.2f} |"
        for name, times in [*report["seconds"].items(), *((k, [v]) for k, v in report["step"].items())]
    ]
    head = f"| {here['cores']} cores of {here['cpu']}, load {here['load']} | times | median, s | slowest |"
    learnt = ", ".join(report["learnt"]) or "nothing to tell"
    return "\n".join([head, "| --- | ---: | ---: | ---: |", *rows, "", f"{report['config']['votes']} votes; {learnt}"])


if __name__ == "__main__":
    sys.exit(main())
