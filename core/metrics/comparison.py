"""What one model changes against another on the same prompts, lengths and noise: every figure with its interval.

Pairing removes the spread between prompts. Figures of one prompt are averaged over the repeats first; the intervals are
over prompts. FID belongs to no prompt: its interval comes from prompts drawn anew with replacement (bootstrap), and is
wider than it need be: a prompt drawn twice leaves one fewer to estimate a covariance from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from core.metrics.distribution import diversity_by_motion, fid, multimodality_by_text
from core.metrics.intervals import LEVEL, PairedDifference, paired_bootstrap, paired_difference, share
from core.metrics.retrieval import first_hits, matching_distances

HITS = ("r_precision_1", "near_miss_1")  # 0 or 1 for each prompt and repeat
RESAMPLES = 200  # of FID, for its standard error


@dataclass(frozen=True)
class Takes:
    """One model's motions of N prompts, R times with fresh noise."""

    embeddings: np.ndarray  # (R, N, E) by the judge
    by_prompt: Mapping[str, np.ndarray]  # metric -> (R, N), NaN where it is not defined


def take_figures(
    text: np.ndarray, embedding: np.ndarray, pools: np.ndarray, near: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Judge's figures of each prompt, (N,) each, from embeddings (N, E); hits are NaN for prompts in no pool.

    pools, near: (P, S) rows of the plain and of the near-miss pools.
    """
    figures = {"r_precision_1": first_hits(text, embedding, pools)}
    if near is not None:
        figures["near_miss_1"] = first_hits(text, embedding, near)
    return {**figures, "mm_dist": matching_distances(text, embedding)}


def compare(a: Takes, b: Takes, real: np.ndarray, rng: np.random.Generator) -> dict[str, PairedDifference]:
    """Figures of b less those of a. real: (N, E) embeddings of the real motions."""
    found = {}
    for metric in a.by_prompt:
        before, after = _means(a.by_prompt[metric], b.by_prompt[metric])
        if len(before) > 1:  # a metric may be defined for no prompt
            hits = metric in HITS
            found[metric] = paired_bootstrap(before, after, rng) if hits else paired_difference(before, after)
    found["fid"] = fid_difference(a.embeddings, b.embeddings, real, rng)
    found["diversity"] = diversity_difference(a.embeddings, b.embeddings)
    if min(len(a.embeddings), len(b.embeddings)) > 1:
        before, after = (multimodality_by_text(np.moveaxis(takes.embeddings, 0, 1)) for takes in (a, b))
        found["multimodality"] = paired_difference(before, after)
    return found


def _means(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the repeats (R, N) in which both are defined, for the prompts that have one."""
    undefined = np.isnan(a) | np.isnan(b)
    prompts = ~undefined.all(0)
    before, after = (np.nanmean(np.where(undefined, np.nan, x)[:, prompts], axis=0) for x in (a, b))
    return before, after


def fid_difference(a: np.ndarray, b: np.ndarray, real: np.ndarray, rng: np.random.Generator) -> PairedDifference:
    """FID of b less that of a, each (R, N, E) and the mean over R; real (N, E) is drawn anew with the prompts."""

    def change(rows: np.ndarray) -> tuple[float, float]:
        before, after = (float(np.mean([fid(real[rows], x[rows]) for x in takes])) for takes in (a, b))
        return after - before, before

    n = len(real)
    mean, before = change(np.arange(n))
    spread = np.std([change(rng.integers(0, n, n))[0] for _ in range(RESAMPLES)], ddof=1)
    half = float(stats.norm.ppf(0.5 + LEVEL / 2) * spread)
    return PairedDifference(mean, mean - half, mean + half, share(mean, before), n)


def diversity_difference(a: np.ndarray, b: np.ndarray) -> PairedDifference:
    """Diversity of b (R, N, E) less that of a (R', N, E), each the mean over its repeats.

    A mean over pairs of prompts, a U-statistic of order 2, spreads twice as far as one over prompts (Hoeffding 1948).
    """
    change = paired_difference(*(np.mean([diversity_by_motion(x) for x in takes], axis=0) for takes in (a, b)))
    half = change.high - change.low
    return replace(change, low=change.mean - half, high=change.mean + half)
