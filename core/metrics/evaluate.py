"""Measure models beside real motions with a judge that no fine-tuning has ever seen.

The judge enters as two plain functions, so this module knows no network. Every row is repeated with fresh noise
and fresh pools; the interval is over repeats. Differences between two models are paired by prompt: the same
caption, length and noise for both, which removes the spread between prompts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.metrics.distribution import DIVERSITY_PAIRS, diversity, fid, multimodality
from core.metrics.intervals import paired_difference, t_interval
from core.metrics.physical import physical_metrics
from core.metrics.report import EvaluationReport
from core.metrics.retrieval import (
    NEAR_MISS_SIZE,
    POOL_SIZE,
    distinct_pools,
    matching_distances,
    near_miss_pools,
    r_precision,
)

logger = logging.getLogger(__name__)

Features = Sequence[np.ndarray]  # N motions, each (F, 263) de-normalised
Generate = Callable[[int], Features]  # noise seed -> one motion a prompt, in the order of the prompts
Callback = Callable[[int, int, dict], None]
REAL = "real"


@dataclass(frozen=True)
class Judge:
    """motion: N motions (F, 263) de-normalised -> (N, D); text: N captions -> (N, D)."""

    motion: Callable[[Features], np.ndarray]
    text: Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts with their real motions; actions and meanings (labels a row) switch near-miss pools on."""

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
    diversity_pairs: int = DIVERSITY_PAIRS

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} must be at least 1.")


def default_joints(features: np.ndarray) -> np.ndarray:
    """(F, 263) -> (F, 22, 3) world joints in metres."""
    from core.motion.features import recover_joints

    return recover_joints(features)


def evaluate(
    models: Mapping[str, Generate | Features],
    judge: Judge,
    data: EvaluationSet,
    config: EvaluationConfig | None = None,
    compare: Sequence[tuple[str, str]] = (("base", "aligned"),),
    joints_of: Callable[[np.ndarray], np.ndarray] = default_joints,
    callback: Callback | None = None,
) -> EvaluationReport:
    """Score every model and the real motions; rows in the order real, then `models`.

    models: name -> function of a noise seed, or finished motions (a VAE's reconstructions), one a prompt.
    compare: (a, b) pairs of names; the report tells the MM-Dist of b minus a per prompt; absent names are skipped.
    Raises ValueError when a model returns another number of motions than there are prompts.
    """
    config = config or EvaluationConfig()
    text = judge.text(data.captions)
    real = judge.motion(data.real)
    sources: dict[str, Generate | Features] = {REAL: data.real, **models}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    embedded: dict[str, list[np.ndarray]] = {name: [] for name in sources}
    for repeat in range(config.repeats):
        for done, (name, source) in enumerate(sources.items()):
            if callable(source) or repeat == 0:
                motions = source(config.seed + repeat) if callable(source) else source
                if len(motions) != len(data.captions):
                    raise ValueError(f"{name} gave {len(motions)} motions for {len(data.captions)} prompts.")
                embedding = judge.motion(motions) if name != REAL else real
                physical = mean_physical(motions, joints_of)
            else:  # finished motions: only the pools are drawn again
                embedding = embedded[name][0]
                physical = {k: measured[name][0][k] for k in PHYSICAL}
            embedded[name].append(embedding)
            measured[name].append(judge_metrics(text, embedding, real, data, config, repeat) | physical)
            logger.info("repeat %d/%d %s: %s", repeat + 1, config.repeats, name, measured[name][-1])
            if callback:
                callback(repeat * len(sources) + done + 1, config.repeats * len(sources), {"row": name})
    return _report(measured, embedded, text, sources, config, compare)


PHYSICAL = ("skating", "acceleration", "jerk", "penetration", "bone_stretch")


def mean_physical(motions: Features, joints_of: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Physical metrics averaged over motions; a motion without any foot contact has no skating and is left out."""
    rows = [physical_metrics(joints_of(features)) for features in motions]
    return {name: t_interval([row[name] for row in rows]).mean for name in PHYSICAL}


def judge_metrics(
    text: np.ndarray,
    motion: np.ndarray,
    real: np.ndarray,
    data: EvaluationSet,
    config: EvaluationConfig,
    repeat: int,
) -> dict[str, float]:
    """All embedding metrics of one repeat. The pools depend on the repeat only: every model meets the same ones."""
    rng = np.random.default_rng([config.seed, repeat])
    values: dict[str, float] = {}
    precision = r_precision(text, motion, distinct_pools(data.meanings or data.captions, rng, config.pool_size))
    values |= {f"r_precision_{k}": float(p) for k, p in enumerate(precision, start=1)}
    if data.actions is not None and data.meanings is not None:
        pools = near_miss_pools(data.actions, data.meanings, rng, config.near_miss_size)
        values["near_miss_1"] = float(r_precision(text, motion, pools, top_k=1)[0])
    values["mm_dist"] = float(matching_distances(text, motion).mean())
    values["fid"] = fid(real, motion)
    values["diversity"] = diversity(motion, rng, config.diversity_pairs)
    return values


def _report(
    measured: dict[str, list[dict[str, float]]],
    embedded: dict[str, list[np.ndarray]],
    text: np.ndarray,
    sources: Mapping[str, Generate | Features],
    config: EvaluationConfig,
    compare: Sequence[tuple[str, str]],
) -> EvaluationReport:
    rows = {}
    for name, repeats in measured.items():
        rows[name] = {metric: t_interval([values[metric] for values in repeats]) for metric in repeats[0]}
        if callable(sources[name]) and config.repeats > 1:
            rows[name]["multimodality"] = t_interval([multimodality(np.stack(embedded[name], axis=1))])
    per_prompt = {n: np.mean([matching_distances(text, e) for e in es], axis=0) for n, es in embedded.items()}
    differences = {
        f"{b} - {a}": paired_difference(per_prompt[a], per_prompt[b])
        for a, b in compare
        if a in per_prompt and b in per_prompt
    }
    settings = {
        "prompts": len(text),
        "repeats": config.repeats,
        "seed": config.seed,
        "pool_size": config.pool_size,
        "near_miss_size": config.near_miss_size,
    }
    return EvaluationReport(rows, differences, settings)
