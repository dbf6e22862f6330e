"""Self-refinement: batches hold what was mined, mining follows the weights, and the loss teaches what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.models.reward import RewardConfig, RewardModel
from core.preference.mining import MiningConfig
from core.train.spl_task import HeldOut, SplConfig, SplTask, retrieval_figures

SPL = SplConfig(mined_share=0.5, mining=MiningConfig(pool=4, texts=16, every=3))


@pytest.fixture
def task(train_set, val_set, cache) -> SplTask:
    torch.manual_seed(0)
    model = RewardModel(RewardConfig(12, width=16, heads=2, motion_layers=1, text_layers=1, embedding=8, dropout=0.0))
    return SplTask(model, train_set, HeldOut(val_set, val_set, 2, 2), cache, size=16, seed=0, spl=SPL)


def test_a_batch_begins_with_mined_pairs(task: SplTask, train_set) -> None:
    """Fails where eq. (2) is taken of rows that are no pair: the text would be set against its own motion."""
    batch, mined = task.batch(0, 0, 1), task.buffer.mined
    assert mined and len(batch.chosen) == min(4, len(mined)) and len(batch.pairs.lengths) == batch.retrieved == 16
    assert all(pair.source == "mined" and not pair.tie for pair in mined)
    assert all(train_set.meanings[pair.chosen] != train_set.meanings[pair.rejected] for pair in mined)
    expected = {(int(train_set.lengths[pair.chosen]), int(train_set.lengths[pair.rejected])) for pair in mined}
    lengths = batch.pairs.lengths
    assert set(zip(lengths[batch.chosen].tolist(), lengths[batch.rejected].tolist(), strict=True)) <= expected


def test_mined_again_when_it_is_time_and_only_then(task: SplTask) -> None:
    task.batch(0, 0, 1)
    first = task.buffer.mined
    task.batch(2, 0, 1)
    assert first and task.buffer.mined is first
    task.batch(3, 0, 1)
    assert task.buffer.mined is not first


def test_a_batch_is_a_function_of_the_step(task: SplTask) -> None:
    """Fails where a resumed run would see other data."""
    a, b = task.batch(1, 0, 1).pairs, task.batch(1, 0, 1).pairs
    torch.testing.assert_close(a.features, b.features)
    torch.testing.assert_close(a.text.tokens, b.text.tokens)


def test_training_turns_mined_pairs_round(task: SplTask) -> None:
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        found = task.loss(task.model, task.batch(step, 0, 1))
        assert set(found) == {"loss", "retrieval", "spl", "wrong"}
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


def test_without_failures_it_is_retrieval_alone(task: SplTask) -> None:
    task._mined_at = 0
    batch = task.batch(0, 0, 1)
    found = task.loss(task.model, batch)
    assert len(batch.chosen) == 0 and float(found["spl"]) == 0.0 and len(batch.pairs.lengths) == 16
    assert float(found["loss"]) == float(found["retrieval"])


def test_figures_are_shares_and_do_not_depend_on_the_moment(task: SplTask) -> None:
    data = task.val
    torch.manual_seed(1)
    figures = retrieval_figures(task.model.eval(), data, task.cache)
    assert figures == retrieval_figures(task.model, data, task.cache)
    assert set(figures) == {"plain_1", "near_1", "edited_1"} and all(0 <= v <= 1 for v in figures.values())


def test_near_misses_that_are_not_there_are_left_out(task: SplTask) -> None:
    """Prevents a refinement that stops where every caption is a meaning of its own, as in HumanML3D."""
    plain = task.val.plain
    own = replace(plain, meanings=tuple(f"text:{i}" for i in range(len(plain))))
    assert set(retrieval_figures(task.model, replace(task.val, plain=own), task.cache)) == {"plain_1", "edited_1"}


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match="mined_share"):
        SplConfig(mined_share=0.8, near_share=0.4)
    with pytest.raises(ValueError, match="voted_share=2"):
        SplConfig(voted_share=2.0)
