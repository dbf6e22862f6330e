"""Learning curves: one row and seed at a time, judged on fixed prompts at growing intervals of training time.

Only updates run the clock; evaluating and saving stand still. A kill loses at most the time since the last point: the
run's state and the points are written together, and where they disagree the curve starts anew.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alignment_cost import Clock
from benchmarks.alignment_setup import CLOCKS, VARIANTS, Benchmark, World, motions_of
from core import Callback
from core.align.run import AlignRun
from core.commands.evaluate import evaluation_set, judge_functions, mean_reward
from core.diffusion.protocol import MotionDiffusion
from core.diffusion.rollout import sample_motions
from core.metrics.evaluate import (
    EvaluationConfig,
    EvaluationSet,
    Judge,
    default_joints,
    judge_metrics,
    mean_physical,
)
from core.metrics.retrieval import NEAR_MISS_SIZE, POOL_SIZE, matching_distances
from core.models.checkpoint import load_judge
from core.motion.files import atomic_write

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exam:
    """Fixed prompts with their real motions, and who marks them."""

    world: World
    judge: Judge
    data: EvaluationSet
    settings: EvaluationConfig
    text: np.ndarray  # (N, E) the judge's embedding of the captions
    real: np.ndarray  # (N, E) of the real motions

    def mark(self, model: MotionDiffusion, noise: int = 0) -> dict[str, Any]:
        """Figures of a model: the judge's, physical ones, mean reward, and each prompt's distance.

        Prompt i takes noise seed noise * 1,000,003 + i, whatever the model.
        """
        captions, frames = list(self.data.captions), [len(m) for m in self.data.real]
        seeds = [noise * 1_000_003 + i for i in range(len(captions))]
        sampler, encoder = self.world.config.sampler, self.world.encoder
        motions = sample_motions(model, encoder, captions, frames, seeds, sampler, batch_size=32)
        embedding = self.judge.motion(motions)
        figures = judge_metrics(self.text, embedding, self.real, self.data, self.settings, 0)
        figures |= mean_physical(motions, default_joints) | {
            "reward": mean_reward(self.world.reward(), motions, captions, encoder)
        }
        distances = matching_distances(self.text, embedding).round(5).tolist()
        return {**{k: float(v) for k, v in figures.items()}, "distances": distances}


def make_exam(world: World, split: str, count: int) -> Exam:
    """`count` prompts spread over a split; near-miss pools where there are enough of one action."""
    motions = motions_of(world, split, 300, 0)
    rows: list[int] = np.linspace(0, len(motions) - 1, min(count, len(motions))).astype(int).tolist()
    every = evaluation_set(motions)
    actions = [(every.actions or [])[i] for i in rows]
    meanings = [(every.meanings or [])[i] for i in rows]
    near = max(len({m for a, m in zip(actions, meanings, strict=True) if a == action}) for action in set(actions))
    labels = (actions, meanings) if near >= NEAR_MISS_SIZE else (None, None)
    data = EvaluationSet([every.captions[i] for i in rows], [every.real[i] for i in rows], *labels)
    judge = judge_functions(load_judge(world.config.checkpoints, world.device))
    pool = min(POOL_SIZE, len(set(meanings)), len(set(data.captions)))
    settings = EvaluationConfig(repeats=1, pool_size=pool)
    return Exam(world, judge, data, settings, judge.text(data.captions), judge.motion(data.real))


def marks(config: Benchmark, seconds: float) -> list[float]:
    """Training times (s) at which a curve is judged; a longer one also when the others are, for equal time."""
    shares = np.geomspace(config.earliest, 1.0, max(2, config.points))
    own, others = (seconds * shares).tolist(), (60 * config.minutes * shares).tolist()
    return [mark for mark in others if mark < own[0]] + own


class Curve:
    """One row and seed. Files: <folder>/<name>-<seed>/ (state of the run) and <name>-<seed>.json (points)."""

    def __init__(self, world: World, folder: Path, name: str, seed: int) -> None:
        self.world, self.name, self.seed = world, name, seed
        self.path = folder / f"{name}-{seed}.json"
        self.state = folder / f"{name}-{seed}"
        self.cell: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"points": []}

    @property
    def points(self) -> list[dict[str, Any]]:
        """Rows with update, steps, seconds, cpu_seconds and the exam's figures."""
        return self.cell["points"]

    def seconds(self) -> float:
        """Training time so far, by the configured clock."""
        return self.points[-1][CLOCKS[self.world.config.clock]] if self.points else 0.0

    def finished(self) -> bool:
        """True where the time is used up and the test prompts are marked."""
        return "test" in self.cell and self.seconds() >= self.world.config.seconds_of(self.name)

    def run(self, val: Exam, test: Exam, callback: Callback | None = None) -> None:
        """Train for the row's time from where it was left, judging on `val` on the way and on `test` at the end."""
        run = self._open()
        last = self.points[-1] if self.points else {"seconds": 0.0, "cpu_seconds": 0.0, "steps": 0}
        clock, steps = Clock(self.world.device, last["seconds"], last["cpu_seconds"]), last["steps"]
        total = self.world.config.seconds_of(self.name)
        batches = self.world.batches(run.config, VARIANTS[self.name].ensemble)
        due = [mark for mark in marks(self.world.config, total) if mark > self.seconds()]
        while due:
            with clock.running():
                records = run.step(batches(run.update))
                run.finish_update(records, 0.0)
            steps += sum(record.grad_norm > 0 for record in records)
            now = clock.cpu if self.world.config.clock == "cpu" else clock.wall
            if now >= due[0]:
                due = [mark for mark in due if mark > now]
                self._point(run, val, {"steps": steps, "seconds": clock.wall, "cpu_seconds": clock.cpu})
                if callback:
                    callback(round(now), round(total), {"mm_dist": self.points[-1]["mm_dist"]})
        with run.averaged():
            self.cell["test"] = test.mark(run.model, self.seed)
        self._write()

    def _open(self) -> AlignRun:
        run = self.world.start(self.name, self.seed, self.world.config.align.steps, self.state)
        if run.update != (self.points[-1]["update"] if self.points else 0):
            log.warning("%s: state and points disagree, it starts anew", self.state)
            shutil.rmtree(self.state, ignore_errors=True)
            self.cell = {"points": []}
            run = self.world.start(self.name, self.seed, self.world.config.align.steps, self.state)
        return run

    def _point(self, run: AlignRun, exam: Exam, where: dict[str, Any]) -> None:
        with run.averaged():
            figures = exam.mark(run.model)
        self.points.append({"update": run.update, **where, **figures})
        self.cell.pop("test", None)
        run.save()
        self._write()

    def _write(self) -> None:
        text = json.dumps(self.cell)
        atomic_write(self.path, lambda file: file.write(text.encode()))
