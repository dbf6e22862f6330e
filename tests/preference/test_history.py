"""A history in which everything is found again, and nothing that gives a pair away before the vote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from core.preference.history import UNANSWERED, History, Search
from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take, now

TAKE = Take("", 3, 40, 12, 2.5, "dpm++", "base", "0123456789abcdef", "minilm", "cpu", "0.1", "2.13", "")
PROMPTS = ("a person waves", "50% of_people Run", "a person bows", "a person waves again")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """p0: aligned, two votes; p1: other, one vote; p2: a vote taken back; p3: never voted on; newest last."""
    folder = tmp_path_factory.mktemp("arena")
    store = PreferenceStore(folder)
    motion = store.save_motion(np.zeros((40, 263), np.float32))
    for i, (prompt, version) in enumerate(zip(PROMPTS, ("aligned", "other", "aligned", "secret"), strict=True)):
        left = replace(TAKE, prompt=prompt, motion_sha256=motion)
        store.add_pair(Pair(f"p{i}", left, replace(left, model_version=version), now()))
    store.record_vote("p0", "left", "ada", "0.1")
    store.record_vote("p0", "tie", "bob", "0.1")
    store.record_vote("p1", "tie", "ada", "0.1")
    store.record_vote("p2", "left", "cleo", "0.1")
    store.undo_vote("p2", "cleo")
    yield History(store)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (Search(), ["p3", "p2", "p1", "p0"]),
        (Search(text=" WAVES "), ["p3", "p0"]),
        (Search(text="50% of_"), ["p1"]),
        (Search(text="%"), ["p1"]),
        (Search(version="base"), ["p1", "p0"]),
        (Search(version="aligned"), ["p0"]),
        (Search(version="secret"), []),
        (Search(verdict="tie"), ["p1", "p0"]),
        (Search(verdict=UNANSWERED), ["p3", "p2"]),
        (Search(annotator="ada"), ["p1", "p0"]),
        (Search(annotator="ada", verdict="tie"), ["p1"]),
        (Search(annotator="cleo"), []),
        (Search(text="waves", version="aligned", verdict="left", annotator="ada"), ["p0"]),
    ],
)
def test_searches(history: History, search: Search, found: list[str]) -> None:
    """Prevents wildcards in prompts, a verdict and a name of different votes, and a version named before a vote."""
    assert history.ids(search) == found


def test_pages(history: History) -> None:
    """Prevents pairs that no page shows, and votes shown with another pair."""
    pages = [history.page(Search(), 3, offset) for offset in (0, 3)]
    assert [record.pair.id for records, _ in pages for record in records] == ["p3", "p2", "p1", "p0"]
    assert pages[0][1] == 4 and [vote.annotator for vote in pages[1][0][0].votes] == ["ada", "bob"]
    assert history.page(Search(), 3, 99) == ([], 4)


def test_choices_name_nothing_that_was_not_voted_on(history: History) -> None:
    """Prevents a list of versions from naming one that stands in an open pair."""
    assert history.choices() == (["aligned", "base", "other"], ["ada", "bob"])


def test_impossible_searches(history: History) -> None:
    """Prevents an empty list that looks like an answer."""
    with pytest.raises(ValueError, match="verdict='bribe' is unknown"):
        Search(verdict="bribe")
    with pytest.raises(ValueError, match="Pair 'p9' is unknown"):
        history.record("p9")
