"""FID, Diversity and MultiModality of evaluator embeddings (Heusel et al. 2017; Guo et al. 2020, 2022)."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


def _triangular_root(x: np.ndarray) -> np.ndarray:
    """R with R^T R = cov(x): QR of the centred rows, no square root of a rounded eigenvalue anywhere."""
    centred = x - x.mean(0)
    return np.asarray(np.linalg.qr(centred / np.sqrt(len(x) - 1), mode="r"))


def fid(real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to rows of real (N, D) and generated (M, D).

    tr (S1 S2)^(1/2) is the sum of singular values of R1 R2^T, where S = R^T R. This symmetric form stays exact
    where a covariance has not full rank (fewer samples than dimensions). ValueError on non-finite rows or N < 2.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    for name, x in (("real", real), ("generated", generated)):
        if x.ndim != 2 or len(x) < 2:
            raise ValueError(f"{name} embeddings have shape {x.shape}; FID needs (N, D) with N of at least 2.")
        if not np.isfinite(x).all():
            raise ValueError(f"{name} embeddings hold NaN or infinity; check the motions that produced them.")
    root_real, root_generated = _triangular_root(real), _triangular_root(generated)
    cross = np.linalg.svd(root_real @ root_generated.T, compute_uv=False).sum()
    squared_shift = ((real.mean(0) - generated.mean(0)) ** 2).sum()
    return float(max(0.0, squared_shift + (root_real**2).sum() + (root_generated**2).sum() - 2 * cross))


def mean_pair_distance(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance of x[..., first, :] to x[..., second, :], averaged over every leading axis."""
    x = np.asarray(x, np.float64)
    return float(np.linalg.norm(x[..., first, :] - x[..., second, :], axis=-1).mean())


def diversity_by_motion(x: np.ndarray) -> np.ndarray:
    """Mean distance (N,) of each row of x (N, D) to the others; Diversity is its mean. ValueError for N < 2.

    The published figure draws 300 random pairs; all pairs are its expectation.
    """
    if len(x) < 2:
        raise ValueError(f"{len(x)} motions are too few for Diversity; pass at least 2.")
    x = np.asarray(x, np.float64)
    return cdist(x, x).sum(1) / (len(x) - 1)


def multimodality_by_text(x: np.ndarray) -> np.ndarray:
    """Mean distance (texts,) over all pairs of takes of each text; MultiModality is its mean. x: (texts, takes, D).

    The published figure draws 10 random pairs of 30 takes; all pairs are its expectation. ValueError for one take.
    """
    if x.ndim != 3 or x.shape[1] < 2:
        raise ValueError(f"takes have shape {x.shape}; MultiModality needs (texts, takes, D) with 2 takes or more.")
    first, second = np.triu_indices(x.shape[1], k=1)
    return np.linalg.norm(x[:, first].astype(np.float64) - x[:, second], axis=-1).mean(axis=1)
