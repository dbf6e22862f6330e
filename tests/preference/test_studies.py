"""A study hands out what it promised, to whom it promised it, however many ask at once."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from core.preference import studies_queue
from core.preference.store import PreferenceStore
from core.preference.studies import RealMotion, Study, load_study
from core.preference.studies_queue import Item, StudyQueue
from core.preference.types import Pair, Take, new_pair_id, now

TAKE = Take("p", 1, 40, 12, 2.5, "dpm++", "base", "0", "minilm", "cpu", "0", "2", "")
STUDY = Study("s", ("walk", "wave", "bow", "run"), ("base", "aligned"), votes_per_pair=2, pairs_per_person=3)


class Arena:
    """A store, a queue and people who answer."""

    def __init__(self, folder: Path, database: str, study: Study) -> None:
        self.store = PreferenceStore(folder, database)
        self.queue = StudyQueue(study, database)
        self.motion = self.store.save_motion(np.zeros((40, 263), np.float32))

    def show(self, item: Item) -> str:
        """Store a pair for the item and attach it; returns its id."""
        versions = (item.left_version, item.right_version)
        left, right = (
            replace(TAKE, prompt=item.prompt, model_version=version, motion_sha256=self.motion) for version in versions
        )
        pair = Pair(new_pair_id(), left, right, now())
        self.store.add_pair(pair)
        return self.queue.attach(item.id, pair.id)

    def answer(self, annotator: str, verdict: str = "left") -> Item | None:
        item = self.queue.next_item(annotator)
        if item is not None:
            self.store.record_vote(self.show(item), verdict, annotator, "0")
        return item

    def close(self) -> None:
        self.queue.close()
        self.store.close()


@pytest.fixture
def arena(tmp_path: Path, database: str):
    arenas: list[Arena] = []

    def make(study: Study = STUDY) -> Arena:
        arenas.append(Arena(tmp_path, database, study))
        return arenas[-1]

    yield make
    for one in arenas:
        one.close()


def test_twenty_at_once_get_every_comparison_as_often_as_asked(arena) -> None:
    """Prevents a comparison judged too often or twice by one person, and one side preferred, under load."""
    prompts = tuple(f"prompt {i}" for i in range(20))
    study = Study("load", prompts, ("base", "aligned", "other"), 3, 9)  # 60 comparisons x 3 = 20 people x 9
    one, given, failures = arena(study), [], []

    def work(name: str) -> None:
        try:
            while (item := one.answer(name)) is not None:
                given.append((name, item))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"annotator {i}",)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    shown = Counter((item.prompt, *sorted((item.left_version, item.right_version))) for _, item in given)
    assert len(given) == 180 and set(shown.values()) == {3} and len(shown) == 60
    assert len({(name, item.prompt, *sorted((item.left_version, item.right_version))) for name, item in given}) == 180
    for first, second in (("aligned", "base"), ("aligned", "other"), ("base", "other")):
        left = [item.left_version for _, item in given if {item.left_version, item.right_version} == {first, second}]
        assert left.count(first) / len(left) == pytest.approx(0.5, abs=0.02)
    assert one.store.counts() == (180, 180)


@pytest.mark.parametrize(("prompts", "votes", "share"), [(60, 3, 9), (7, 5, 4), (10, 2, 10), (5, 3, 8), (9, 4, 6)])
def test_plan_is_fair(prompts: int, votes: int, share: int) -> None:
    """Prevents people who have nothing left to judge while a comparison still lacks votes."""
    study = Study("s", tuple(f"{i}" for i in range(prompts)), ("a", "b"), votes, share)
    plan = study.plan()
    assert set(Counter(plan).values()) == {votes} and len(plan) == prompts * votes
    shares = [plan[i : i + study.share] for i in range(0, len(plan), study.share)]
    assert len(shares) == study.people_needed() and study.share == min(share, prompts)
    assert all(len(set(part)) == len(part) for part in shares)


def test_answers_sent_twice_count_once_and_the_last_one_is_found(arena) -> None:
    """Prevents a double vote after a broken connection, and an undo that takes back another pair."""
    one = arena()
    first, second = (one.answer("ada") for _ in range(2))
    assert first and second
    newest = one.queue.last_answered("ada")
    assert newest and newest.id == second.id and newest.pair_id
    stands = one.store.record_vote(newest.pair_id, "right", "ada", "0", once=True)
    assert stands.verdict == "left" and len(one.store.events()) == 2
    one.store.undo_vote(newest.pair_id, "ada")
    again = one.store.record_vote(newest.pair_id, "right", "ada", "0", hidden=True, once=True)
    assert again.verdict == "right" and again.blind and len(one.store.events()) == 4
    assert one.queue.item_of("ada", newest.pair_id).verdict == "right" and one.queue.last_answered("bob") is None
    with pytest.raises(ValueError, match="was not given to 'bob'"):
        one.queue.item_of("bob", newest.pair_id)


def test_resume_undo_and_prefetch(arena) -> None:
    """Prevents another pair after a reload, an undone vote that counts, and a prefetch that skips a pair."""
    one = arena()
    first, ahead = one.queue.next_item("ada"), one.queue.next_item("ada", ahead=1)
    assert first and ahead and first.id != ahead.id and one.queue.next_item("ada") == first
    pair_id = one.show(first)
    assert one.queue.attach(first.id, "another") == pair_id  # of two tabs, the first one counts
    one.store.record_vote(pair_id, "tie", "ada", "0")
    again = arena()  # as after a restart
    assert again.queue.next_item("ada") == ahead and again.queue.progress("ada").answered == 1
    one.store.undo_vote(pair_id, "ada")
    assert one.queue.next_item("ada") == replace(first, pair_id=pair_id)
    for _ in range(3):
        item = one.queue.next_item("ada")
        assert item
        one.store.record_vote(item.pair_id or one.show(item), "left", "ada", "0")
    assert one.queue.next_item("ada") is None and one.queue.progress("ada").done


def test_skips_and_abandoned_items_are_given_to_others(arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents comparisons that stay unjudged because somebody closed the browser."""
    one = arena(replace(STUDY, prompts=("walk",), votes_per_pair=1))
    one.answer("ada", "skip")
    assert one.queue.next_item("bob") is not None and one.queue.next_item("cleo") is None
    monkeypatch.setattr(studies_queue, "ABANDONED_AFTER", timedelta(0))
    assert one.queue.next_item("cleo") is not None


def test_repeats_are_swapped_and_checks_show_one_motion_twice(arena) -> None:
    """Prevents repeats that can't tell habit from judgement, and checks that have a right side."""
    study = replace(STUDY, pairs_per_person=4, repeats=0.5, attention_checks=0.25)
    one = arena(study)
    items = [one.answer("ada") for _ in range(7)]
    kinds = Counter(item.kind for item in items if item)
    assert kinds == {"comparison": 4, "repeat": 2, "check": 1} and one.answer("ada") is None
    assert one.queue.progress("ada").total == 7
    shown = {item.prompt: item for item in items if item and item.kind == "comparison"}
    for item in filter(None, items):
        if item.kind == "repeat":
            assert (item.left_version, item.right_version) == (
                shown[item.prompt].right_version,
                shown[item.prompt].left_version,
            )
        assert (item.left_version == item.right_version) == (item.kind == "check")


def test_more_pairs_a_person_than_there_are(arena) -> None:
    """Prevents people who never reach the end, and repeats and checks that nobody is given."""
    one = arena(Study("small", ("walk",), ("base", "aligned"), repeats=1.0, attention_checks=1.0))
    for name in ("ada", "bob", "cleo"):
        kinds = []
        while (item := one.answer(name)) is not None:
            kinds.append(item.kind)
        assert Counter(kinds) == {"comparison": 1, "repeat": 1, "check": 1} and one.queue.progress(name).done
    assert one.answer("dan") is None, "all votes are there; checks alone tell nothing"


def test_repeats_and_checks_come_where_others_took_the_comparisons(arena) -> None:
    """Prevents a last person of a study whose answers nobody can check."""
    one = arena(replace(STUDY, votes_per_pair=1, pairs_per_person=3, repeats=0.34, attention_checks=1.0))
    given = {name: [] for name in ("ada", "bob")}
    for name, kinds in given.items():
        while (item := one.answer(name)) is not None:
            kinds.append(item.kind)
    assert Counter(given["ada"]) == {"comparison": 3, "repeat": 1, "check": 3}
    assert Counter(given["bob"]) == {"comparison": 1, "repeat": 1, "check": 3}


@pytest.mark.parametrize("seed", range(8))
def test_every_repeat_finds_a_comparison(arena, seed: int) -> None:
    """Prevents a study that ends where more is repeated than was seen so far."""
    one = arena(replace(STUDY, pairs_per_person=4, repeats=1.0, seed=seed))
    kinds = []
    while (item := one.answer("ada")) is not None:
        kinds.append(item.kind)
    assert Counter(kinds) == {"comparison": 4, "repeat": 4} and one.queue.progress("ada").done


def test_every_other_check_is_a_real_motion_beside_noise(arena) -> None:
    """Prevents checks that only a tie passes: whoever always answers tie is found too."""
    real = RealMotion("a person jumps", "jump.npy")
    one = arena(replace(STUDY, pairs_per_person=4, attention_checks=1.0, real_motions=(real,)))
    checks = [item for item in (one.answer("ada") for _ in range(8)) if item and item.kind == "check"]
    sides = [{item.left_version, item.right_version} for item in checks]
    assert sides[::2] == [{"real", "noise"}] * 2 and all(len(side) == 1 for side in sides[1::2])
    assert {item.prompt for item in checks[::2]} == {"a person jumps"}


def test_a_changed_study_and_unknown_items_are_refused(arena) -> None:
    """Prevents answers to two different questions under one name."""
    one = arena()
    with pytest.raises(ValueError, match="'s' is under way with another definition"):
        arena(replace(STUDY, seed=5))
    with pytest.raises(ValueError, match="item 99 is unknown"):
        one.queue.attach(99, "x")


def test_study_file(tmp_path: Path) -> None:
    """Prevents a field that is read as something else, or not at all."""
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "s"\nprompts = ["walk", "wave"]\nversions = ["base", "aligned"]\ncriteria = ["style"]\nrepeats = 1\n'
        'comment = true\n[[real_motions]]\nprompt = "a person jumps"\nfile = "jump.npz"\n'
    )
    study, real = load_study(path), (RealMotion("a person jumps", "jump.npz"),)
    assert study == Study(
        "s", ("walk", "wave"), ("base", "aligned"), criteria=("style",), comment=True, repeats=1.0, real_motions=real
    )
    assert [c.prompt for c in study.comparisons()] == ["walk", "wave"]
    assert study.schedule("ada") == study.schedule("ada")
    assert len({tuple(study.schedule(name)) for name in ("ada", "bob", "cleo", "dan")}) > 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "study.toml: Invalid value"),
        ('name = "s"', "field 'prompts' is missing"),
        ('nmae = "s"', "field 'nmae' is unknown. Allowed are name, prompts"),
        ('name = "s"\nprompts = "walk"\nversions = ["a", "b"]', "prompts='walk' has the wrong type. Needed is a list"),
        ('name = "s"\nprompts = ["walk"]\nversions = ["a"]', "versions=['a'] must be 2 or more different"),
        ('name = "s"\nprompts = ["w", "w"]\nversions = ["a", "b"]', "prompts=['w', 'w'] must be 1 or more different"),
        ('name = " "\nprompts = ["w"]\nversions = ["a", "b"]', "name is empty"),
        ('name = "s"\nprompts = ["w"]\nversions = ["a", "b"]\nrepeats = 2', "repeats=2.0 is outside 0-1"),
        ('name = "s"\nprompts = ["w"]\nversions = ["a", "b"]\nvotes_per_pair = 0', "votes_per_pair=0 is too small"),
        ('name = "s"\nprompts = ["w"]\nversions = ["a", "b"]\nseed = true', "seed=True has the wrong type"),
        (
            'name = "s"\nprompts = ["w"]\nversions = ["a", "b"]\n'
            + 2 * '[[real_motions]]\nprompt = "jump"\nfile = "j.bvh"\n',
            "real_motions name prompt 'jump' twice",
        ),
        ('name = "s"\nprompts = ["w"]\nversions = ["a", "b"]\nreal_motions = ["x"]', "is a list of tables with prompt"),
    ],
)
def test_mistakes_in_a_study_file_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    """Prevents a study that runs for a week with a mistyped field."""
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_study(path)
    assert sentence in str(caught.value)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_study(tmp_path / "none.toml")
