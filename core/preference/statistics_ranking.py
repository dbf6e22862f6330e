"""Ranking of model versions from their duels: Bradley-Terry strengths on the Elo scale, with bootstrap intervals.

Bradley & Terry 1952: P(i beats j) = p_i / (p_i + p_j). Maximum likelihood by Hunter's MM iteration (2004):

    p_i <- W_i / sum_j N_ij / (p_i + p_j)          W_i wins of i, N_ij duels of i and j

A tie, and "both bad", is half a win for each side. Intervals: percentiles of refits to resampled votes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.preference.statistics import Tally

ELO_MEAN = 1000.0  # of the versions compared
ELO_PER_LOG = 400.0 / np.log(10.0)  # 400 points are odds of ten to one
PRIOR_DRAWS = 0.1  # between any two versions: keeps a version that never lost, or was never compared, finite
_TOLERANCE = 1e-6  # of the logarithm of a strength
_MAX_ITERATIONS = 10_000


@dataclass(frozen=True)
class Rank:
    """One version's place: Elo points with the 95 % interval."""

    version: str
    elo: float
    low: float
    high: float


def rank_versions(tallies: Mapping[tuple[str, str], Tally], resamples: int = 1000, seed: int = 0) -> list[Rank]:
    """Versions, the strongest first, from win_rates' tallies; empty where nothing was compared."""
    versions = sorted({version for pair in tallies for version in pair})
    if not versions:
        return []
    outcomes, counts = _outcomes(tallies, versions)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)  # (R, K)
    wins = np.einsum("rk,kij->rij", np.concatenate([counts[None], drawn]), outcomes)
    elo = ELO_MEAN + ELO_PER_LOG * bradley_terry(wins)  # (1 + R, V)
    low, high = np.percentile(elo[1:], [2.5, 97.5], axis=0)
    ranks = [Rank(version, *map(float, row)) for version, *row in zip(versions, elo[0], low, high, strict=True)]
    return sorted(ranks, key=lambda rank: -rank.elo)


def _outcomes(tallies: Mapping[tuple[str, str], Tally], versions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The K kinds of result: the wins each adds (K, V, V), and how often it came (K,)."""
    outcomes, counts = [], []
    for (first, second), tally in tallies.items():
        i, j = versions.index(first), versions.index(second)
        results = ((tally.wins, 1.0), (tally.losses, 0.0), (tally.ties + tally.both_bad, 0.5))
        for count, share in results:
            wins = np.zeros((len(versions), len(versions)))
            wins[i, j], wins[j, i] = share, 1.0 - share
            outcomes.append(wins)
            counts.append(count)
    return np.stack(outcomes), np.array(counts)


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
