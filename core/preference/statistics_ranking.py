"""Ranking of model versions from their duels: Bradley-Terry strengths on the Elo scale, with bootstrap intervals.

Bradley & Terry 1952: P(i beats j) = p_i / (p_i + p_j). Maximum likelihood by Hunter's MM iteration (2004):

    p_i <- W_i / sum_j N_ij / (p_i + p_j)          W_i wins of i, N_ij duels of i and j

A tie, and "both bad", is half a win for each side. Votes of one person, or about one prompt, hang together, so the
bootstrap refits to resampled votes, to resampled annotators and to resampled prompts. Each gives Hesterberg's expanded
percentile interval (2015), stretched by t / z and sqrt(G / (G - 1)) for G clusters; their distances from the estimate
are united as Cameron, Gelbach & Miller (2011) unite variances, annotators^2 + prompts^2 - votes^2, and none is left
out. Fewer people or prompts than MIN_CLUSTERS are taken as they are: the interval then speaks of them alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from core.preference.statistics import Z_95, Judgement, duels

ELO_MEAN = 1000.0  # of the versions compared
ELO_PER_LOG = 400.0 / np.log(10.0)  # 400 points are odds of ten to one
PRIOR_DRAWS = 0.1  # between any two versions: keeps a version that never lost, or was never compared, finite
MIN_CLUSTERS = 5  # from as many annotators, or prompts, they are resampled
_TOLERANCE = 1e-6  # of the logarithm of a strength
_MAX_ITERATIONS = 10_000


@dataclass(frozen=True)
class Rank:
    """One version's place: Elo points with the 95 % interval."""

    version: str
    elo: float
    low: float
    high: float


def rank_versions(judgements: Sequence[Judgement], resamples: int = 1000, seed: int = 0) -> list[Rank]:
    """Versions, the strongest first; empty where nothing was compared. The votes are those of `duels`."""
    compared = duels(judgements)
    versions = sorted({version for j in compared for version in (j.left_version, j.right_version)})
    if not versions:
        return []
    kinds = [_result(j) for j in compared]
    groupings: list[list[Hashable]] = [[j.annotator for j in compared], [j.prompt for j in compared]]
    clustered = [_by_cluster(kinds, names, versions) for names in groupings if len(set(names)) >= MIN_CLUSTERS]
    elo = ELO_MEAN + ELO_PER_LOG * bradley_terry(_by_cluster(kinds, [0] * len(compared), versions)[0])
    rng = np.random.default_rng(seed)
    intervals = [_interval(elo, *_votes(kinds, versions), len(compared), resamples, rng)]
    intervals += [_interval(elo, wins, np.ones(len(wins)), len(wins), resamples, rng) for wins in clustered]
    low, high = _united(elo, intervals)
    ranks = [Rank(version, *map(float, row)) for version, *row in zip(versions, elo, low, high, strict=True)]
    return sorted(ranks, key=lambda rank: -rank.elo)


def _result(judgement: Judgement) -> tuple[str, str, float]:
    """(version, other version in alphabetical order, the first one's share of the win)."""
    first, second = sorted((judgement.left_version, judgement.right_version))
    winner = {"left": judgement.left_version, "right": judgement.right_version}.get(judgement.verdict)
    return first, second, 0.5 if winner is None else float(winner == first)


def _by_cluster(kinds: list[tuple[str, str, float]], names: list[Hashable], versions: list[str]) -> np.ndarray:
    """Wins (G, V, V) that each cluster of votes adds, [g, i, j] = how often i beat j in cluster g."""
    cluster = {name: i for i, name in enumerate(dict.fromkeys(names))}
    place = {version: i for i, version in enumerate(versions)}
    wins = np.zeros((len(cluster), len(versions), len(versions)))
    for (first, second, share), name in zip(kinds, names, strict=True):
        wins[cluster[name], place[first], place[second]] += share
        wins[cluster[name], place[second], place[first]] += 1.0 - share
    return wins


def _votes(kinds: list[tuple[str, str, float]], versions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The K kinds of single votes: the wins each adds (K, V, V), and how often it came (K,)."""
    counts: dict[tuple[str, str, float], int] = defaultdict(int)
    for kind in kinds:
        counts[kind] += 1
    return _by_cluster(list(counts), list(counts), versions), np.array(list(counts.values()), float)


def _interval(
    elo: np.ndarray, wins: np.ndarray, counts: np.ndarray, clusters: int, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Expanded percentile bounds (2, V) around elo (V,), from wins (K, V, V) of which kind k came counts[k] times."""
    from scipy.stats import t

    drawn = rng.multinomial(clusters, counts / counts.sum(), size=resamples)  # (R, K)
    refits = ELO_MEAN + ELO_PER_LOG * bradley_terry(np.einsum("rk,kij->rij", drawn, wins))
    bounds = np.percentile(refits, [2.5, 97.5], axis=0)
    if clusters < 2:
        return bounds
    stretch = t.ppf(0.975, clusters - 1) / Z_95 * math.sqrt(clusters / (clusters - 1))
    return elo + stretch * (bounds - elo)


def _united(elo: np.ndarray, intervals: list[np.ndarray]) -> np.ndarray:
    """One interval (2, V) from that of votes and those of clusters: the widest, or by CGM's formula if wider still."""
    distances = np.abs(np.stack(intervals) - elo)  # (votes, then clusters; 2, V)
    both = np.sum(distances[1:] ** 2, 0) - (len(intervals) - 2) * distances[0] ** 2
    widest = np.maximum(distances.max(0), np.sqrt(np.maximum(both, 0.0)))
    return elo + np.array([[-1.0], [1.0]]) * widest


def bradley_terry(wins: np.ndarray) -> np.ndarray:
    """wins (..., V, V), [i, j] = how often i beat j -> logarithms of the strengths (..., V), each row of mean 0."""
    n_versions = wins.shape[-1]
    wins = wins + 0.5 * PRIOR_DRAWS * (1.0 - np.eye(n_versions))
    total, duels = wins.sum(-1), wins + np.swapaxes(wins, -1, -2)
    log_p = np.zeros(total.shape)
    for _ in range(_MAX_ITERATIONS):
        p = np.exp(log_p)
        step = np.log(total) - np.log((duels / (p[..., :, None] + p[..., None, :])).sum(-1))
        step -= step.mean(-1, keepdims=True)
        change, log_p = np.abs(step - log_p).max(initial=0.0), step
        if change < _TOLERANCE:
            break
    return log_p
