"""The store keeps what it acknowledged, forgets nothing, and refuses what it can't keep, in a sentence."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take, new_pair_id, now


@pytest.fixture
def store(tmp_path: Path, database: str) -> Iterator[PreferenceStore]:
    store = PreferenceStore(tmp_path, database)
    yield store
    store.close()


def motion(seed: int, frames: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, 263)).astype(np.float32)


def make_pair(store: PreferenceStore, seed: int = 7, prompt: str = "a person walks – naïvely 走") -> Pair:
    take = Take(
        prompt=prompt,
        seed=seed,
        frames=40,
        steps=50,
        guidance_scale=2.5,
        solver="ddim",
        model_version="base",
        weights_sha256="0123456789abcdef",
        text_encoder="minilm",
        device="cpu",
        code_version="0.1.0",
        torch_version="2.13.0",
        motion_sha256=store.save_motion(motion(seed)),
    )
    other = replace(take, model_version="aligned", motion_sha256=store.save_motion(motion(seed + 1)))
    pair = Pair(id=new_pair_id(), left=other, right=take, created=now())
    store.add_pair(pair)
    return pair


def test_pair_and_motions_come_back_as_they_went_in(store: PreferenceStore) -> None:
    """Prevents a row that can't make its motions again: every field and every bit of the features survives."""
    pair = make_pair(store)
    assert store.pair(pair.id) == pair
    assert np.array_equal(store.load_motion(pair.right), motion(7))
    assert np.array_equal(store.load_motion(pair.left), motion(8))


def test_vote_names_versions_by_side_and_time(store: PreferenceStore) -> None:
    """Prevents votes credited to the wrong model."""
    pair = make_pair(store)
    before = now()
    vote = store.record_vote(pair.id, "left", " Ada ", "0.1.0", response_s=3.25)
    assert (vote.verdict, vote.left_version, vote.right_version) == ("left", "aligned", "base")
    assert vote.annotator == "Ada" and vote.response_s == 3.25 and vote.blind
    assert before <= vote.created <= now()
    assert store.votes(pair.id) == [vote]


def test_second_vote_supersedes_and_is_marked_not_blind(store: PreferenceStore) -> None:
    """Prevents double counting, and unblinded changes passing for blind votes."""
    pair = make_pair(store)
    store.record_vote(pair.id, "left", "ada", "0.1.0")
    changed = store.record_vote(pair.id, "tie", "ada", "0.1.0")
    other = store.record_vote(pair.id, "right", "bob", "0.1.0")
    assert not changed.blind and other.blind
    assert store.votes() == [changed, other]


def test_undo_is_an_event_and_the_next_vote_counts_again(store: PreferenceStore) -> None:
    """Prevents undo from deleting history."""
    pair = make_pair(store)
    store.record_vote(pair.id, "both_bad", "ada", "0.1.0")
    assert store.undo_vote(pair.id, "ada").verdict == "both_bad"
    assert store.votes() == [] and store.counts() == (1, 0)
    again = store.record_vote(pair.id, "skip", "ada", "0.1.0")
    assert store.votes() == [again] and not again.blind


def test_attention_checks_teach_nothing(store: PreferenceStore) -> None:
    """Prevents a reward that learns from a motion beside itself, or from noise."""
    pair = make_pair(store)
    same = replace(pair, id=new_pair_id(), right=pair.left)
    noise = replace(pair, id=new_pair_id(), right=replace(pair.right, model_version="noise"))
    for shown in (same, noise):
        store.add_pair(shown)
    for shown in (pair, same, noise):
        store.record_vote(shown.id, "left", "ada", "0.1.0")
    assert [shown.is_check for shown in (pair, same, noise)] == [False, True, True]
    assert [row.left_sha256 for row in store.vote_rows()] == [pair.left.motion_sha256]
    assert store.answers_by_annotator() == {"ada": 1}, "what is counted is what can be learnt from"


def test_history_is_append_only(tmp_path: Path) -> None:
    """Prevents events from being rewritten: three actions leave three rows."""
    store = PreferenceStore(tmp_path)
    pair = make_pair(store)
    store.record_vote(pair.id, "left", "ada", "0.1.0")
    store.undo_vote(pair.id, "ada")
    store.record_vote(pair.id, "right", "ada", "0.1.0")
    with sqlite3.connect(tmp_path / "arena.db") as connection:
        rows = connection.execute("SELECT kind, verdict FROM vote_events ORDER BY id").fetchall()
    assert rows == [("vote", "left"), ("undo", None), ("vote", "right")]


def test_sqlite_commits_survive_power_cuts(tmp_path: Path) -> None:
    """Prevents an acknowledged vote from living in memory only."""
    store = PreferenceStore(tmp_path)
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_reopened_store_has_everything(tmp_path: Path) -> None:
    """Prevents a start that creates its tables anew."""
    first = PreferenceStore(tmp_path)
    pair = make_pair(first)
    vote = first.record_vote(pair.id, "tie", "ada", "0.1.0")
    first.close()
    (record,) = PreferenceStore(tmp_path).recent()
    assert record.pair == pair and record.votes == (vote,)


def test_recent_is_newest_first_and_pages(store: PreferenceStore) -> None:
    """Prevents a history that repeats or skips pairs."""
    pairs = [make_pair(store, seed) for seed in range(5)]
    newest = [record.pair.id for record in store.recent(2)] + [record.pair.id for record in store.recent(9, offset=2)]
    assert newest == [pair.id for pair in reversed(pairs)]


def test_threads_lose_no_vote(store: PreferenceStore) -> None:
    """Prevents "database is locked" and lost updates when visitors vote at once."""
    pair = make_pair(store)
    failures: list[Exception] = []

    def vote(name: str) -> None:
        try:
            for verdict in ("left", "right", "tie"):
                store.record_vote(pair.id, verdict, name, "0.1.0")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=vote, args=(f"annotator {i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    votes = store.votes(pair.id)
    assert len(votes) == 8 and {vote.verdict for vote in votes} == {"tie"}


@pytest.mark.parametrize(
    ("pair_id", "verdict", "annotator", "sentence"),
    [
        ("nowhere", "left", "ada", "Pair 'nowhere' is unknown"),
        (None, "best", "ada", "verdict='best' is unknown. Choose one of left, right, tie, both_bad, skip"),
        (None, "left", "  ", "annotator's name has 0 letters"),
        (None, "left", "x" * 81, "annotator's name has 81 letters"),
    ],
)
def test_bad_votes_are_refused_and_leave_no_trace(
    store: PreferenceStore, pair_id: str | None, verdict: str, annotator: str, sentence: str
) -> None:
    """Prevents votes that nothing can be learnt from."""
    pair = make_pair(store)
    with pytest.raises(ValueError, match=sentence):
        store.record_vote(pair_id or pair.id, verdict, annotator, "0.1.0")
    assert store.votes() == []


def test_undo_without_a_vote_is_refused(store: PreferenceStore) -> None:
    """Prevents undo events that take nothing back."""
    pair = make_pair(store)
    with pytest.raises(ValueError, match="no vote on pair"):
        store.undo_vote(pair.id, "ada")


def test_pair_whose_motion_is_missing_is_refused(store: PreferenceStore) -> None:
    """Prevents a row that names a file which was never written."""
    pair = make_pair(store)
    lost = replace(pair, id=new_pair_id(), left=replace(pair.left, motion_sha256="0" * 64))
    with pytest.raises(FileNotFoundError, match="Save it before its pair"):
        store.add_pair(lost)
    with pytest.raises(ValueError, match="already stored"):
        store.add_pair(pair)


@pytest.mark.parametrize("url", ["garbage", "nosuchbase://localhost/arena", "sqlite:////nowhere/at/all/arena.db"])
def test_unusable_database_is_one_sentence(tmp_path: Path, url: str) -> None:
    """Prevents a traceback at the start for a mistyped --database."""
    with pytest.raises(ValueError, match="can't be opened .* Give a URL such as sqlite:///arena.db"):
        PreferenceStore(tmp_path, url)


def test_password_is_not_repeated_in_errors(tmp_path: Path) -> None:
    """Prevents a secret in the log."""
    with pytest.raises(ValueError) as caught:
        PreferenceStore(tmp_path, "postgresql+psycopg://ada:hunter2@localhost:1/arena")
    assert "hunter2" not in str(caught.value)


def test_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """Prevents an old program from writing into a schema it doesn't know."""
    PreferenceStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "arena.db") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(ValueError, match="schema version 99, this program knows 1. Update the program"):
        PreferenceStore(tmp_path)
