"""One step of the live loop: votes -> pairs -> reward head -> EasyTune on adapters -> a new version.

The adapters start from those of the version in use and belong to the same shipped model, so that anchor, distance and
stop rules always refer to that model: versions follow each other without drifting away. Nothing but the store is read,
and nothing but a work folder is written until the finished version is renamed into place.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import filelock
import torch

from core.align.config import AlignConfig, GuardConfig, check_held_out
from core.align.guards import EnsembleReward
from core.align.run import AlignResult, AlignRun
from core.align.run_files import RunFolder
from core.diffusion.ddim import DdimSchedule, from_diffusers
from core.diffusion.rollout import SamplerConfig, make_scheduler
from core.diffusion.schedule import SCHEDULER
from core.learning.card import write_card
from core.learning.progress import FILE, MIN_VOTES, Progress
from core.learning.prompts import PromptBatches, held_out_batch, training_prompts
from core.learning.versions import VOTES_BUILD_ON, Start, Version, VersionStore
from core.models.checkpoint import load_diffusion, load_reward, save_adapters
from core.models.reward import RewardModel
from core.preference.head import PreferenceReward
from core.preference.pairs import PreferencePair, vote_pairs
from core.preference.refine import RefineConfig, refine
from core.preference.store import PreferenceStore
from core.preference.types import now
from core.preference.vectors import VectorFile
from core.settings import ROOT
from core.text.encoder import TextEncoder, encoder_of, load_text_encoder, reward_encoder
from core.train.curves import plot_curves
from core.train.loop import choose_precision, pick_device

_NICE = 10  # on POSIX: a page on the same cores goes first


def _live_align() -> AlignConfig:
    """Fewer, smaller and bolder updates than `align` makes: a person waits for them.

    Half of the steps are trained: a taste such as "calmer" is settled early, where a motion still has no details.
    Who prefers faster or rougher movement is to get it, and calm motions differ less from each other, so those limits
    are wide. What ends the step of a strong taste is the reward without votes: where it falls far, the text suffers;
    or that takes are preferred by 0.8 logits (69 %) on average: how much further to go, the next votes tell.
    """
    guards = GuardConfig(
        monitor_every=1,
        ema=0.8,
        max_skating_gain=1.0,
        max_acceleration_gain=1.0,
        max_diversity_loss=0.25,
        alarm_patience=1,
        alarm_tolerance=0.015,
        max_reward_gain=0.8,
        halvings=3,
    )
    return AlignConfig(steps=10, last_k=5, updates=7, batch=8, lr=4e-4, lora_alpha=6.4, guards=guards)


@dataclass(frozen=True)
class LiveConfig:
    """Learn from the votes and make a new aligned version."""

    data_dir: Path = ROOT / "data"  # folder of the votes, the motions and the versions made here
    checkpoints: Path = ROOT / "checkpoints"  # folder of the shipped models
    reward: str = VOTES_BUILD_ON  # folder below checkpoints of the reward that votes build on
    database: str | None = None  # SQLAlchemy URL of the votes; SQLite in data_dir if not given
    device: str = "auto"
    annotator: str = ""  # learn from the votes signed with this name; empty: from everyone's
    parent: str = ""  # version to start from; empty: the one in use, if it is not somebody else's taste
    min_votes: int = MIN_VOTES  # fewer are refused
    held_out_prompts: int = 6  # that the monitors and stop rules look at; 0 = none of them
    threads: int = 0  # CPU threads; 0 = half of the cores, the others are the page's
    align: AlignConfig = field(default_factory=_live_align)

    def __post_init__(self) -> None:
        if self.min_votes < 1:
            raise ValueError(f"min_votes={self.min_votes} must be at least 1.")
        if self.align.lora_rank < 1:
            raise ValueError(
                f"align.lora_rank={self.align.lora_rank}: a version is kept as adapters. Set --align.lora-rank to 1 "
                "or more."
            )
        check_held_out(self.held_out_prompts)


def refine_and_align(config: LiveConfig, job: str | None = None) -> Version:
    """Make the next version from the votes that stand and take it into use.

    job: names the work folder, whose metrics.jsonl tells the progress (core.learning.progress). ValueError, as a
    sentence, for too few votes, a version that can't be loaded, or while another job works on the same data folder.
    A step that fails leaves nothing behind. Side effects: priority and number of threads of this process.
    """
    versions = VersionStore(config.checkpoints, config.data_dir)
    try:
        with versions.lock():
            return _in_work_folder(config, versions, job or uuid.uuid4().hex[:12])
    except filelock.Timeout as error:
        raise ValueError(f"A version is already being made in {versions.folder}. Wait for it, or cancel it.") from error


def _in_work_folder(config: LiveConfig, versions: VersionStore, job: str) -> Version:
    work = versions.work_folder(job)
    work.mkdir()
    try:
        with Progress(work) as progress:
            _Step(config, versions, job, work, progress).run()
        return versions.publish(work)
    except BaseException:
        versions.discard(job)
        raise


@dataclass
class _Step:
    """What the phases of one step share."""

    config: LiveConfig
    versions: VersionStore
    job: str
    work: Path
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)  # when each phase ended, since the start

    def run(self) -> None:
        """All phases; leaves a whole version in the work folder."""
        self.progress.report("load")
        self.store = PreferenceStore(self.config.data_dir, self.config.database)
        pairs = self._pairs()
        start = self.versions.start(self.config.parent or self.versions.parent_for(self.config.annotator))
        self.device = _prepare_process(self.config)
        votes_encoder = load_text_encoder(RewardModel.reads, self.device)
        self.progress.report("load", 0.5)
        self.model = load_diffusion(self.config.checkpoints, self.device, start.base)
        self.schedule = self._schedule()
        self._ended("load")
        reward = self._refine(pairs, votes_encoder)
        self._ended("refine")
        result = self._align(start, reward, [pair.prompt for pair in pairs])
        self._ended("align")
        self._save(start, reward, result, len(pairs))

    def _schedule(self) -> DdimSchedule:
        levels = getattr(self.model, "schedule", SCHEDULER)
        return from_diffusers(make_scheduler(SamplerConfig(self.config.align.steps), levels), self.config.align.eta)

    def _ended(self, phase: str) -> None:
        self.seconds[phase] = self.progress.report(phase, 1.0)

    def _pairs(self) -> list[PreferencePair]:
        pairs = vote_pairs(self.store, self.config.annotator or None)
        if len(pairs) < self.config.min_votes:
            whose = f"of {self.config.annotator!r} " if self.config.annotator else ""
            raise ValueError(
                f"There are {len(pairs)} votes {whose}to learn from, {self.config.min_votes} are needed. Vote more."
            )
        return pairs

    def _refine(self, pairs: Sequence[PreferencePair], encoder: TextEncoder) -> PreferenceReward:
        def callback(step: int, total: int, info: dict[str, Any]) -> None:
            self.progress.report("refine", step / total, **info)

        base = load_reward(self.config.checkpoints, self.device, self.config.reward)
        refining = RefineConfig(annotator=self.config.annotator)
        vectors = VectorFile(self.config.data_dir / "vectors", base)
        reward = refine(base, pairs, self.store.motions.load, encoder, refining, callback, vectors)
        self.progress.report("refine", 1.0, learnt=reward.explain())
        return reward

    def _align(self, start: Start, reward: PreferenceReward, voted: Sequence[str]) -> AlignResult:
        config, prompts = self.align_config(start), training_prompts(voted)
        files = RunFolder(self.work / "align", config)
        encoder = encoder_of(self.model, self.device)
        seen_by = reward_encoder(encoder, reward.base.reads, self.device)
        held_out = held_out_batch(self.config.held_out_prompts, prompts, encoder, self.device, seen_by)
        watched = EnsembleReward([reward], [reward.base])
        run = AlignRun(self.model, watched, self.schedule, config, files, held_out, start.scaled(_scale(config)))
        batches = PromptBatches(prompts, encoder, config.batch, config.seed, self.device, seen_by)
        if run.watch is not None:
            self._tell(0.0, run.watch.rules.baseline)
        while run.update < config.updates and run.stopped is None:
            info = run.finish_update(run.step(batches(run.update)), 0.0)
            self._tell(run.update / config.updates, info.get("monitors", {}))
        if run.stopped and not run.moved:
            raise ValueError(f"No version was made: {run.stopped} Vote on more pairs, then try again.")
        shutil.rmtree(files.path)  # what resuming would need; a step is short enough to be done again
        return run.finish()

    def _tell(self, done: float, monitors: Mapping[str, float]) -> None:
        self.progress.report("align", done, **{f"held_out_{name}": value for name, value in monitors.items()})

    def align_config(self, start: Start) -> AlignConfig:
        """The settings of alignment with what this machine and the rank of the parent's adapters ask for."""
        align = self.config.align
        fast = choose_precision("auto", self.device)[0] == "bf16"
        changes: dict[str, Any] = {"precision": "bfloat16" if fast else align.precision}
        if start.adapters is not None:
            changes |= {"lora_rank": start.rank, "lora_alpha": _scale(align) * start.rank}
        return replace(align, save_every=align.updates, **changes)

    def _save(self, start: Start, reward: PreferenceReward, result: AlignResult, votes: int) -> None:
        live = {
            "parent": start.parent,
            "job": self.job,
            "created": now().isoformat(),
            "votes": votes,
            "annotator": self.config.annotator,
            "learnt": reward.explain(),
            "pair_accuracy": reward.report.get("accuracy"),
            "base_accuracy": reward.report.get("base_accuracy"),
            "seconds": self.seconds,
        }
        facts = {"updates": result.updates, "stopped": result.stopped, "device": self.device}
        training = {**asdict(self.config), "align": asdict(self.align_config(start))}
        del training["database"]  # may hold a password, and a version may be passed on
        meta = {**facts, "live": live, "monitors": result.monitors, "training": training}
        scale = _scale(self.config.align)
        save_adapters(self.work, result.adapters, scale, meta, start.base, self.config.checkpoints)
        reward.save(self.work / "reward", {"job": self.job})
        plot_curves(self.work / FILE, self.work / "curves.png")
        write_card(self.work, self.config.checkpoints)
        self.progress.report("save", 1.0)


def _scale(config: AlignConfig) -> float:
    """What b @ a is multiplied with; one for all versions, so that a learning rate means the same for each."""
    return config.lora_alpha / config.lora_rank


def _prepare_process(config: LiveConfig) -> str:
    """Give way to the page on the same machine; returns the device."""
    torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 2) // 2))
    if hasattr(os, "nice"):
        os.nice(max(0, _NICE - os.nice(0)))
    return pick_device(config.device)
