"""The table of `python -m core refine`: before, after and the change in points, for every split measured."""

from __future__ import annotations

import pytest

from core.commands.refine import to_markdown
from core.train.refine import Refine


def test_table_tells_the_change_in_points() -> None:
    """Prevents a gain that reads as a loss, or a split that is left out."""
    before, after = (
        {"plain_1": 0.99, "near_1": 0.9, "edited_1": 0.8},
        {"plain_1": 0.985, "near_1": 0.9, "edited_1": 0.86},
    )
    figures = {"before": before, "after": after}
    lines = to_markdown({"val": figures, "test": figures}).splitlines()
    assert len(lines) == 2 + 6
    assert "| val: R@1 (pools of 32, no meaning twice) | 0.990 | 0.985 | -0.5 |" in lines
    assert any(line.startswith("| test: near-miss") and line.endswith("| 0.800 | 0.860 | +6.0 |") for line in lines)


def test_figures_that_are_not_there_have_no_row() -> None:
    """Prevents a table that stops where the data has no near misses of its own."""
    few = {"plain_1": 0.9, "edited_1": 0.8}
    assert len(to_markdown({"val": {"before": few, "after": few}}).splitlines()) == 2 + 2


def test_a_database_without_its_motions_is_refused() -> None:
    with pytest.raises(ValueError, match="give --votes too"):
        Refine(database="sqlite:///arena.db")
