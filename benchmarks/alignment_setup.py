"""What is compared and on what: variants as data, settings, models, prompts.

Every row trains its method's published loss: no guards, every step's reward weighted alike. What may differ from that
is set by `--align.noise-power` and `--align.guards...`, for all rows alike, or comes with the rows of GUARDED and with
easytune-fast: two of the last ten steps are trained, so that there are more prompts, and the policy is averaged;
easytune-fast+realism is that with half the prompts and real motions of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from core import require
from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import AlignBatch
from core.align.guards import EnsembleReward, embedding_reward
from core.align.run import AlignRun
from core.align.run_files import RunFolder
from core.commands.align import any_reward, prompt_batches
from core.data.captions import surprise
from core.data.dataset import MotionSet, SetConfig, load_set
from core.diffusion.ddim import from_diffusers
from core.diffusion.rollout import SamplerConfig, make_scheduler, sample_motions
from core.models.checkpoint import fingerprint, load_diffusion
from core.motion.skeleton import N_FEATURES
from core.text.encoder import TextEncoder, load_text_encoder
from core.train.loop import pick_device
from core.train.run_record import content, plain
from core.train.tasks import to_tensors

BARE = GuardConfig(anchor_weight=0.0, ema=0.0, monitor_every=0)  # as published; an average would favour many updates
PUBLISHED = AlignConfig(steps=50, last_k=None, prefix_stride=5, noise_power=0.0, micro_batch=8, lr=1.5e-4, guards=BARE)
RATES = {  # 50 optimiser steps a batch diverge at the rate that suits ten, a single one hardly moves
    "easytune-all": 2e-5, "terminal-gradient": 2e-5, "draft-1": 5e-4, "draft-10": 3e-4, "draft-50": 3e-4,
    "draft-lv": 5e-4, "alignprop": 3e-4, "drtune": 3e-4, "refl": 5e-4, "easytune-fast": 4e-4,
    "easytune-fast+realism": 6e-4, "terminal-gradient-fast": 4e-4,
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One row of the tables: a method of core.align.plans, how many last steps it trains, and its guards."""

    method: str
    last_k: int | float | None = None  # number of steps, share of T, or None for all
    guards: Mapping[str, float] = field(default_factory=dict)  # fields of GuardConfig that differ
    trained_stride: int = 1  # of the last_k steps every so many-th is trained
    ensemble: bool = False
    saturates: bool = False  # at the mean reward of real motions

    def trained_steps(self, steps: int) -> int | None:
        """last_k for T = steps, never more than T."""
        if self.last_k is None:
            return None
        return min(steps, max(1, round(self.last_k * steps)) if isinstance(self.last_k, float) else self.last_k)


_FIFTH = 0.2  # 10 of 50 steps, as published
ALL_GUARDS = {"anchor_weight": 0.5, "ema": 0.99, "physical_weight": 0.1}  # ten batches of EasyTune in the mean
METHODS = {
    "easytune": Variant("easytune", _FIFTH),
    "easytune-all": Variant("easytune"),
    "terminal-gradient": Variant("terminal-gradient"),
    "draft-1": Variant("draft", 1),
    "draft-10": Variant("draft", 10),
    "draft-50": Variant("draft"),
    "draft-lv": Variant("draft-lv"),
    "alignprop": Variant("alignprop"),
    "drtune": Variant("drtune", 5),
    "refl": Variant("refl"),
}
STRIDED = {
    "easytune-fast": Variant("easytune", _FIFTH, {"ema": 0.97}, trained_stride=5),
    "easytune-fast+realism": Variant("easytune", _FIFTH, {"ema": 0.97, "realism_weight": 1.0}, trained_stride=5),
    "easytune-all-fast": Variant("easytune", None, {"ema": 0.97}, trained_stride=5),
    "terminal-gradient-fast": Variant("terminal-gradient", _FIFTH, {"ema": 0.97}, trained_stride=5),
}
GUARDED = {
    "easytune+anchor": Variant("easytune", _FIFTH, {"anchor_weight": ALL_GUARDS["anchor_weight"]}),
    "easytune+ema": Variant("easytune", _FIFTH, {"ema": ALL_GUARDS["ema"]}),
    "easytune+physical": Variant("easytune", _FIFTH, {"physical_weight": ALL_GUARDS["physical_weight"]}),
    "easytune+saturation": Variant("easytune", _FIFTH, saturates=True),
    "easytune+realism": Variant("easytune", _FIFTH, {"realism_weight": 1.0}),
    "easytune+ensemble": Variant("easytune", _FIFTH, ensemble=True),
    "easytune+guards": Variant("easytune", _FIFTH, ALL_GUARDS, ensemble=True, saturates=True),
}
VARIANTS = {**METHODS, **STRIDED, **GUARDED}


MINUTES = {"draft-50": 70.0, "easytune-fast": 9.6, "easytune-fast+realism": 9.6}  # a 7.3rd of DRaFT-50's
CLOCKS = {"wall": "seconds", "cpu": "cpu_seconds"}  # --clock -> the time of a look
OUT = Path("outputs/benchmark-alignment")


@dataclass(frozen=True)
class Benchmark:
    """Measure reward fine-tuners side by side. Run the same command again after a kill: finished parts are kept."""

    methods: tuple[str, ...] = (*METHODS, *STRIDED)  # rows; also easytune+anchor, +ema, ...: see GUARDED
    ablation: bool = False  # each guard of EasyTune alone, none and all, instead of `methods`
    shown: tuple[str, ...] = ()  # rows of the report and its figure; none: all that the folder holds
    stages: tuple[Literal["cost", "curves"], ...] = ("cost", "curves")  # memory and time; learning curves
    seeds: tuple[int, ...] = (0, 1, 2)  # of the curves: adapters, prompts, noise, noise of the test prompts
    minutes: float = 7.0  # training time a method and seed; evaluating does not count
    minutes_of: dict[str, float] = field(default_factory=lambda: dict(MINUTES))  # ... where it differs
    lr_of: dict[str, float] = field(default_factory=lambda: dict(RATES))  # learning rate where it differs from align.lr
    clock: Literal["wall", "cpu"] = "wall"  # cpu: processor seconds, for a machine that is shared with other work
    points: int = 12  # evaluations a curve, at times that grow geometrically
    earliest: float = 0.2  # first of them, as a share of the time
    prompts: int = 64  # fixed validation prompts of the curves
    test_prompts: int = 128  # fixed test prompts, looked at once at the end of a curve
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(12, solver="dpm++"))  # of all evaluations
    memory_steps: tuple[int, int] = (10, 50)  # T of the two memory measurements; the longer one is timed
    frames: int = 160  # of every motion while memory and time are measured
    repeats: int = 2  # timed trajectories a method, after the first one
    rewards: tuple[str, ...] = ("reward-spl", "reward-b")  # folders below checkpoints; several: their mean
    ensemble: tuple[str, ...] = ("reward", "reward-b", "reward-spl")  # of the ensemble rows; empty: without these rows
    train_items: int = 6000  # composed items that training prompts are drawn from
    archive: Path = Path("data/bandai-namco.npz")  # made by `python -m core prepare`
    checkpoints: Path = Path("checkpoints")  # folder of the models
    out: Path = OUT  # folder of the report and all that is finished; --scale laptop and --smoke have one beside it
    device: str = "auto"  # cpu, cuda or mps; auto takes what is there
    threads: int = 0  # CPU threads; 0 leaves PyTorch's choice
    scale: Literal["full", "laptop"] = "full"  # laptop: all rows and 3 seeds in two to three hours of one core
    smoke: bool = False  # tiny settings, motions of the base in place of the archive: does everything run?
    align: AlignConfig = PUBLISHED  # of all rows

    def __post_init__(self) -> None:
        unknown = [name for name in (*self.methods, *self.shown, *self.minutes_of, *self.lr_of) if name not in VARIANTS]
        if unknown:
            raise ValueError(f"methods={unknown} are unknown. Choose from {', '.join(VARIANTS)}.")
        if min([self.minutes, *self.minutes_of.values()]) <= 0 or not 0 < self.earliest < 1:
            raise ValueError(f"minutes={self.minutes} must be above 0 and earliest={self.earliest} within (0, 1).")
        require(self, "points", "repeats", "prompts", "test_prompts", low=1)
        require(self, "threads", "train_items")
        if not self.rewards or not self.seeds:
            raise ValueError(f"rewards={self.rewards} and seeds={self.seeds} must not be empty.")

    @property
    def names(self) -> list[str]:
        """The rows to measure."""
        names = ["easytune", *GUARDED] if self.ablation else list(self.methods)
        return [name for name in names if self.ensemble or not VARIANTS[name].ensemble]

    def seconds_of(self, name: str) -> float:
        """Training time of one curve of a row."""
        return 60 * self.minutes_of.get(name, self.minutes)


def scaled(config: Benchmark) -> Benchmark:
    """The settings of --scale and --smoke, whose results have a folder of their own unless one was chosen."""
    kind = "smoke" if config.smoke else config.scale
    change = {"smoke": tiny, "laptop": laptop}.get(kind)
    if change is None:
        return config
    return change(replace(config, out=OUT.with_name(f"{OUT.name}-{kind}")) if config.out == OUT else config)


def laptop(config: Benchmark) -> Benchmark:
    """The settings of --scale laptop: T stays 50; smaller batches, fewer prompts, shorter curves with fewer points."""
    align = replace(config.align, batch=8, micro_batch=4)
    small = {"minutes": 1.5, "minutes_of": {"draft-50": 4.5}, "points": 6, "earliest": 0.1, "repeats": 1}
    return replace(config, **small, prompts=48, test_prompts=96, align=align)  # type: ignore[arg-type]


def tiny(config: Benchmark) -> Benchmark:
    """The settings of --smoke: every row and stage, almost no work."""
    align = replace(config.align, steps=4, batch=2)
    small = {"minutes": 0.005, "minutes_of": {}, "points": 2, "earliest": 0.5, "prompts": 8, "test_prompts": 8}
    sampler = SamplerConfig(2, solver="dpm++")
    return replace(
        config, **small, seeds=config.seeds[:1], sampler=sampler, memory_steps=(2, 4), frames=40, repeats=1, align=align
    )


_HOW_MUCH = (
    "methods", "ablation", "shown", "stages", "seeds", "points", "earliest", "minutes", "minutes_of", "out", "ensemble",
    "clock", "repeats",
)  # fmt: skip
BY_NAME = {"weights": "weights of", "data": "content of", "lr_of": "learning rate of"}  # may join a folder later


def lasting(config: Benchmark, rewards: Sequence[str]) -> dict[str, Any]:
    """What results of one folder must share, weights too, as JSON; methods, minutes or looks may be added.

    Each look keeps the time of both clocks.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in _HOW_MUCH}
    models = ("vae", "base", "judge", *rewards)
    settings["lr_of"] = {name: config.lr_of.get(name, config.align.lr) for name in VARIANTS}
    settings["data"] = {} if config.smoke or not config.archive.exists() else {"archive": content(config.archive)}
    settings["weights"] = {name: fingerprint(config.checkpoints / name) for name in models}
    return plain(settings)


def _filled(found: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, and the default of what was not, in nested mappings too."""
    inner = {k: _filled(found[k], v) for k, v in defaults.items() if isinstance(v, Mapping) and k in found}
    return {**defaults, **found, **inner}


def refuse_others(found: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """ValueError where the results in a folder were measured with other settings, or other weights of a model.

    What only `now` names may join: an ensemble above all, which rows that come later read, and their learning rates.
    A setting of the alignment that the folder does not know yet had its default.
    """
    found = {**found, "align": _filled(found["align"], plain(asdict(PUBLISHED)))}
    asked = {name: value for name, value in now.items() if name in found or name != "ensemble"}
    changed = [name for name, value in asked.items() if name not in BY_NAME and found.get(name) != value]
    for name, word in BY_NAME.items():
        known = found.get(name, {})
        changed += [f"{word} {key}" for key, value in now.get(name, {}).items() if known.get(key, value) != value]
    if changed:
        raise ValueError(f"{folder} holds results of other settings ({', '.join(changed)}). Choose another --out.")


@dataclass
class World:
    """Models and prompts that all rows share; the model is never trained, rows get copies."""

    config: Benchmark
    device: torch.device
    model: Any
    encoder: TextEncoder
    rewards: dict[str, Any]
    train: MotionSet | None = None
    ceilings: dict[bool, float] = field(default_factory=dict)  # mean reward of real motions: by the ensemble, or not

    def reward(self, ensemble: bool = False) -> Any:
        """One reward model, or the mean of several."""
        names = self.config.ensemble if ensemble else self.config.rewards
        models = [self.rewards[name] for name in names]
        return models[0] if len(models) == 1 else EnsembleReward(models)

    def start(self, name: str, seed: int, steps: int, folder: Path) -> AlignRun:
        """A fresh run of a row on a copy of the base, or the state it was left in."""
        settings = self.settings(name, seed, steps)
        schedule = from_diffusers(make_scheduler(SamplerConfig(steps)), settings.eta)
        reward, model = self.reward(VARIANTS[name].ensemble), copy.deepcopy(self.model)
        run = AlignRun(model, reward, schedule, settings, RunFolder(folder, settings), None)
        run.resume()
        return run

    def settings(self, name: str, seed: int, steps: int) -> AlignConfig:
        """The alignment of a row: shared settings with its method, steps, guards and learning rate."""
        config, variant = self.config, VARIANTS[name]
        last_k = variant.trained_steps(steps)
        ceiling = {"saturation": self.ceilings.get(variant.ensemble)} if variant.saturates else {}
        guards = replace(config.align.guards, **{**variant.guards, **ceiling})  # type: ignore[arg-type]
        return replace(
            config.align, method=variant.method, steps=steps, last_k=last_k, seed=seed,
            trained_stride=min(variant.trained_stride, last_k or steps),
            guards=guards, lr=config.lr_of.get(name, config.align.lr), updates=10**7, save_every=10**7, keep_every=0,
        )  # fmt: skip

    def batches(self, settings: AlignConfig, ensemble: bool = False) -> Callable[[int], AlignBatch]:
        """Update -> training prompts, the same for every row of a seed; half as many with a realism term."""
        if self.train is None:
            raise ValueError("training prompts need load_world(config, prompts=True).")
        return prompt_batches(self.train, self.encoder, settings, self.device, self.reward(ensemble))

    def fixed_batch(self, name: str) -> AlignBatch:
        """Prompts of one length, for memory and time of a row; a realism term is held against motionless bodies."""
        size, frames = self.config.align.batch, self.config.frames
        text = self.encoder.encode([surprise(seed) for seed in range(size)]).to(self.device)
        batch = AlignBatch(text, torch.full((size,), frames, device=self.device))
        if not self.settings(name, 0, self.config.align.steps).guards.realism_weight:
            return batch
        still = torch.zeros(size, frames, N_FEATURES, device=self.device)
        with torch.no_grad():
            reward = embedding_reward(self.reward(VARIANTS[name].ensemble))
            return replace(batch, real=reward.embed_motion(still, batch.lengths))


def load_world(config: Benchmark, prompts: bool) -> World:
    """Models of a configuration; with `prompts` also training prompts and references from real motions.

    Raises FileNotFoundError or ValueError as load_diffusion and load_set do. Side effect: sets PyTorch's threads.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device(pick_device(config.device))
    names = (*config.rewards, *config.ensemble)
    rewards = {name: any_reward(config.checkpoints / name, str(device)) for name in names}
    model, encoder = load_diffusion(config.checkpoints, device), load_text_encoder("minilm", device)
    world = World(config, device, model, encoder, rewards)
    if prompts:
        world.train = motions_of(world, "train", config.train_items, 100)
        val = motions_of(world, "val", 300, 0)
        features, lengths = to_tensors(val, np.arange(min(len(val), 128)), device)
        text = encoder.encode([row[0] for row in val.captions[: len(lengths)]]).to(device)
        with torch.no_grad():
            for ensemble in (False, True) if config.ensemble else (False,):
                world.ceilings[ensemble] = float(world.reward(ensemble)(features, lengths, text).mean())
    return world


def motions_of(world: World, split: str, items: int, seed: int) -> MotionSet:
    """A split of the archive; in a smoke run motions that the base makes up, so that nothing need be fetched."""
    if world.config.smoke:
        prompts = [surprise(len(split) * 1000 + i) for i in range(8)]
        lengths = [40 + 2 * i for i in range(8)]
        return _as_set(prompts, sample_motions(world.model, world.encoder, prompts, lengths, lengths, _QUICK))
    return load_set(world.config.archive, SetConfig(split, items, seed=seed))


_QUICK = SamplerConfig(2, solver="dpm++")


def _as_set(prompts: Sequence[str], motions: Sequence[np.ndarray]) -> MotionSet:
    starts = np.cumsum([0, *map(len, motions)])
    captions = tuple((prompt,) for prompt in prompts)
    return MotionSet(np.concatenate(motions), starts, captions, tuple(prompts), tuple(prompts))
