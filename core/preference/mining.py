"""SPL's mining: pairs out of retrieval failures.

A training text ranks a pool of motions by the reward. Where its own motion is not ahead of all but k - 1 others, that
is a failure, and a pair: chosen its own motion, rejected the best of the others. Half of a pool are near misses, since
among random motions there are hardly any failures. Who mines again while learning gets the pairs that are hard now.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MiningConfig:
    """What counts as a failure, and where failures are looked for."""

    k: int = 1  # no pair where the own motion is among the k best of its pool; the paper takes 10 of a large pool
    similarity: float = 0.99  # no pair where the own motion's reward is above it; the paper takes 0.8
    margin: float = 0.05  # cosine by which the own motion must be ahead to count as ranked higher
    pool: int = 32  # motions that a text ranks, its own included
    near: float = 0.5  # share of a pool that does the same action, as far as there are such motions
    texts: int = 1024  # that rank their pools each time
    every: int = 70  # steps between two times

    def __post_init__(self) -> None:
        if not 1 <= self.k < self.pool:
            raise ValueError(f"k={self.k} is outside 1-{self.pool - 1}. It counts the best of a pool of {self.pool}.")
        if not 0.0 <= self.near <= 1.0:
            raise ValueError(f"near={self.near} is outside 0-1. It is a share of the pool.")
        if self.texts <= self.pool or self.every < 1:
            raise ValueError(f"texts={self.texts} must exceed pool={self.pool}, and every={self.every} be 1 or more.")


def draw_pools(
    actions: np.ndarray, meanings: np.ndarray, config: MiningConfig, rng: np.random.Generator
) -> list[np.ndarray]:
    """For each of N rows the rows that it is ranked against, up to config.pool - 1, all of another meaning.

    actions, meanings: (N,) labels; rows of one action are near misses of each other.
    """
    wanted = config.pool - 1
    pools = []
    for row in range(len(meanings)):
        other = meanings != meanings[row]
        near = rng.permutation(np.flatnonzero(other & (actions == actions[row])))[: round(config.near * wanted)]
        far = np.flatnonzero(other & (actions != actions[row]))
        pools.append(np.concatenate([near, rng.permutation(far)[: wanted - len(near)]]))
    return pools


def mine(rewards: np.ndarray, pools: list[np.ndarray], config: MiningConfig) -> np.ndarray:
    """Failures as rows (M, 2): text (and its own, chosen motion), and the rejected motion.

    rewards: (N, N), row a text, column a motion, the diagonal what belongs together; pools: see draw_pools.
    """
    pairs = []
    for row, pool in enumerate(pools):
        own, others = rewards[row, row], rewards[row, pool]
        ahead = others > own - config.margin
        if ahead.sum() >= config.k and own <= config.similarity:
            pairs.append((row, pool[others.argmax()]))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
