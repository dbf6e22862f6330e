"""The protocol by which the field reports text-to-motion (Guo et al. 2022), so that figures stand beside its papers.

Where it differs from core.metrics.evaluate: the published evaluator judges; one caption of each motion is drawn anew a
repeat; pools of 32 are cut from a shuffle, so that a caption may meet its double; lengths are cut to multiples of four
frames, by one movement more in a third of the cases; Diversity draws pairs with possible repeats; MultiModality draws
10 pairs of 30 takes of 100 texts; the interval is 1.96 standard deviations over the root of the repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core import Callback
from core.data.captioned import CaptionedMotion
from core.metrics.distribution import fid, mean_pair_distance
from core.metrics.intervals import Interval
from core.metrics.report import EvaluationReport, format_interval
from core.metrics.retrieval import POOL_SIZE, matching_distances, r_precision

UNIT = 4  # frames of one movement
COLUMNS = {  # as papers print them
    "r_precision_1": "R@1 ↑",
    "r_precision_2": "R@2 ↑",
    "r_precision_3": "R@3 ↑",
    "fid": "FID ↓",
    "mm_dist": "MM-Dist ↓",
    "diversity": "Diversity →",
    "multimodality": "MModality ↑",
}
Motions = Sequence[np.ndarray]  # (F, 263) each, physical units
Generate = Callable[[Sequence[str], Sequence[int], int], Motions]  # captions, frames, seed of the noise


@dataclass(frozen=True)
class OfficialConfig:
    """Defaults: as published."""

    repeats: int = 20
    texts: int = 100  # of MultiModality; 0 leaves it out
    takes: int = 30  # of each of these texts
    pairs: int = 10  # of takes
    diversity_pairs: int = 300  # drawn at random, T2M
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.texts < 0 or not 1 <= self.pairs <= self.takes:
            raise ValueError(
                f"repeats={self.repeats} must be at least 1, texts={self.texts} not negative, "
                f"pairs={self.pairs} in 1-{self.takes}, the takes."
            )


@dataclass(frozen=True)
class Evaluator:
    """motion: N motions (F, 263), physical units -> (N, E); text: N tagged captions ("a/DET man/NOUN") -> (N, E)."""

    motion: Callable[[Motions], np.ndarray]
    text: Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Draw:
    """What one repeat measures on: a caption of every motion, tagged and plain, and the motion cut to length."""

    captions: list[str]
    tokens: list[str]
    motions: list[np.ndarray]

    @property
    def frames(self) -> list[int]:
        """Length of every motion."""
        return [len(motion) for motion in self.motions]


def draw(motions: Sequence[CaptionedMotion], rng: np.random.Generator) -> Draw:
    """A caption and a cut of every motion, in an order of its own each time."""
    out = Draw([], [], [])
    for i in rng.permutation(len(motions)):
        motion = motions[i]
        pick = rng.integers(len(motion.captions))
        frames = max(1, len(motion.features) // UNIT - int(rng.random() < 1 / 3)) * UNIT
        start = rng.integers(len(motion.features) - frames + 1)
        out.captions.append(motion.captions[pick])
        out.tokens.append(motion.tokens[pick])
        out.motions.append(motion.features[start : start + frames].astype(np.float32))
    return out


def scores(
    text: np.ndarray, motion: np.ndarray, real: np.ndarray, rng: np.random.Generator, config: OfficialConfig
) -> dict[str, float]:
    """One repeat's figures of embeddings text (N, E), motion (N, E) and those of real motions (M, E)."""
    pools = rng.permutation(len(text))[: len(text) // POOL_SIZE * POOL_SIZE].reshape(-1, POOL_SIZE)
    precision = r_precision(text, motion, pools)
    values = {f"r_precision_{k}": float(share) for k, share in enumerate(precision, start=1)}
    values["mm_dist"] = float(matching_distances(text, motion)[pools.ravel()].mean())
    values["fid"] = fid(real, motion)
    pairs = min(config.diversity_pairs, len(motion))
    first, second = (rng.choice(len(motion), pairs, replace=False) for _ in range(2))
    return values | {"diversity": mean_pair_distance(motion, first, second)}


def multimodality(takes: np.ndarray, rng: np.random.Generator, pairs: int) -> float:
    """Mean distance of random pairs of takes of one text; takes: (texts, takes, E)."""
    first, second = (rng.choice(takes.shape[1], pairs, replace=False) for _ in range(2))
    return mean_pair_distance(takes, first, second)


def evaluate_officially(
    models: Mapping[str, Generate],
    evaluator: Evaluator,
    motions: Sequence[CaptionedMotion],
    config: OfficialConfig | None = None,
    callback: Callback | None = None,
) -> EvaluationReport:
    """Rows: real motions, then `models`. ValueError for fewer than 32 motions and captions whose words have no tags."""
    config = config or OfficialConfig()
    _check(motions)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ("real", *models)}
    for repeat in range(config.repeats):
        drawing, pooling, pairing = np.random.SeedSequence([config.seed, repeat]).spawn(3)  # the same for every row
        drawn = draw(motions, np.random.default_rng(drawing))
        text, real = evaluator.text(drawn.tokens), evaluator.motion(drawn.motions)
        measured["real"].append(scores(text, real, real, np.random.default_rng(pooling), config))
        for done, (name, generate) in enumerate(models.items(), start=1):
            seed = config.seed + repeat
            made = evaluator.motion(generate(drawn.captions, drawn.frames, seed))
            values = scores(text, made, real, np.random.default_rng(pooling), config)
            if config.texts:
                takes = _takes(generate, evaluator, drawn, seed, config)
                values["multimodality"] = multimodality(takes, np.random.default_rng(pairing), config.pairs)
            measured[name].append(values)
            if callback:
                callback(repeat * len(models) + done, config.repeats * len(models), {"row": name})
    rows = {
        name: {metric: _interval([v[metric] for v in values]) for metric in values[0]}
        for name, values in measured.items()
    }
    return EvaluationReport(rows, settings={"protocol": "T2M", "motions": len(motions), "repeats": config.repeats})


def _check(motions: Sequence[CaptionedMotion]) -> None:
    if len(motions) < POOL_SIZE:
        raise ValueError(f"{len(motions)} motions are fewer than the pool of {POOL_SIZE}. Evaluate on the whole split.")
    if untagged := [m.name for m in motions if len(m.tokens) != len(m.captions) or not all(m.tokens)]:
        raise ValueError(
            f"{len(untagged)} motions ({untagged[0]} ...) have captions without word/TAG tokens, which this evaluator "
            "reads. Use HumanML3D or KIT-ML, prepared by this version."
        )


def _takes(generate: Generate, evaluator: Evaluator, drawn: Draw, seed: int, config: OfficialConfig) -> np.ndarray:
    """Embeddings (texts, takes, E) of the first texts of a draw, which is in random order."""
    captions, frames = drawn.captions[: config.texts], drawn.frames[: config.texts]
    many = [generate(captions, frames, 1_000 + seed * config.takes + take) for take in range(config.takes)]
    return np.stack([evaluator.motion(made) for made in many], axis=1)


def _interval(values: Sequence[float]) -> Interval:
    """As published: population spread, 1.96."""
    return Interval(float(np.mean(values)), float(1.96 * np.std(values) / np.sqrt(len(values))), len(values))


def paper_table(report: EvaluationReport) -> str:
    """A method a row, in the columns of the field's papers."""
    columns = {k: title for k, title in COLUMNS.items() if any(k in cells for cells in report.rows.values())}
    lines = [f"| method | {' | '.join(columns.values())} |", f"| --- |{' --- |' * len(columns)}"]
    for name, cells in report.rows.items():
        lines.append(f"| {name} | {' | '.join(format_interval(cells.get(k)) for k in columns)} |")
    return "\n".join(lines) + "\n"
