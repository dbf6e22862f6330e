"""A study's desk over tiny models: what an annotator is shown next, and what becomes of the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.engine import Engine
from core.preference.studies import RealMotion, Study
from core.preference.types import Pair
from core.study import Answer, StudyDesk
from core.study_takes import noise_of

STUDY = Study(
    "tiny", ("a person walks", "a person waves"), ("base", "aligned"), 1, 2, criteria=("style",), comment=True
)
LEFT = Answer("left", {"style": "tie"}, "stiff arms", response_s=2.5, plays=3)


def desk_of(engine: Engine, study: Study, folder: Path = Path()) -> StudyDesk:
    return StudyDesk(engine, study, folder)


def test_a_person_goes_through_a_study(engine: Engine) -> None:
    """Prevents lost answers, a pair shown twice, and a study that never ends."""
    desk = desk_of(engine, STUDY)
    first = desk.screen("ada")
    assert first.pair_id and first.progress.total == 2 and desk.screen("ada").pair_id == first.pair_id
    with pytest.raises(ValueError, match="compare the two by style as well"):
        desk.answer("ada", first.pair_id, Answer("left"))
    second = desk.answer("ada", first.pair_id, LEFT)
    assert second.pair_id and second.pair_id != first.pair_id and second.prompt != first.prompt
    assert desk.answer("ada", first.pair_id, replace(LEFT, verdict="right")).pair_id == second.pair_id  # sent again
    (vote,) = engine.store.votes(first.pair_id)
    assert (vote.verdict, vote.annotator, vote.response_s, vote.blind) == ("left", "ada", 2.5, True)
    (details,) = [entry for entry in desk.details.standing() if entry.pair_id == first.pair_id]
    assert (details.criteria, details.comment, details.plays) == ({"style": "tie"}, "stiff arms", 3)
    assert desk.undo("ada").pair_id == first.pair_id
    for pair_id in (first.pair_id, second.pair_id):
        last = desk.answer("ada", pair_id, Answer("skip", response_s=float("nan")))
    assert last.pair_id is None and last.progress.done
    votes = [engine.store.votes(pair_id)[0] for pair_id in (first.pair_id, second.pair_id)]
    assert all(vote.blind and vote.response_s is None for vote in votes), "no names were shown before"
    with pytest.raises(ValueError, match="was not given to 'bob'"):
        desk.answer("bob", first.pair_id, LEFT)
    with pytest.raises(ValueError, match="no answer to take back"):
        desk.undo("cleo")


def test_everybody_sees_the_same_motions_and_no_names(engine: Engine) -> None:
    """Prevents votes of two people that are about different motions, and a payload that tells the model."""
    desk = desk_of(engine, replace(STUDY, name="same", votes_per_pair=2))
    pairs: list[Pair] = []
    for name in ("ada", "bob"):
        screen = desk.screen(name)
        while screen.pair_id is not None:
            assert not any(word in json.dumps(screen.pack) for word in ("base", "aligned"))
            assert len({motion["frames"] for motion in screen.pack["motions"]}) == 1
            pairs.append(engine.store.pair(screen.pair_id))
            screen = desk.answer(name, screen.pair_id, LEFT)
    by_prompt = [{p.left.motion_sha256, p.right.motion_sha256} for p in sorted(pairs, key=lambda p: p.left.prompt)]
    assert len(pairs) == 4 and by_prompt[0] == by_prompt[1] and by_prompt[2] == by_prompt[3]
    assert [p.left.model_version for p in pairs].count("base") == 2


def test_next_pair_waits_ready(engine: Engine) -> None:
    """Prevents a person who looks at an empty stage after each answer."""
    desk = desk_of(engine, replace(STUDY, name="ahead"))
    desk.screen("ada")
    desk._workers.shutdown(wait=True)
    ahead = desk.queue.next_item("ada", ahead=1)
    assert ahead and ahead.pair_id and desk._packed.cache_info().currsize == 4


def test_real_motion_beside_noise(engine: Engine, tmp_path: Path) -> None:
    """Prevents an attention check that attentive people fail."""
    real = engine.store.load_motion(engine.take(_request(), "base"))
    np.save(tmp_path / "walk.npy", real)
    study = replace(STUDY, name="checked", attention_checks=0.5, real_motions=(RealMotion("a walk", "walk.npy"),))
    desk, pairs = desk_of(engine, study, tmp_path), []
    screen = desk.screen("ada")
    while screen.pair_id is not None:
        pairs.append(engine.store.pair(screen.pair_id))
        screen = desk.answer("ada", screen.pair_id, LEFT)
    (check,) = [pair for pair in pairs if pair.left.prompt == "a walk"]
    motions = {take.model_version: engine.store.load_motion(take) for take in (check.left, check.right)}
    assert np.array_equal(motions["real"], real) and not np.allclose(motions["noise"], real, atol=0.1)
    assert np.array_equal(noise_of(real, 3), noise_of(real, 3))
    desk_of(engine, study, tmp_path)  # as after a restart
    np.save(tmp_path / "walk.npy", real[:-3])
    with pytest.raises(ValueError, match="walk.npy is not the real motion that study 'checked' began with"):
        desk_of(engine, study, tmp_path)
    with pytest.raises(FileNotFoundError):
        desk_of(engine, replace(study, name="none", real_motions=(RealMotion("a walk", "none.npy"),)), tmp_path)
    with pytest.raises(ValueError, match="'walk.gif' is of an unknown kind. Allowed are .npz, .npy, .bvh"):
        desk_of(engine, replace(study, name="gif", real_motions=(RealMotion("a walk", "walk.gif"),)), tmp_path)


def test_unknown_version_is_one_sentence(engine: Engine) -> None:
    """Prevents a study that stops at its first pair."""
    with pytest.raises(ValueError, match="version 'v9' of the study is unknown. Known are base, aligned"):
        desk_of(engine, replace(STUDY, name="v9", versions=("base", "v9")))


def _request():
    from core.request import Request

    return Request("a person walks", duration_s=2.0, seed=1, steps=2)
