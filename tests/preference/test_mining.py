"""Mining: pairs come out of failures, of failures only, and never set a motion against its own meaning."""

from __future__ import annotations

import numpy as np
import pytest

from core.preference.mining import MiningConfig, draw_pools, mine

CONFIG = MiningConfig(k=1, margin=0.0, similarity=1.0, pool=4, texts=8)
POOLS = [np.array([1, 2]), np.array([0, 2]), np.array([0, 1])]
REWARDS = np.array([[0.9, 0.2, 0.1], [0.5, 0.6, 0.8], [0.9, 0.1, 0.5]])  # text 0 finds its own; 1 and 2 do not


def test_the_best_of_the_others_is_rejected_where_the_own_one_is_not_ahead() -> None:
    assert mine(REWARDS, POOLS, CONFIG).tolist() == [[1, 2], [2, 0]]


def test_only_what_is_in_the_pool_can_be_rejected() -> None:
    assert mine(REWARDS, [POOLS[0], np.array([0]), np.array([1])], CONFIG).tolist() == []


@pytest.mark.parametrize(
    ("change", "pairs"),
    [
        ({"k": 2}, []),  # the own one is among the two best everywhere
        ({"margin": 0.75}, [[0, 1], [1, 2], [2, 0]]),  # 0.7 ahead is not far enough
        ({"similarity": 0.55}, [[2, 0]]),  # text 1's own motion is good enough as it is
    ],
)
def test_settings_decide_what_is_a_failure(change: dict[str, float], pairs: list[list[int]]) -> None:
    config = MiningConfig(**{"k": 1, "margin": 0.0, "similarity": 1.0, "pool": 4, "texts": 8, **change})
    assert mine(REWARDS, POOLS, config).tolist() == pairs


def test_pools_hold_near_misses_and_nothing_of_the_same_meaning() -> None:
    """Fails where a paraphrase is called worse than its twin, or where pools hold no near miss."""
    actions, meanings = np.arange(60) % 6, np.arange(60) % 12
    config = MiningConfig(pool=9, near=0.5, texts=60)
    for row, pool in enumerate(draw_pools(actions, meanings, config, np.random.default_rng(0))):
        assert len(pool) == len(set(pool)) == 8 and (meanings[pool] != meanings[row]).all()
        assert (actions[pool] == actions[row]).sum() == 4


@pytest.mark.parametrize(
    ("wrong", "message"), [({"k": 32}, "k=32"), ({"near": 2.0}, "near=2"), ({"texts": 9}, "texts=9")]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MiningConfig(**wrong)  # type: ignore[arg-type]
