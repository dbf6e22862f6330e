"""Bradley-Terry regression with few votes: a taste is mostly about one or two things, and votes are sometimes slips.

    P(a voted better than b) = lapse + (1 - 2 lapse) sigmoid(w . (x_a - x_b))

Which inputs a taste is about is not known, so all small sets of them are tried as models of their own, each with a
Gaussian prior on its weights; the answer is their average, weighted by how well each explains the votes (Laplace's
estimate of the evidence; MacKay 1992, Hoeting et al. 1999). With no votes that is the prior: the base reward alone.
Sets grow from the best smaller ones. Pure numpy in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SCORING_STEPS = 15
_LONGEST_STEP = 2.0  # logits per standard deviation
_BEAM = 5  # sets that are grown
_SEARCHED = 2000  # votes that the sets are chosen by; more do not change the choice
N_SAMPLES = 128  # of the posterior
_KEPT = 20  # most probable sets that are fitted to all votes where there are more


@dataclass(frozen=True)
class Prior:
    """What is believed before any vote. Input 0 is the base reward, inputs 1 .. candidates may be tastes.

    Spreads are standard deviations of weights, in logits per standard deviation of an input.
    """

    inputs: int  # D; those after the candidates keep a weight of 0
    candidates: int
    base_weight: float = 1.0  # mean of the weight of the base reward, where it counts
    base_spread: float = 0.25
    base_counts: float = 0.8  # probability that it counts at all
    idle_spread: float = 0.01  # ... and how far from 0 its weight is where not
    taste_spread: float = 3.0
    tastes: float = 0.2  # expected number of inputs that a taste is about, before any vote
    most: int = 2  # ... and the largest number tried
    lapse: float = 0.05  # share of votes that are slips, either way


@dataclass(frozen=True)
class Posterior:
    """Average over the models: mean (D,), covariance (D, D); samples (S, D) of the mixture that it sums up."""

    mean: np.ndarray
    covariance: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class _Models:
    """M models of one size d. inputs (M, d); mean, spread (M, d) of the prior; log_prior (M,) of the model itself."""

    inputs: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    log_prior: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> _Models:
        return _Models(self.inputs[rows], self.mean[rows], self.spread[rows], self.log_prior[rows])


@dataclass(frozen=True)
class _Fits:
    """What the votes make of M models: weights (M, d), covariance (M, d, d), log_evidence (M,), prior included."""

    models: _Models
    weights: np.ndarray
    covariance: np.ndarray
    log_evidence: np.ndarray


def fit(x: np.ndarray, target: np.ndarray, weight: np.ndarray, prior: Prior) -> Posterior:
    """Differences x (N, D), target (N,) probability that the first is better (1/2 for a tie), weight (N,)."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), _SEARCHED)).astype(int))
    fits = _search(x[rows], target[rows], weight[rows], prior)
    if len(rows) < len(x):
        fits = [fit_models(x, target, weight, models, prior.lapse) for models in _most_probable(fits)]
    return _average(fits, prior.inputs)


def _search(x: np.ndarray, target: np.ndarray, weight: np.ndarray, prior: Prior) -> list[_Fits]:
    """All models of no or one taste, and those of more that grow out of the best; one _Fits a size."""
    found, seeds = [], [()]
    for size in range(prior.most + 1):
        sets = [tuple(sorted((*s, k))) for s in seeds for k in range(1, prior.candidates + 1) if k not in s]
        models = _models(sorted(set(sets)) if size else [()], prior)
        found.append(fit_models(x, target, weight, models, prior.lapse))
        best = np.argsort(-found[-1].log_evidence, kind="stable")
        seeds = list(dict.fromkeys(tuple(row[1:]) for row in models.inputs[best].tolist()))[:_BEAM]
    return found


def _models(tastes: list[tuple[int, ...]], prior: Prior) -> _Models:
    """Each set of tastes twice: with the base reward, and without."""
    n, size = len(tastes), len(tastes[0])
    one = np.concatenate([np.zeros((n, 1), dtype=int), np.array(tastes, dtype=int).reshape(n, size)], 1)
    inputs = np.concatenate([one, one])
    mean, spread = np.zeros(inputs.shape), np.full(inputs.shape, prior.taste_spread)
    mean[:n, 0], spread[:n, 0], spread[n:, 0] = prior.base_weight, prior.base_spread, prior.idle_spread
    share = prior.tastes / max(1, prior.candidates)
    chosen = size * np.log(share) + (prior.candidates - size) * np.log1p(-share)
    counts = np.repeat([np.log(prior.base_counts), np.log1p(-prior.base_counts)], n)
    return _Models(inputs, mean, spread, chosen + counts)


def fit_models(x: np.ndarray, target: np.ndarray, weight: np.ndarray, models: _Models, lapse: float) -> _Fits:
    """MAP weights of every model by damped Fisher scoring, and Laplace's evidence there; linear in the votes."""
    taken = np.ascontiguousarray(x.T[models.inputs])  # (M, d, N)
    precision, w, rate = models.spread**-2.0, models.mean.copy(), np.ones((len(models.inputs), 1))
    value, gradient, hessian = _objective(taken, target, weight, models, w, lapse)
    for _ in range(_SCORING_STEPS):
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, _LONGEST_STEP / np.maximum(np.abs(step).max(1, keepdims=True), 1e-12))
        new = w + rate * step
        at_new = _objective(taken, target, weight, models, new, lapse)
        better = at_new[0] >= value
        w, value = np.where(better[:, None], new, w), np.where(better, at_new[0], value)
        gradient = np.where(better[:, None], at_new[1], gradient)
        hessian = np.where(better[:, None, None], at_new[2], hessian)
        rate = np.where(better[:, None], np.minimum(1.0, 2.0 * rate), rate / 4.0)
    evidence = value + 0.5 * np.log(precision).sum(1) - 0.5 * np.linalg.slogdet(hessian)[1] + models.log_prior
    return _Fits(models, w, np.linalg.inv(hessian), evidence)


def _objective(
    taken: np.ndarray, target: np.ndarray, weight: np.ndarray, models: _Models, w: np.ndarray, lapse: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log posterior (M,) of weights w (M, d), its gradient (M, d), and its expected Hessian, negated (M, d, d)."""
    precision = models.spread**-2.0
    s = _sigmoid((w[:, None] @ taken)[:, 0])  # (M, N)
    p = np.clip(lapse + (1.0 - 2.0 * lapse) * s, 1e-12, 1.0 - 1e-12)
    slope = (1.0 - 2.0 * lapse) * s * (1.0 - s)
    likelihood = (target * np.log(p) + (1.0 - target) * np.log1p(-p)) @ weight
    pull = weight * (target - p) / (p * (1.0 - p)) * slope
    curvature = weight * slope**2 / (p * (1.0 - p))
    value = likelihood - 0.5 * (precision * (w - models.mean) ** 2).sum(1)
    gradient = (taken @ pull[..., None])[..., 0] - precision * (w - models.mean)
    hessian = (taken * curvature[:, None]) @ taken.swapaxes(1, 2) + precision[:, :, None] * np.eye(w.shape[1])
    return value, gradient, hessian


def _most_probable(fits: list[_Fits]) -> list[_Models]:
    """The _KEPT models of the highest evidence, by size."""
    evidence = np.concatenate([f.log_evidence for f in fits])
    least = np.sort(evidence)[-min(_KEPT, len(evidence))]
    kept = [f.models[np.flatnonzero(f.log_evidence >= least)] for f in fits]
    return [models for models in kept if len(models.inputs)]


def _average(fits: list[_Fits], inputs: int) -> Posterior:
    """Mean and covariance of the mixture of the models' Gaussians."""
    highest = max(float(f.log_evidence.max()) for f in fits)
    shares = [np.exp(f.log_evidence - highest) for f in fits]
    total = sum(float(s.sum()) for s in shares)
    mean, second = np.zeros(inputs), np.zeros((inputs, inputs))
    for f, share in zip(fits, shares, strict=True):
        for i, at in enumerate(f.models.inputs):
            mean[at] += share[i] / total * f.weights[i]
            moment = f.covariance[i] + np.outer(f.weights[i], f.weights[i])
            second[np.ix_(at, at)] += share[i] / total * moment
    return Posterior(mean, second - np.outer(mean, mean), _draw(fits, shares, inputs))


def _draw(fits: list[_Fits], shares: list[np.ndarray], inputs: int) -> np.ndarray:
    """Samples (S, D): a model by its share, then weights from its Gaussian; the same for the same fits."""
    rng, weights = np.random.default_rng(0), np.concatenate(shares)
    samples = np.zeros((N_SAMPLES, inputs))
    models = [(f, i) for f in fits for i in range(len(f.weights))]
    for row, chosen in zip(samples, rng.choice(len(models), N_SAMPLES, p=weights / weights.sum()), strict=True):
        f, i = models[chosen]
        row[f.models.inputs[i]] = rng.multivariate_normal(f.weights[i], f.covariance[i], method="cholesky")
    return samples


def predict(x: np.ndarray, posterior: Posterior, lapse: float = 0.0) -> np.ndarray:
    """P(first voted better) (N,) of differences (N, D), averaged over the posterior (probit approximation)."""
    variance = ((x @ posterior.covariance) * x).sum(1)
    return lapse + (1.0 - 2.0 * lapse) * _sigmoid(x @ posterior.mean / np.sqrt(1.0 + np.pi * variance / 8.0))


def _sigmoid(u: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * u))
