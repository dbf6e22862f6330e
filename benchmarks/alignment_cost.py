"""Memory and time of one method, each in a process of its own.

Memory beyond plain sampling: bytes saved for backward (peak), growth of the process peak, growth of CUDA's peak. The
process first samples and scores the same batch without gradient; what the update adds to that peak is counted.

An update is one optimiser step: its network calls, decoding, reward, backward, step. The rollout is what comes before
the first trained step and is shared by all updates of a trajectory; both are timed.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from benchmarks.alignment_setup import Benchmark, World, load_world
from core.align.finetune import AlignBatch, StepRecord, initial_noise, row_generators, sample
from core.align.memory import saved_bytes
from core.align.plans import Plan
from core.align.run import AlignRun

_STATUS = Path("/proc/self/status")


class Clock:
    """Seconds by the wall and of the processor (all threads), added up over `running` blocks."""

    def __init__(self, device: torch.device, wall: float = 0.0, cpu: float = 0.0) -> None:
        self.device, self.wall, self.cpu = device, wall, cpu

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts what happens inside, a GPU's queue included."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def in_fresh_process(config: Benchmark, name: str) -> dict[str, Any]:
    """measure_cost in a new interpreter; {"failed": reason} where memory does not suffice or the system killed it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            return pool.submit(measure_cost, config, name).result()
        except BrokenProcessPool:
            return {"failed": "the process was killed, probably for its memory"}
        except torch.OutOfMemoryError as error:
            return {"failed": str(error).splitlines()[0]}


def end_with_parent() -> None:
    """Let this process end when the one that started it does: a killed benchmark leaves no measurement running."""
    starter = parent_process()
    if starter is not None:
        Thread(target=lambda: (starter.join(), os._exit(1)), daemon=True).start()


def measure_cost(config: Benchmark, name: str) -> dict[str, Any]:
    """Figures of one row; bytes and seconds. Meant for a fresh process: peaks of a process never fall."""
    world = load_world(config, prompts=False)
    batch, (short, long) = world.fixed_batch(name), config.memory_steps
    with tempfile.TemporaryDirectory() as folder:
        run = world.start(name, 0, long, Path(folder) / "long")
        plain = _without_gradient(run, batch)
        before = peaks(world.device)
        times = [_timed(world, lambda: run.step(batch)) for _ in range(1 + config.repeats)]
        added = {f"{k}_bytes": v - before[k] for k, v in peaks(world.device).items()}
        rollouts = [_timed(world, lambda: _rollout(run, batch)) for _ in range(1 + config.repeats)]
        saved = {steps: _saved(world, name, steps, batch, Path(folder) / f"{steps}") for steps in (short, long)}
    updates = sum(record.grad_norm > 0 for record in times[0][1])
    seconds = {"trajectory": times, "rollout": rollouts}
    return {
        "saved_bytes": {str(steps): value for steps, value in saved.items()},
        **added,
        "updates": updates,
        "plain_seconds": plain,
    } | {
        f"{what}_{kind}_s": [getattr(clock, kind) for clock, _ in timed[1:]]  # the first one warms up
        for what, timed in seconds.items()
        for kind in ("wall", "cpu")
    }


def peaks(device: torch.device) -> dict[str, int]:
    """Peak bytes so far: of the process where Linux tells, of CUDA where it is used."""
    found: dict[str, int] = {}
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        found["process"] = 1024 * int(lines["VmHWM"].split()[0])
    if device.type == "cuda":
        found["cuda"] = torch.cuda.max_memory_allocated(device)
    return found


@torch.no_grad()
def _without_gradient(run: AlignRun, batch: AlignBatch) -> float:
    """Sample, decode and score the batch; returns seconds."""
    clock = Clock(next(run.model.denoiser.parameters()).device)
    x_T = initial_noise(run.model, row_generators(0, 0, range(len(batch))), batch.lengths)
    bfloat16 = run.config.precision == "bfloat16"
    with clock.running(), torch.autocast(x_T.device.type, torch.bfloat16, enabled=bfloat16):
        x0 = sample(run.model, run.schedule, x_T, batch, run.config.guidance_scale)
        run.reward(run.model.decode(x0, batch.lengths), batch.lengths, batch.text)
    return clock.wall


def _timed(world: World, work: Callable[[], list[StepRecord]]) -> tuple[Clock, list[StepRecord]]:
    clock = Clock(world.device)
    with clock.running():
        records = work()
    return clock, records


def _rollout(run: AlignRun, batch: AlignBatch) -> list[StepRecord]:
    """The steps of a trajectory before the first trained one, as the run itself samples them."""
    generators = row_generators(run.config.seed, run.update, range(len(batch)))
    x_T = initial_noise(run.model, generators, batch.lengths)
    before = untrained(run.config.plan(run.update))
    return run.finetuner.run(before, x_T, batch, generators) if before else []


def untrained(plan: Plan) -> Plan:
    """The first steps of a plan that only sample."""
    steps = takewhile(lambda step: not step.keep_grad and step.reward is None and step.detach_chain, plan)
    return tuple(replace(step, replay=False) for step in steps)


def _saved(world: World, name: str, steps: int, batch: AlignBatch, folder: Path) -> int:
    """Peak bytes kept for backward in the first trajectory of T = steps; weights are there anyway and don't count."""
    run = world.start(name, 0, steps, folder)
    weights = [t for module in (run.model, *world.rewards.values()) for t in (*module.parameters(), *module.buffers())]
    gc.collect()
    with saved_bytes(weights) as saved:
        run.step(batch)
    return saved.peak
