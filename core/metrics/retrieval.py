"""R-precision and MM-Dist from embeddings of one evaluator, after Guo et al. 2022 (T2M).

A text ranks the motions of its pool by Euclidean distance; R@k is the share of texts whose own motion is among
the k nearest. Pools never hold one caption twice, since a second "a person walks" would be a wrong miss.
The published evaluation shuffles and cuts groups of 32; pass those groups as `pools` to reproduce it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

POOL_SIZE = 32  # motions a text is ranked against, T2M
NEAR_MISS_SIZE = 6  # motions of one action, differing in style, side or order
TOP_K = 3  # R@1, R@2, R@3


def pairwise_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (..., N, M) between rows of a (..., N, D) and b (..., M, D), in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squared = (a**2).sum(-1)[..., :, None] + (b**2).sum(-1)[..., None, :] - 2 * a @ np.swapaxes(b, -1, -2)
    return np.sqrt(np.maximum(squared, 0.0))


def matching_distances(text: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Distance (N,) of every text (N, D) to its own motion (N, D); its mean is MM-Dist."""
    if text.shape != motion.shape:
        raise ValueError(f"text embeddings {text.shape} and motion embeddings {motion.shape} differ; pass row pairs.")
    return np.linalg.norm(np.asarray(text, np.float64) - np.asarray(motion, np.float64), axis=-1)


def distinct_pools(captions: Sequence[Hashable], rng: np.random.Generator, size: int = POOL_SIZE) -> np.ndarray:
    """Random pools (P, size) of row indices, no caption twice in a pool, no row in two pools.

    P is as large as the captions allow: rows that do not fit are left out at random.
    Raises ValueError with fewer than `size` distinct captions.
    """
    distinct = len(set(captions))
    if distinct < size:
        raise ValueError(
            f"{distinct} distinct captions are fewer than the pool size {size}. "
            "Evaluate on more prompts or in smaller pools (pool_size)."
        )
    rows: dict[Hashable, list[int]] = {}
    for row in rng.permutation(len(captions)):
        rows.setdefault(captions[row], []).append(int(row))
    n_pools = len(captions) // size
    while (fitting := sum(min(len(r), n_pools) for r in rows.values()) // size) < n_pools:
        n_pools = fitting
    kept = [(caption, row) for caption, r in rows.items() for row in r[:n_pools]]
    chosen = sorted(rng.choice(len(kept), n_pools * size, replace=False))
    # equal captions stand next to each other, so dealing them out like cards sends them to different pools
    return np.array([kept[i][1] for i in chosen]).reshape(size, n_pools).T


def hits(text: np.ndarray, motion: np.ndarray, pools: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether each text's own motion is among the k nearest of its pool, (P, S) of 0 and 1. pools: (P, S) row indices.

    Equally near motions stand in random order, so among them it is the chance, within [0, 1].
    """
    distances = pairwise_distances(text[pools], motion[pools])  # (P, S, S)
    own = np.diagonal(distances, axis1=1, axis2=2)[..., None]
    nearer, tied = (distances < own).sum(-1), (distances == own).sum(-1)  # its own among the latter
    return np.clip((k - nearer) / tied, 0.0, 1.0)


def r_precision(text: np.ndarray, motion: np.ndarray, pools: np.ndarray, top_k: int = TOP_K) -> np.ndarray:
    """R@1 ... R@top_k, (top_k,), each in [0, 1]."""
    return np.array([hits(text, motion, pools, k).mean() for k in range(1, top_k + 1)])


def first_hits(text: np.ndarray, motion: np.ndarray, pools: np.ndarray) -> np.ndarray:
    """R@1 of each row, (N,) as `hits` tells; NaN for rows in no pool. pools: (P, S), no row twice."""
    found = np.full(len(text), np.nan)
    found[pools] = hits(text, motion, pools)
    return found


def near_miss_groups(actions: Sequence[Hashable], meanings: Sequence[Hashable], size: int) -> list[list[int]]:
    """Rows of each action that has `size` different meanings or more; empty where near-miss pools can't be made."""
    rows: dict[Hashable, list[int]] = {}
    for row, action in enumerate(actions):
        rows.setdefault(action, []).append(row)
    return [group for group in rows.values() if len({meanings[i] for i in group}) >= size]


def near_miss_pools(
    actions: Sequence[Hashable], meanings: Sequence[Hashable], rng: np.random.Generator, size: int = NEAR_MISS_SIZE
) -> np.ndarray:
    """Pools (P, size) of rows with one action but different meanings: other style, other side, other order.

    Plain pools saturate because any two actions look unlike; these ask for what distinguishes near misses.
    actions[i], meanings[i]: labels of row i; two paraphrases of one thing have one meaning and never meet.
    Raises ValueError if no action has `size` meanings, see near_miss_groups.
    """
    groups = near_miss_groups(actions, meanings, size)
    if not groups:
        raise ValueError(f"no action has {size} different meanings; evaluate on more prompts or use smaller pools.")
    return np.concatenate([np.array(g)[distinct_pools([meanings[i] for i in g], rng, size)] for g in groups])
