"""Measure models beside real motions with a judge that no fine-tuning has ever seen.

The judge enters as two plain functions, so this module knows no network. Every row is repeated with fresh noise
and fresh pools; the interval is over repeats, that of MultiModality over texts. Differences between two models are
paired by prompt: the same caption, length and noise for both, which removes the spread between prompts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core import Callback, require
from core.metrics.comparison import Takes, compare, take_figures
from core.metrics.distribution import diversity_by_motion, fid, multimodality_by_text
from core.metrics.intervals import PairedDifference, t_interval
from core.metrics.physical import physical_metrics
from core.metrics.report import REAL, EvaluationReport
from core.metrics.retrieval import (
    NEAR_MISS_SIZE,
    POOL_SIZE,
    distinct_pools,
    matching_distances,
    near_miss_groups,
    near_miss_pools,
    r_precision,
)

logger = logging.getLogger(__name__)

Features = Sequence[np.ndarray]  # N motions, each (F, 263) de-normalised
Generate = Callable[[int], Features]  # noise seed -> one motion a prompt, in the order of the prompts


@dataclass(frozen=True)
class Judge:
    """motion: N motions (F, 263) de-normalised -> (N, D); text: N captions -> (N, D)."""

    motion: Callable[[Features], np.ndarray]
    text: Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts with their real motions; actions and meanings (labels a row) switch near-miss pools on.

    They stay off where no action has enough meanings, as in data whose captions are their own meaning.
    """

    captions: Sequence[str]
    real: Features
    actions: Sequence[Hashable] | None = None  # what is done: "walk"
    meanings: Sequence[Hashable] | None = None  # all of it: ("walk", "proud", "left")

    def __post_init__(self) -> None:
        for name in ("real", "actions", "meanings"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.captions):
                raise ValueError(f"{name} has {len(values)} rows for {len(self.captions)} captions; pass one each.")
        if (self.actions is None) != (self.meanings is None):
            raise ValueError("actions and meanings come together; pass both or neither.")


@dataclass(frozen=True)
class EvaluationConfig:
    """How much is measured."""

    repeats: int = 5  # T2M uses 20
    seed: int = 0  # noise of repeat r is seed + r, the same for every model
    pool_size: int = POOL_SIZE
    near_miss_size: int = NEAR_MISS_SIZE

    def __post_init__(self) -> None:
        require(self, "repeats", low=1)
        require(self, "pool_size", "near_miss_size", low=2)
        require(self, "seed")


def default_joints(features: np.ndarray) -> np.ndarray:
    """(F, 263) -> (F, 22, 3) world joints in metres."""
    from core.motion.features import recover_joints

    return recover_joints(features)


def evaluate(
    models: Mapping[str, Generate | Features],
    judge: Judge,
    data: EvaluationSet,
    config: EvaluationConfig | None = None,
    compared: Sequence[tuple[str, str]] = (("base", "aligned"),),
    joints_of: Callable[[np.ndarray], np.ndarray] = default_joints,
    callback: Callback | None = None,
) -> EvaluationReport:
    """Score every model and the real motions; rows in the order real, then `models`.

    models: name -> function of a noise seed, or finished motions (a VAE's reconstructions), one a prompt.
    compared: (a, b) pairs of names; the report tells every figure of b less that of a, paired by prompt; absent names
    are skipped. Raises ValueError when a model returns another number of motions than there are prompts.
    """
    config = config or EvaluationConfig()
    if data.actions and not near_miss_groups(data.actions, data.meanings or (), config.near_miss_size):
        logger.warning("near-miss R@1 is left out: no action has %d meanings here", config.near_miss_size)
    text, real = judge.text(data.captions), judge.motion(data.real)
    sources: dict[str, Generate | Features] = {REAL: data.real, **models}
    rows: dict[str, list[_Row]] = {name: [] for name in sources}
    for repeat in range(config.repeats):
        for done, (name, source) in enumerate(sources.items()):
            if callable(source) or repeat == 0:
                embedding, physical = _look(name, source, config.seed + repeat, judge, data, joints_of)
            else:  # finished motions: only the pools are drawn again
                embedding, physical = rows[name][0].embedding, rows[name][0].physical
            rows[name].append(_mark(text, embedding, real, data, config, repeat, physical))
            logger.info("repeat %d/%d %s: %s", repeat + 1, config.repeats, name, rows[name][-1].figures)
            if callback:
                callback(repeat * len(sources) + done + 1, config.repeats * len(sources), {"row": name})
    return _report(rows, real, sources, config, compared)


@dataclass(frozen=True)
class _Row:
    """One repeat of one model."""

    figures: dict[str, float]
    by_prompt: dict[str, np.ndarray]  # (N,) each
    physical: dict[str, np.ndarray]  # (N,) each
    embedding: np.ndarray  # (N, E)


def _look(
    name: str,
    source: Generate | Features,
    seed: int,
    judge: Judge,
    data: EvaluationSet,
    joints_of: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The judge's embeddings (N, E) and the physical metrics of one model's motions."""
    motions = source(seed) if callable(source) else source
    if len(motions) != len(data.captions):
        raise ValueError(f"{name} gave {len(motions)} motions for {len(data.captions)} prompts.")
    return judge.motion(motions), physical_by_prompt(motions, joints_of)


def _mark(
    text: np.ndarray,
    embedding: np.ndarray,
    real: np.ndarray,
    data: EvaluationSet,
    config: EvaluationConfig,
    repeat: int,
    physical: dict[str, np.ndarray],
) -> _Row:
    pools, near = _pools(data, config, repeat)
    figures = judge_metrics(text, embedding, real, data, config, repeat) | _means(physical)
    return _Row(figures, take_figures(text, embedding, pools, near) | physical, physical, embedding)


PHYSICAL = ("skating", "acceleration", "jerk", "penetration", "bone_stretch")


def physical_by_prompt(
    motions: Features, joints_of: Callable[[np.ndarray], np.ndarray] = default_joints
) -> dict[str, np.ndarray]:
    """Physical metrics (N,) of N motions; skating is NaN where no foot ever touches the floor."""
    rows = [physical_metrics(joints_of(features)) for features in motions]
    return {name: np.array([row[name] for row in rows]) for name in PHYSICAL}


def mean_physical(motions: Features, joints_of: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Physical metrics averaged over motions; a motion without any foot contact has no skating and is left out."""
    return _means(physical_by_prompt(motions, joints_of))


def _means(by_prompt: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: t_interval(values).mean for name, values in by_prompt.items()}


def _pools(data: EvaluationSet, config: EvaluationConfig, repeat: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Pools and near-miss pools; they depend on the repeat only, the same for every model."""
    rng = np.random.default_rng([config.seed, repeat])
    pools = distinct_pools(data.meanings or data.captions, rng, config.pool_size)
    actions, meanings, size = data.actions or (), data.meanings or (), config.near_miss_size
    near = near_miss_pools(actions, meanings, rng, size) if near_miss_groups(actions, meanings, size) else None
    return pools, near


def judge_metrics(
    text: np.ndarray,
    motion: np.ndarray,
    real: np.ndarray,
    data: EvaluationSet,
    config: EvaluationConfig,
    repeat: int,
) -> dict[str, float]:
    """All embedding metrics of one repeat. The pools depend on the repeat only: every model meets the same ones."""
    pools, near = _pools(data, config, repeat)
    precision = r_precision(text, motion, pools)
    values = {f"r_precision_{k}": float(p) for k, p in enumerate(precision, start=1)}
    if near is not None:
        values["near_miss_1"] = float(r_precision(text, motion, near, top_k=1)[0])
    values["mm_dist"] = float(matching_distances(text, motion).mean())
    values["fid"] = fid(real, motion)
    values["diversity"] = float(diversity_by_motion(motion).mean())
    return values


def _report(
    measured: Mapping[str, Sequence[_Row]],
    real: np.ndarray,
    sources: Mapping[str, Generate | Features],
    config: EvaluationConfig,
    compared: Sequence[tuple[str, str]],
) -> EvaluationReport:
    rows = {}
    for name, repeats in measured.items():
        rows[name] = {metric: t_interval([row.figures[metric] for row in repeats]) for metric in repeats[0].figures}
        if callable(sources[name]) and config.repeats > 1:
            takes = np.stack([row.embedding for row in repeats], axis=1)
            rows[name]["multimodality"] = t_interval(multimodality_by_text(takes))
    settings = {
        "prompts": len(real),
        "repeats": config.repeats,
        "seed": config.seed,
        "pool_size": config.pool_size,
        "near_miss_size": config.near_miss_size,
    }
    return EvaluationReport(rows, _differences(measured, real, config, compared), settings)


def _differences(
    measured: Mapping[str, Sequence[_Row]],
    real: np.ndarray,
    config: EvaluationConfig,
    compared: Sequence[tuple[str, str]],
) -> dict[str, dict[str, PairedDifference]]:
    """{"aligned - base": {metric: paired difference}}."""
    takes = {
        name: Takes(
            np.stack([row.embedding for row in rows]),
            {metric: np.stack([row.by_prompt[metric] for row in rows]) for metric in rows[0].by_prompt},
        )
        for name, rows in measured.items()
    }
    return {
        f"{b} - {a}": compare(takes[a], takes[b], real, np.random.default_rng(config.seed))
        for a, b in compared
        if a in takes and b in takes
    }
