"""A shipped reward refines itself: SPL on near misses, and on votes if there are any; measured before and after."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from core import Callback
from core.data.dataset import SetConfig, load_set
from core.data.mixture import mix
from core.data.motion_set import MotionSet
from core.data.near_misses import NearMissConfig, load_near_misses
from core.metrics.retrieval import NEAR_MISS_SIZE, POOL_SIZE
from core.models.checkpoint import load_module
from core.models.reward import RewardModel
from core.text.encoder import CaptionCache
from core.train.loop import LoopConfig, pick_device
from core.train.run import DataConfig, caption_cache, motion_sets, run_task, save_trained
from core.train.spl_task import HeldOut, SplConfig, SplTask, retrieval_figures
from core.train.votes import load_votes


@dataclass(frozen=True)
class Refine:
    """Sharpen a reward on its own retrieval failures (SPL), and on votes, and tell what that changed."""

    name: str = "reward"  # the checkpoint to start from
    out: Path | None = None  # folder of the refined weights; <name>-spl beside it if not given, <name>-votes with votes
    data: DataConfig = field(default_factory=lambda: DataConfig(val_items=500))
    votes: Path | None = None  # data folder of an arena, whose votes are learnt from too
    database: str | None = None  # SQLAlchemy URL of the votes, as for app.py; SQLite in that folder if not given
    near_pools: int = 3000  # pools of near misses made for training
    held_out_pools: int = 150  # ... and for validation
    near_size: int = NEAR_MISS_SIZE  # motions of such a pool
    plain_size: int = POOL_SIZE  # motions of a plain pool, when measured
    keep: float = 0.7  # share of the change of the weights that is kept: sheds more drift than gain
    spl: SplConfig = field(default_factory=SplConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=2800, batch_size=64, learning_rate=8e-4, warmup=40, ema=0.99, save_every=50, validate_every=200
        )
    )
    test: bool = False  # measure on the test split as well; only when everything has been decided

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0:
            raise ValueError(f"keep={self.keep} is outside 0-1. It is a share of the change.")
        if self.database is not None and self.votes is None:
            raise ValueError("--database tells where votes are; give --votes too, the folder with their motions.")

    @property
    def folder(self) -> Path:
        """Where the refined weights go."""
        return self.out or self.data.checkpoints / f"{self.name}-{'votes' if self.votes else 'spl'}"


Figures = dict[str, dict[str, float]]  # "before" and "after" -> what retrieval_figures measures


def refine_reward(config: Refine, callback: Callback | None = None, command: str | None = None) -> dict[str, Figures]:
    """Train, write config.folder, and return split -> figures. command: what its card shall say made it.

    Resumes from runs/refine-<name of the folder>, with votes from one that is named after them too: new votes start
    anew. Raises FileNotFoundError or ValueError as load_module, load_set and load_votes do.
    """
    loop, data = config.loop, config.data
    torch.manual_seed(loop.seed)
    shipped = _load(data.checkpoints / config.name, "cpu")
    plain, val = motion_sets(data)
    votes = load_votes(config.votes, config.database, plain, config.spl.sources) if config.votes else None
    config = replace(config, database=None)  # a URL may hold a password; from here on it is only written down
    near = load_near_misses(data.archive, NearMissConfig("train", config.near_pools, config.near_size))
    train = mix([plain, near], [1.0, 1.0])
    held_out = HeldOut(val, _edited(config, "val"), config.near_size, config.plain_size)
    texts = [(plain, val), (near, held_out.edited), *([(votes.motions,)] if votes else [])]
    cache = CaptionCache.merge([caption_cache(data, *sets) for sets in texts])
    model = _load(data.checkpoints / config.name, pick_device(loop.device)).requires_grad_(True)
    run = f"refine-{config.folder.name}" + (f"-{votes.digest}" if votes else "")
    task = SplTask(model, train, held_out, cache, loop.batch_size, loop.seed, config.spl, votes)
    trained, minutes = run_task(run, task, config, callback, data.checkpoints / config.name)
    interpolate(trained, shipped, config.keep)
    typed = f"python -m core refine --name {config.name} --loop.seed {loop.seed}"
    command = command or typed + (f" --votes {config.votes}" if votes else "")
    save_trained(config.folder.name, task, config, trained, minutes, command, config.folder)
    refined = cast(RewardModel, trained)
    report = {"val": _before_and_after(shipped, refined, held_out, cache)}
    if config.test:
        plain = load_set(data.archive, SetConfig("test", 300))
        tested = HeldOut(plain, _edited(config, "test"), config.near_size, config.plain_size)
        report["test"] = _before_and_after(shipped, refined, tested, caption_cache(data, tested.plain, tested.edited))
    return report


@torch.no_grad()
def interpolate(module: nn.Module, origin: nn.Module, keep: float) -> None:
    """Pull the weights of `module` back towards those of `origin`, in place; keep = 1 leaves them (Wortsman 2022)."""
    for weight, start in zip(module.parameters(), origin.parameters(), strict=True):
        weight.copy_(torch.lerp(start.to(weight), weight, keep))


def _load(folder: Path, device: str) -> RewardModel:
    module = load_module(folder, device)
    if not isinstance(module, RewardModel):
        raise ValueError(f"{folder} holds a {type(module).__name__}; SPL refines a RewardModel.")
    return module


def _edited(config: Refine, split: str) -> MotionSet:
    return load_near_misses(config.data.archive, NearMissConfig(split, config.held_out_pools, config.near_size))


def _before_and_after(shipped: RewardModel, refined: RewardModel, data: HeldOut, cache: CaptionCache) -> Figures:
    device = refined.feature_mean.device
    models = {"before": shipped.to(device), "after": refined}
    return {name: retrieval_figures(model, data, cache) for name, model in models.items()}
