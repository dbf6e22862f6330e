"""Pairs chosen for what they tell: by the votes that stand, of takes that can be made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.engine import Engine
from core.learning.progress import MIN_VOTES
from core.preference.active import most_telling
from core.request import Request
from core.settings import Settings

CANDIDATES = 3  # takes by each version


@pytest.fixture
def engine(live_checkpoints: Path, tmp_path: Path) -> Engine:
    engine = Engine(Settings(device="cpu", data_dir=tmp_path, checkpoints=live_checkpoints))
    engine.start_loading()
    assert engine.wait_until_ready(900.0).ready
    return engine


def asked(seed: int, annotator: str = "") -> Request:
    return Request("a person bows", 2.0, seed, steps=2, annotator=annotator, telling=True)


def vote_by_speed(engine: Engine, votes: int, annotator: str = "ada") -> None:
    """Votes for whichever take moves faster."""
    for seed in range(votes):
        pair = engine.generate(Request("a person bows", 2.0, seed, steps=2))
        left, right = (np.abs(np.diff(engine.store.load_motion(t), axis=0)).mean() for t in (pair.left, pair.right))
        engine.vote(pair.id, "left" if left > right else "right", annotator)


def test_takes_are_those_that_the_taste_is_least_sure_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a switch that does nothing: too few votes leave the first takes, more let the head choose of all."""
    offered = []

    def recorded(head, a, b):
        offered.append(len(a))
        return len(a) - 1, most_telling(head, a, b)[1]

    monkeypatch.setattr("core.learning.telling.most_telling", recorded)
    first = engine.generate(asked(100))
    assert first.left.seed == first.right.seed == 100 and not offered
    vote_by_speed(engine, MIN_VOTES)
    chosen = engine.generate(asked(100))
    assert offered == [CANDIDATES**2]
    assert chosen.left.seed == chosen.right.seed == 100 + CANDIDATES - 1
    assert {chosen.left.model_version, chosen.right.model_version} == {"base", "aligned"}
    for take in (chosen.left, chosen.right):
        assert np.abs(engine.regenerate(take) - engine.store.load_motion(take)).max() <= 1e-5


def test_tastes_apart_ask_each_person_about_their_own(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents one person's votes from choosing another's pairs where tastes are kept apart."""
    heads = []
    monkeypatch.setattr("core.learning.telling.most_telling", lambda head, a, b: (heads.append(head), (0, 0.0))[1])
    vote_by_speed(engine, MIN_VOTES)
    engine.generate(asked(7, "ben"))
    assert len(heads) == 1 and heads[0].config.annotator == ""
    engine.versions.keep_apart(True)
    engine.generate(asked(7, "ben"))
    assert len(heads) == 1, "ben has no votes yet"
    engine.generate(asked(7, "ada"))
    assert len(heads) == 2 and heads[1].config.annotator == "ada"
    engine.generate(asked(8, "ada"))
    assert heads[2] is heads[1], "learnt anew without a new vote"
