"""A pool of takes that benchmarks of preference learning share: made once, in chunks, so that a kill costs little."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from core.data.captions import surprise
from core.diffusion.rollout import SamplerConfig, sample_motions
from core.learning.prompts import suggested_frames
from core.models.checkpoint import fingerprint, load_diffusion
from core.motion.files import atomic_write
from core.text.encoder import load_text_encoder

log = logging.getLogger(__name__)
_CHUNK = 10  # prompts a file
_FIRST_PROMPT, _FIRST_SEED = 20_000, 1_000_000  # of `surprise`, and of the noise


@dataclass(frozen=True)
class PoolConfig:
    """Which takes there are."""

    prompts: int = 150
    takes: int = 6  # of each prompt, by the versions in turn
    versions: tuple[str, ...] = ("base", "aligned")
    seed: int = 0  # other prompts and other noise
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(12, solver="dpm++"))

    def __post_init__(self) -> None:
        if self.prompts < 2 or self.takes < 2:
            raise ValueError(f"prompts={self.prompts} and takes={self.takes} must be at least 2.")


@dataclass(frozen=True)
class Pool:
    """motions[i][j]: take j of prompts[i], features (F, 263)."""

    prompts: list[str]
    motions: list[list[np.ndarray]]


def prompts_of(config: PoolConfig) -> list[str]:
    """Distinct random prompts, others for every seed."""
    drawn: dict[str, None] = {}
    number = _FIRST_PROMPT * (1 + config.seed)
    while len(drawn) < config.prompts:
        drawn[surprise(number)] = None
        number += 1
    return list(drawn)


def seed_of(config: PoolConfig, prompt: int, take: int) -> int:
    """Of the noise that a take starts from."""
    return _FIRST_SEED * (1 + config.seed) + 1000 * prompt + take


def load_pool(
    checkpoints: Path, folder: Path, config: PoolConfig, callback: Callable[[int, int, str], None] | None = None
) -> Pool:
    """The pool, from `folder` where it has been made before; raises as load_diffusion does."""
    weights = [fingerprint(checkpoints / version) for version in config.versions]
    key = hashlib.sha256(repr((weights, sorted(asdict(config).items()))).encode()).hexdigest()[:16]
    prompts, motions, models = prompts_of(config), [], {}
    for start in range(0, config.prompts, _CHUNK):
        path = folder / f"takes-{key}" / f"{start:05d}.npz"
        if not path.exists():
            models = models or {version: load_diffusion(checkpoints, "cpu", version) for version in config.versions}
            made = _sample(models, prompts[start : start + _CHUNK], start, config)
            atomic_write(path, partial(np.savez, **made))
        motions += _read(path, len(prompts[start : start + _CHUNK]), config.takes)
        if callback:
            callback(len(motions), config.prompts, "takes")
    return Pool(prompts, motions)


def _sample(models: dict, prompts: list[str], start: int, config: PoolConfig) -> dict[str, np.ndarray]:
    """Features of all takes of some prompts, named "<prompt> <take>"."""
    made = {}
    for i, (version, model) in enumerate(models.items()):
        wanted = [(p, t) for p in range(len(prompts)) for t in range(i, config.takes, len(models))]
        frames = [suggested_frames(prompts[p]) for p, _ in wanted]
        seeds = [seed_of(config, start + p, t) for p, t in wanted]
        texts = [prompts[p] for p, _ in wanted]
        rows = sample_motions(model, load_text_encoder(), texts, frames, seeds, config.sampler, batch_size=32)
        made |= {f"{p} {t}": row for (p, t), row in zip(wanted, rows, strict=True)}
        log.info("sampled %d takes by %s", len(rows), version)
    return made


def _read(path: Path, prompts: int, takes: int) -> list[list[np.ndarray]]:
    with np.load(path, allow_pickle=False) as z:
        return [[z[f"{p} {t}"] for t in range(takes)] for p in range(prompts)]
