"""Pools and hits."""

from __future__ import annotations

import numpy as np
import pytest

from core.metrics.retrieval import distinct_pools, hits, near_miss_pools, r_precision


def test_pools_hold_distinct_captions_and_disjoint_rows() -> None:
    """A repeated caption in a pool would count a right motion as a miss."""
    captions = ["walk"] * 30 + [f"c{i}" for i in range(70)] * 2
    pools = distinct_pools(captions, np.random.default_rng(0))
    assert pools.shape == (4, 32)  # 170 rows, but "walk" at most once a pool leaves 140 + 4
    assert len(np.unique(pools)) == pools.size
    assert all(len({captions[i] for i in pool}) == 32 for pool in pools)
    with pytest.raises(ValueError, match="distinct captions"):
        distinct_pools(["a"] * 100, np.random.default_rng(0))


def test_every_row_is_drawn_sooner_or_later() -> None:
    """A biased cut would never measure the rows at the end."""
    captions = [f"c{i}" for i in range(40)]
    seen = {int(i) for seed in range(40) for i in distinct_pools(captions, np.random.default_rng(seed)).ravel()}
    assert seen == set(range(40))


def test_near_misses_share_the_action_but_not_the_meaning() -> None:
    """A pool across actions would be an easy one under a hard name."""
    actions = ["walk"] * 6 + ["run"] * 6 + ["jump"] * 2
    meanings = [f"{a}-{i % 3}" for i, a in enumerate(actions)]
    pools = near_miss_pools(actions, meanings, np.random.default_rng(0), size=3)
    assert pools.shape == (4, 3)
    for pool in pools:
        assert len({actions[i] for i in pool}) == 1
        assert len({meanings[i] for i in pool}) == 3
    with pytest.raises(ValueError, match="no action"):
        near_miss_pools(actions, meanings, np.random.default_rng(0), size=9)


def test_collapsed_motions_are_hits_by_chance_only() -> None:
    """A model that gives one motion for every text must not score R@1 by the order of equal distances."""
    text = np.random.default_rng(0).normal(size=(32, 8))
    pools = np.arange(32)[None]
    assert r_precision(text, np.ones((32, 8)), pools).tolist() == [1 / 32, 2 / 32, 3 / 32]
    assert r_precision(text, np.ones((32, 8)), np.arange(32).reshape(16, 2)).tolist() == [0.5, 1.0, 1.0]
    half = np.vstack([text[:3], np.ones((3, 8))])  # of a pool of near misses
    assert hits(half, half, np.arange(6)[None]).tolist() == [[1.0, 1.0, 1.0, 1 / 3, 1 / 3, 1 / 3]]
    assert r_precision(text, text, pools).tolist() == [1.0, 1.0, 1.0]
