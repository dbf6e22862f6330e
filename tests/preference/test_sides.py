"""The coin that draws sides stays balanced and can't be guessed."""

from __future__ import annotations

import numpy as np

from core.preference.sides import SideCoin


def lefts(coin: SideCoin, first: str, second: str, n: int) -> np.ndarray:
    return np.array([coin.first_goes_left(first, second) for _ in range(n)])


def test_sides_stay_balanced_all_along() -> None:
    """|lead| beyond 15 has a probability below 2^-14 a draw; a fair coin would be 30 off in half of such runs."""
    lead = np.cumsum(np.where(lefts(SideCoin(), "base", "aligned", 2000), 1, -1))
    assert np.abs(lead).max() <= 25
    assert np.abs(lead).mean() < 4


def test_the_next_side_cannot_be_told_from_the_last_one() -> None:
    drawn = lefts(SideCoin(), "base", "aligned", 6000)
    assert 0.35 < (drawn[1:] == drawn[:-1]).mean() < 0.55  # 0.46 for this coin, 0.50 for a fair one


def test_order_of_names_does_not_matter_and_couples_are_balanced_for_themselves() -> None:
    coin = SideCoin()
    both = np.concatenate([lefts(coin, "a", "b", 500), ~lefts(coin, "b", "a", 500)])
    assert abs(both.sum() - 500) <= 15
    assert abs(lefts(coin, "a", "c", 400).sum() - 200) <= 15
