"""Bradley-Terry regression with few votes: MAP under a Gaussian prior, Laplace posterior, relevance per weight.

P(a better than b) = sigmoid(w . (x_a - x_b)). Each weight has its own prior spread, re-estimated from the votes
(automatic relevance determination, MacKay 1992, with an inverse-gamma hyperprior that keeps it finite): a taste is
mostly about one or two things, and the spreads of all others shrink. Pure numpy in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NEWTON_STEPS = 50
_TOLERANCE = 1e-9  # decrease of the objective, in nats, that counts as none


@dataclass(frozen=True)
class Prior:
    """Independent Gaussians: mean (D,), spread (D,); a weight of spread 0 stays at its mean, which must be 0 then.

    strength: votes' worth of trust in the spreads; inf = fixed. rounds: re-estimations of the spreads.
    """

    mean: np.ndarray
    spread: np.ndarray
    strength: float = 1.0
    rounds: int = 15


@dataclass(frozen=True)
class Posterior:
    """Gaussian about the MAP: mean (D,), covariance (D, D)."""

    mean: np.ndarray
    covariance: np.ndarray


def fit(x: np.ndarray, target: np.ndarray, weight: np.ndarray, prior: Prior) -> Posterior:
    """Differences x (N, D), target (N,) probability that the first is better (1/2 for a tie), weight (N,)."""
    free = np.flatnonzero(prior.spread)
    mean, covariance = prior.mean.copy(), np.zeros((len(prior.mean),) * 2)
    mean[free], covariance[np.ix_(free, free)] = _fit_free(
        x[:, free], target, weight, prior.mean[free], prior.spread[free], prior
    )
    return Posterior(mean, covariance)


def _fit_free(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, mean: np.ndarray, spread: np.ndarray, prior: Prior
) -> tuple[np.ndarray, np.ndarray]:
    """(w, covariance) with spreads re-estimated between MAP estimates."""
    precision, w = spread**-2.0, mean
    trust = 2.0 * prior.strength
    for _ in range(prior.rounds if np.isfinite(trust) else 0):
        w, hessian = map_estimate(x, target, weight, mean, precision, w)
        second_moment = (w - mean) ** 2 + np.diag(np.linalg.inv(hessian))
        precision = (trust + 1.0) / (second_moment + trust * spread**2)
    w, hessian = map_estimate(x, target, weight, mean, precision, w)
    return w, np.linalg.inv(hessian)


def map_estimate(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, mean: np.ndarray, precision: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(w (D,), Hessian (D, D) there) by damped Newton; the objective is convex, so the start only saves steps."""
    w, value = start, _objective(x, target, weight, mean, precision, start)
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(x @ w)
        gradient = x.T @ (weight * (p - target)) + precision * (w - mean)
        step = np.linalg.solve(_hessian(x, weight, p, precision), gradient)
        rate = 1.0
        while (new := _objective(x, target, weight, mean, precision, w - rate * step)) > value and rate > 1e-6:
            rate /= 2
        if new >= value - _TOLERANCE:
            break
        w, value = w - rate * step, new
    return w, _hessian(x, weight, _sigmoid(x @ w), precision)


def predict(x: np.ndarray, posterior: Posterior) -> np.ndarray:
    """P(first better) (N,) of differences (N, D), averaged over the posterior (MacKay 1992, probit approximation)."""
    variance = np.einsum("nd,de,ne->n", x, posterior.covariance, x)
    return _sigmoid(x @ posterior.mean / np.sqrt(1.0 + np.pi * variance / 8.0))


def _objective(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray, mean: np.ndarray, precision: np.ndarray, w: np.ndarray
) -> float:
    u = x @ w
    return float((weight * (np.logaddexp(0.0, u) - target * u)).sum() + 0.5 * (precision * (w - mean) ** 2).sum())


def _hessian(x: np.ndarray, weight: np.ndarray, p: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return (x * (weight * p * (1.0 - p))[:, None]).T @ x + np.diag(precision)


def _sigmoid(u: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * u))
