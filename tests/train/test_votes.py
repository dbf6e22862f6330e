"""Votes in SPL: read with their motions, learnt beside mined pairs, kept away from retrieval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from core.models.reward import RewardConfig, RewardModel
from core.preference.mining import MiningConfig
from core.preference.pairs import SourceWeights
from core.preference.store import PreferenceStore
from core.train.spl_task import HeldOut, SplConfig, SplTask
from core.train.votes import VotedSet, load_votes
from tests.train.conftest import cast_vote, make_cache

SPL = SplConfig(voted_share=0.5, mining=MiningConfig(pool=4, texts=16, every=3))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    store = PreferenceStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def load(store, tmp_path, train_set):
    """Reads the votes as they stand at the call."""
    return lambda: load_votes(tmp_path, None, train_set, SPL.sources)


def make_task(train_set, val_set, votes: VotedSet | None) -> SplTask:
    torch.manual_seed(0)
    model = RewardModel(RewardConfig(12, width=16, heads=2, motion_layers=1, text_layers=1, embedding=8, dropout=0.0))
    cache = make_cache(train_set, val_set, *([votes.motions] if votes else []))
    return SplTask(model, train_set, HeldOut(val_set, val_set, 2, 2), cache, 16, 0, SPL, votes)


@torch.no_grad()
def margins(task: SplTask) -> list[float]:
    """Reward of the chosen motion less that of the rejected one, of every vote."""
    rows = np.array([(pair.chosen, pair.rejected) for pair in task.buffer.votes])
    features, lengths = task.train.motions.batch(rows.ravel())
    text = task.train.table.draw(rows[:, [0, 0]].ravel(), np.random.default_rng(0))
    rewards = task.model(torch.from_numpy(features), torch.from_numpy(lengths), text).reshape(-1, 2)
    return (rewards[:, 0] - rewards[:, 1]).tolist()


def test_votes_become_pairs_with_source_weight_and_time(store, load, train_set) -> None:
    """Fails where a vote names the wrong motion, or "both bad" and a caption of the training set don't meet."""
    caption = train_set.captions[5][1]
    left, right = cast_vote(store, "right", 0)
    cast_vote(store, "tie", 2)
    cast_vote(store, "both_bad", 4, caption)
    cast_vote(store, "both_bad", 6)  # a prompt that no training motion is described by
    cast_vote(store, "skip", 8)
    votes = load()
    facts = [(pair.source, pair.tie, pair.weight) for pair in votes.pairs]
    assert facts == [("human", False, 1.0), ("human", True, 1.0), *2 * [("both_bad", False, 0.5)]]
    assert [pair.created for pair in votes.pairs][:3] == [vote.created for vote in store.votes()][:3]
    np.testing.assert_array_equal(votes.motions.motion(votes.pairs[0].chosen), store.motions.load(right))
    np.testing.assert_array_equal(votes.motions.motion(votes.pairs[0].rejected), store.motions.load(left))
    described = max(i for i, captions in enumerate(train_set.captions) if caption in captions)
    np.testing.assert_array_equal(votes.motions.motion(votes.pairs[2].chosen), train_set.motion(described))


def test_a_batch_holds_votes_beside_mined_pairs_and_retrieval_does_not_see_them(
    store, load, train_set, val_set
) -> None:
    """Fails where two takes of one prompt are negatives of each other, or votes change what retrieval learns."""
    for seed in (0, 2, 4):
        cast_vote(store, "left", seed)
    task, without = (make_task(train_set, val_set, votes) for votes in (load(), None))
    batch, plain = task.batch(0, 0, 1), without.batch(0, 0, 1)
    assert batch.retrieved == 16 and len(batch.pairs.lengths) == 16 + 6
    mined = len(plain.chosen)
    assert mined and len(batch.chosen) == mined + 3 and batch.chosen[mined:].min() == 16
    lengths = batch.pairs.lengths
    assert (lengths[batch.chosen[mined:]] == 40).all() and (lengths[batch.rejected[mined:]] == 41).all()
    torch.testing.assert_close(lengths[:16], plain.pairs.lengths)
    with torch.no_grad():
        found, expected = (t.loss(t.model, b) for t, b in ((task, batch), (without, plain)))
    assert torch.isfinite(found["loss"]) and float(found["spl"]) != float(expected["spl"])
    assert {pair.source for pair in task.buffer.votes + task.buffer.mined} == {"human", "mined"}


def test_training_raises_the_chosen_and_leaves_ties(store, load, train_set, val_set) -> None:
    for seed in range(0, 12, 2):
        cast_vote(store, "right" if seed % 4 else "left", seed)
    cast_vote(store, "tie", 12)
    task = make_task(train_set, val_set, load())
    before = margins(task)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    for step in range(40):
        optimizer.zero_grad()
        task.loss(task.model, task.batch(step, 0, 1))["loss"].backward()
        optimizer.step()
    after = margins(task)
    assert all(b < a and a > 0.1 for b, a in zip(before[:6], after[:6], strict=True)), (before, after)
    assert abs(after[6]) < 0.1, (before, after)


def test_weight_zero_leaves_a_source_out(store, tmp_path, train_set, val_set) -> None:
    cast_vote(store, "left", 0)
    votes = load_votes(tmp_path, None, train_set, SourceWeights(human=0.0))
    task, without = (make_task(train_set, val_set, v) for v in (votes, None))
    with torch.no_grad():
        found, expected = (float(t.loss(t.model, t.batch(0, 0, 1))["spl"]) for t in (task, without))
    assert found == pytest.approx(expected)


def test_a_missing_motion_is_named(store, load) -> None:
    _, right = cast_vote(store, "left", 0)
    store.motions.path(right).unlink()
    with pytest.raises(FileNotFoundError, match=f"{right}.npz is missing"):
        load()


def test_an_empty_store_and_a_wrong_folder_are_told(store, load, tmp_path, train_set) -> None:
    with pytest.raises(ValueError, match="There is no vote in .* to learn from"):
        load()
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        load_votes(tmp_path / "none", None, train_set, SPL.sources)
    assert not (tmp_path / "none").exists()
