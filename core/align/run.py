"""One alignment from base to aligned policy: updates, monitors, saved state, resume.

Every random number is a function of (seed, update, row), and prompts are a function of the update, so the data
cursor and the random state are both the number of updates done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import Callback
from core.align.config import AlignConfig
from core.align.finetune import AlignBatch, Finetuner, StepRecord, initial_noise, row_generators, take_rows
from core.align.guards import Objective, noised_reward
from core.align.monitor import HeldOut, Watch
from core.align.plans import noise_aware
from core.align.policy import Ema, Policy
from core.align.processes import Processes, current_processes
from core.align.run_files import RunFolder
from core.diffusion.protocol import MotionDiffusion, Reward, Schedule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignResult:
    """updates: batches done. stopped: why a guard ended the run, or None. monitors: what ships, on held-out prompts.

    adapters: "<weight>.a" (rank, in) and "<weight>.b" (out, rank) of the shipped policy, empty where lora_rank is 0;
    the aligned weight is base + lora_alpha / lora_rank * b @ a. seconds: of all processes one after the other that
    worked on the run, each up to its last saved state.
    """

    updates: int
    stopped: str | None
    monitors: dict[str, float]
    adapters: dict[str, Tensor]
    seconds: float


def align(
    model: MotionDiffusion,
    reward: Reward,
    schedule: Schedule,
    batches: Callable[[int], AlignBatch],
    config: AlignConfig,
    folder: str | Path,
    held_out: AlignBatch | None = None,
    callback: Callback | None = None,
    start: Mapping[str, Tensor] | None = None,
    made_from: Mapping[str, Any] | None = None,
) -> AlignResult:
    """Fine-tune model.denoiser in place against a frozen reward; calling again continues a killed run.

    batches: number of an update -> its prompts (config.batch rows), the same on every call. held_out: prompts for
    monitors and stop rules; None switches them off. callback(step, total, info) after each update, may raise to cancel.
    start: trained parameters to begin from, such as the adapters of an earlier run; anchor, distance and stop rules
    keep to the model as given. made_from: fingerprints of models and data, by which a run of others is told.
    Afterwards the denoiser holds the averaged policy (the last one that passed, if a guard stopped the run), adapters
    folded in. Raises ValueError for a folder with other settings or a batch of another size.
    """
    processes = current_processes()
    files = RunFolder(folder, config, made_from, processes.writes)
    run = AlignRun(model, reward, schedule, config, files, held_out, start, processes=processes)
    run.resume()
    while run.update < config.updates and run.stopped is None:
        started = time.perf_counter()
        records = run.step(batches(run.update))
        info = run.finish_update(records, time.perf_counter() - started)
        if callback is not None:
            callback(run.update, config.updates, info)
    return run.finish()


@dataclass
class AlignRun:
    """One alignment, update by update, for callers that look in between; `align` is the loop around it.

    Raises ValueError where the schedule has another number of steps than the config, the reward is not of the kind
    that the method needs, or the processes can't share out a batch.
    """

    model: MotionDiffusion
    reward: Reward
    schedule: Schedule
    config: AlignConfig
    files: RunFolder
    held_out: AlignBatch | None
    start: Mapping[str, Tensor] | None = None
    update: int = 0
    stopped: str | None = None
    moved: bool = False  # a policy other than the start has passed the stop rules
    monitors: dict[str, float] = field(default_factory=dict)  # of the last look
    passed_monitors: dict[str, float] = field(default_factory=dict)  # of the last policy that passed
    processes: Processes = field(default_factory=current_processes)
    earlier_s: float = 0.0  # seconds that the processes before this one worked on the run

    def __post_init__(self) -> None:
        self._started = time.perf_counter()
        if len(self.schedule.timesteps) != self.config.steps:
            raise ValueError(
                f"the schedule has {len(self.schedule.timesteps)} steps, config.steps={self.config.steps}."
            )
        c = self.config
        self._rows = self.processes.rows(c.batch, together=2 if c.guards.realism_weight else 1)
        if noise_aware(c.plan(0)):
            noised_reward(self.reward)
        self.model.denoiser.eval()  # dropout would make the reward of a step noise
        self.policy = Policy(self.model.denoiser, c.lora_rank, c.lora_alpha, c.seed)
        if self.start is not None:
            self.policy.load_state_dict(self.start)
        self.ema = Ema(self.policy.named, c.guards.ema) if c.guards.ema else None
        self.optimizer = torch.optim.AdamW(self.policy.parameters, lr=c.lr, betas=c.betas, weight_decay=c.weight_decay)
        self.finetuner = Finetuner(
            self.model,
            Objective(self.reward, c.guards),
            self.schedule,
            self.policy,
            self.optimizer,
            c,
            self.ema,
            self.processes.reduce,
        )
        self.passed = self.policy.state_dict()  # the last policy that passed the stop rules; at first the start
        self.watch: Watch | None = None
        if self.held_out is not None and c.guards.monitor_every:
            held_out = HeldOut(self.model, self.reward, self.schedule, self.held_out, c.guidance_scale, c.seed)
            with self.policy.base():
                self.watch = Watch(held_out, c.guards, self.processes.reduce)
            with self.policy.still():
                self.passed_monitors = self.watch.look() if self.start is not None else dict(self.watch.rules.baseline)

    def resume(self) -> None:
        """Continue from state.pt, if there is one."""
        state = self.files.load_state()
        if state is None:
            return
        self.update, self.stopped, self.moved = state["update"], state["stopped"], state.get("moved", True)
        self.monitors, self.earlier_s = state["monitors"], state.get("seconds", 0.0)
        self.passed_monitors = state.get("passed_monitors", self.monitors)
        self.policy.load_state_dict(state["passed"])
        self.passed = self.policy.state_dict()  # on the policy's device, as the file's tensors are not
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if self.ema is not None:
            for name, value in state["ema"].items():
                self.ema.average[name].copy_(value)
        if self.watch is not None:
            self.watch.rules.parted = state["parted"]
        logger.info("resumed %s at update %d", self.files.path, self.update)

    def step(self, batch: AlignBatch) -> list[StepRecord]:
        """One batch through the plan."""
        c = self.config
        if len(batch) != c.batch:
            raise ValueError(f"the batch of update {self.update} has {len(batch)} rows, config.batch={c.batch}.")
        generators = row_generators(c.seed, self.update, self._rows)
        x_T = initial_noise(self.model, generators, batch.lengths)
        rows = slice(self._rows.start, self._rows.stop)
        return self.finetuner.run(c.plan(self.update), x_T, take_rows(batch, rows), generators)

    def finish_update(self, records: list[StepRecord], seconds: float) -> dict[str, Any]:
        """Log, check the guards, save; returns what the callback shows."""
        self.update += 1
        rows = [{"update": self.update, **asdict(record)} for record in records]
        rewards = [r.reward for r in records if r.reward == r.reward]
        norms = [r.grad_norm for r in records]
        info: dict[str, Any] = {
            "update": self.update,
            "reward": float(np.mean(rewards)) if rewards else float("nan"),
            "grad_norm": max(norms, default=0.0),
            "seconds": seconds,
        }
        last = self.update == self.config.updates  # what ships is looked at, and kept, whatever its number
        if self.watch is not None and (last or self.update % self.config.guards.monitor_every == 0):
            self._check_guards(self.watch)
            info |= {"monitors": self.monitors, "stopped": self.stopped}
        if self.processes.writes:
            self.files.log([*rows, info])
            ends = last or self.stopped is not None
            if self.config.keep_every and (ends or self.update % self.config.keep_every == 0):
                self.files.keep_policy(self.update, self._shipped())  # first: what `resume` finds is never without it
            if ends or self.update % self.config.save_every == 0:
                self.save()
        return info

    @property
    def seconds(self) -> float:
        """Time that went into the run so far, earlier processes included."""
        return self.earlier_s + time.perf_counter() - self._started

    def save(self) -> None:
        """Write all that `resume` needs."""
        self.files.save_state(self._state())

    def _check_guards(self, watch: Watch) -> None:
        with self.averaged():
            self.monitors = watch.look()
            self.stopped = watch.rules.check(self.monitors)
            if watch.rules.refuse(self.monitors) is None:
                self.passed, self.passed_monitors, self.moved = self.policy.state_dict(), self.monitors, True
            if self.stopped is not None:
                logger.warning("stopped at update %d: %s", self.update, self.stopped)
                self._approach(watch, self.policy.state_dict())

    def _approach(self, watch: Watch, failed: Mapping[str, Tensor]) -> None:
        """Move `passed` towards a policy that failed, by halves of the way, as far as the stop rules let it."""
        beyond = failed
        for _ in range(self.config.guards.halvings):
            middle = {name: (value + beyond[name]) / 2 for name, value in self.passed.items()}
            self.policy.load_state_dict(middle)
            with self.policy.still():
                figures = watch.look()
            if watch.rules.refuse(figures) is None:
                self.passed, self.passed_monitors, self.moved = middle, figures, True
            else:
                beyond = middle
        self.policy.load_state_dict(failed)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the denoiser holds the policy that would be shipped: the average, where there is one."""
        with self.ema.applied() if self.ema is not None else nullcontext(), self.policy.still():
            yield

    def _state(self) -> dict[str, Any]:
        return {
            "update": self.update,
            "stopped": self.stopped,
            "moved": self.moved,
            "monitors": self.monitors,
            "passed": self.passed,
            "passed_monitors": self.passed_monitors,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.average if self.ema is not None else None,
            "parted": self.watch.rules.parted if self.watch is not None else 0,
            "rng": torch.get_rng_state(),
            "seconds": self.seconds,
        }

    def finish(self) -> AlignResult:
        """Leave the policy to ship in the denoiser."""
        self.policy.load_state_dict(self._shipped())
        adapters = self.policy.state_dict() if self.policy.lora is not None else {}
        self.policy.finish()
        monitors = self.monitors if self.stopped is None else self.passed_monitors
        return AlignResult(self.update, self.stopped, monitors, adapters, self.seconds)

    def _shipped(self) -> Mapping[str, Tensor]:
        """The policy that would be shipped now."""
        if self.stopped is not None:
            return self.passed
        return self.ema.average if self.ema is not None else self.policy.state_dict()
