"""95 % intervals: over repeats of an evaluation, and of paired differences over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """mean and the half width of its interval; half is NaN where one value tells no spread."""

    mean: float
    half: float
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean of b - a over the same prompts with interval [low, high], and as a share of a's mean (NaN if that is 0)."""

    mean: float
    low: float
    high: float
    relative: float
    n: int

    @property
    def conclusive(self) -> bool:
        """True where the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def t_interval(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval:
    """Student-t interval of the mean of independent values; NaNs (metric undefined) are left out."""
    x = np.asarray(values, np.float64)
    x = x[~np.isnan(x)]
    if len(x) == 0:
        return Interval(float("nan"), float("nan"), 0)
    if len(x) == 1:
        return Interval(float(x[0]), float("nan"), 1)
    half = stats.t.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(half), len(x))


def share(change: float, reference: float) -> float:
    """A change as a share of what was there; NaN where that was nothing."""
    return change / reference if reference else float("nan")


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"shapes {a.shape} and {b.shape} are not pairs; pass two (N,) arrays with N of at least 2.")
    return b - a, float(a.mean())


def paired_difference(a: np.ndarray, b: np.ndarray, level: float = LEVEL) -> PairedDifference:
    """b - a per prompt, (N,) each, with Student-t interval of the mean."""
    difference, reference = _paired(a, b)
    interval = t_interval(difference, level)
    low, high = interval.mean - interval.half, interval.mean + interval.half
    return PairedDifference(interval.mean, low, high, share(interval.mean, reference), interval.n)


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, resamples: int = 2000, level: float = LEVEL
) -> PairedDifference:
    """b - a per prompt, (N,) each, with percentile bootstrap over prompts: for skewed or 0/1 values."""
    difference, reference = _paired(a, b)
    picks = rng.integers(0, len(difference), (resamples, len(difference)))
    means = difference[picks].mean(1)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    mean = float(difference.mean())
    return PairedDifference(mean, float(low), float(high), share(mean, reference), len(difference))
