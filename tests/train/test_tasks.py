"""What the models are trained on: batches repeat exactly, texts belong to motions, padding is not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.data.compose import action_group
from core.data.dataset import MotionSet
from core.diffusion.schedule import CLEAN, training_alphas
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.judge import Judge, JudgeConfig
from core.models.latent_reward import LatentReward, LatentRewardConfig
from core.models.reward import RewardConfig, RewardModel
from core.models.vae import MotionVae, VaeConfig, VaeLossWeights
from core.motion.layout import POSITIONS, ROOT_HEIGHT, ROTATIONS
from core.text.features import TextFeatures
from core.train.latent_reward_task import CLEAN_SHARE, LatentRewardTask
from core.train.loop import Task
from core.train.tasks import (
    DROP_TEXT,
    BaseTask,
    CaptionTable,
    JudgeTask,
    LatentSet,
    PairBatch,
    RewardTask,
    VaeTask,
    batches_in_order,
    feature_statistics,
    meaning_ids,
    reconstruction_error,
)

SIZE = 8
VAE = VaeConfig(latent_dim=4, width=16, hidden=16, blocks=1, refine_width=8)
NULL = TextFeatures(torch.full((1, 2, 12), 0.5), torch.ones(1, 2, dtype=torch.bool), torch.full((1, 12), 0.25))


def latent_set(motions, cache) -> LatentSet:
    g = torch.Generator().manual_seed(0)
    return LatentSet(
        [torch.randn(-(-int(n) // 4), 4, generator=g) for n in motions.lengths], CaptionTable(motions, cache)
    )


def posed_latents(motions: MotionSet) -> list[torch.Tensor]:
    """One latent for four frames: the first four numbers of their mean."""
    frames = [torch.from_numpy(motions.motion(i)) for i in range(len(motions))]
    return [torch.stack([part.mean(0)[:4] for part in f.split(4)]) * 10 for f in frames]


@pytest.fixture
def make_task(train_set, val_set, cache) -> Callable[..., Task]:
    """make_task(name, seed=0): a task with a tiny model."""

    def make(name: str, seed: int = 0) -> Task:
        torch.manual_seed(0)
        if name == "vae":
            return VaeTask(MotionVae(VAE), train_set, val_set, SIZE, seed, VaeLossWeights(), window=50)
        if name == "base":
            model = Denoiser(DenoiserConfig(latent_dim=4, text_dim=12, width=16, layers=1, heads=2))
            return BaseTask(model, latent_set(train_set, cache), latent_set(val_set, cache), NULL, SIZE, seed)
        if name == "reward":
            config = RewardConfig(text_dim=12, width=16, heads=2, motion_layers=1, text_layers=1, embedding=8)
            return RewardTask(RewardModel(config), train_set, val_set, cache, SIZE, seed)
        if name == "latent-reward":
            sizes = {"width": 16, "heads": 2, "motion_layers": 1, "text_layers": 1, "embedding": 8}
            model = LatentReward(LatentRewardConfig(text_dim=12, **sizes, latent_dim=4))
            latents = posed_latents(train_set), posed_latents(val_set)
            return LatentRewardTask(model, train_set, val_set, latents, cache, SIZE, seed)
        words = ("a", "person", "tired", "happy", "walks", "waves", "bows", "runs")
        return JudgeTask(Judge(JudgeConfig(words, word_dim=8, width=16, embedding=8)), train_set, val_set, SIZE, seed)

    return make


def tensors(batch) -> list[torch.Tensor]:
    """All tensors of a batch of any task."""
    values = [batch.features, batch.lengths, batch.text, batch.same] if isinstance(batch, PairBatch) else batch
    flat = [[v.tokens, v.mask, v.pooled] if isinstance(v, TextFeatures) else [v] for v in values]
    return [v for part in flat for v in part if isinstance(v, torch.Tensor)]


def equal(a, b) -> bool:
    pairs = zip(tensors(a), tensors(b), strict=True)
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("name", ["vae", "base", "reward", "latent-reward", "judge"])
def test_batch_is_a_function_of_step_process_and_seed(make_task, name) -> None:
    """Resuming relies on it: fails where a batch depends on the batches before, or all processes get the same."""
    task = make_task(name)
    batch = task.batch(7, 0, 1)
    task.batch(8, 0, 1)
    assert equal(batch, task.batch(7, 0, 1)) and equal(batch, make_task(name).batch(7, 0, 1))
    for other in (task.batch(8, 0, 1), task.batch(7, 1, 2), make_task(name, seed=1).batch(7, 0, 1)):
        assert not equal(batch, other)


@pytest.mark.parametrize("name", ["vae", "base", "reward", "latent-reward", "judge"])
def test_loss_falls_and_validation_repeats(make_task, name) -> None:
    """Fails where a loss has no gradient, or validation figures change with the state of the random generators."""
    task = make_task(name)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    task.model.eval()
    with torch.no_grad():
        first = task.validate(task.model)
        torch.manual_seed(99)
        assert task.validate(task.model) == first
    task.model.train()
    losses = []
    for step in range(30):
        torch.manual_seed(step)
        loss = task.loss(task.model, task.batch(step, 0, 1))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.97 * np.mean(losses[:8])


def test_vae_windows_are_cut_from_the_motions(make_task, train_set) -> None:
    """Fails where a window runs over into the next motion."""
    task = make_task("vae")
    features, lengths = task.batch(0, 0, 1)
    assert lengths.max() <= 50 and features.shape == (SIZE, lengths.max(), 263)
    whole = [train_set.motion(i) for i in range(len(train_set))]
    for row, n in zip(features.numpy(), lengths.tolist(), strict=True):
        assert not row[n:].any()
        places = [(m, s) for m in whole for s in range(len(m) - n + 1) if np.array_equal(m[s], row[0])]
        assert len(places) == 1 and np.array_equal(places[0][0][places[0][1] : places[0][1] + n], row[:n])


def test_statistics_share_a_spread_within_a_group(train_set) -> None:
    """Fails where a nearly constant feature is blown up by its own tiny spread, or a constant group divides by zero."""
    mean, std = feature_statistics(train_set)
    np.testing.assert_allclose(mean, train_set.features.mean(0), atol=1e-4)
    for block in (slice(1, 3), POSITIONS, ROTATIONS):
        assert std[block].unique().numel() == 1
        assert float(std[block][0]) == pytest.approx(float(train_set.features[:, block].std(0).mean()), rel=1e-3)
    still = replace(train_set, features=np.ones_like(train_set.features))
    assert (feature_statistics(still)[1] > 0).all()


class Lifted(MotionVae):
    """Reconstructs everything 10 mm too high."""

    def reconstruct(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        out = features.clone()
        out[..., POSITIONS.start + 1 : POSITIONS.stop : 3] += 0.01
        out[..., ROOT_HEIGHT] += 0.01
        return out


def test_reconstruction_error_is_in_millimetres(val_set) -> None:
    figures = reconstruction_error(Lifted(VAE), val_set)
    assert figures["root_relative_mm"] == pytest.approx(10.0, rel=1e-3)
    assert figures["absolute_mm"] == pytest.approx(10.0, rel=1e-3)
    assert figures["acceleration_ratio"] == pytest.approx(1.0, rel=1e-3)


def test_latents_of_a_batch_have_similar_lengths_and_their_own_captions(train_set, cache) -> None:
    latents = latent_set(train_set, cache)
    for z in latents.latents:  # mark every latent with its motion's caption
        z.zero_()
    for z, row in zip(latents.latents, latents.table.rows, strict=True):
        z[:, 0] = float(row[0])
    model = Denoiser(DenoiserConfig(latent_dim=4, text_dim=12, width=16, layers=1, heads=2))
    task = BaseTask(model, latents, latents, NULL, 2, seed=0)
    spans, dropped, rows = [], 0, 0
    for step in range(60):
        z, lengths, text = task.batch(step, 0, 1)
        spans.append(int(lengths.max() - lengths.min()))
        for i in range(2):
            assert not z[i, lengths[i] :].any()
            rows += 1
            if torch.equal(text.pooled[i], NULL.pooled[0]):
                dropped += 1
                assert text.mask[i].sum() == 2 and torch.equal(text.tokens[i, :2], NULL.tokens[0])
                assert not text.tokens[i, 2:].any()
            else:
                first = int(z[i, 0, 0])
                own = [row for row in latents.table.rows.tolist() if row[0] == first]
                assert any(torch.equal(text.pooled[i], cache.pooled[j]) for row in own for j in row)
    assert np.mean(spans) < 0.7 * np.ptp([len(z) for z in latents.latents])
    assert 0.3 * DROP_TEXT < dropped / rows < 3 * DROP_TEXT


def test_denoising_loss_counts_real_latents_only(make_task) -> None:
    """The untrained denoiser says 0, so its loss is the mean square of the real numbers."""
    task = make_task("base")
    z, lengths, text = task.batch(0, 0, 1)
    expected = torch.cat([z[i, :n].flatten() for i, n in enumerate(lengths.tolist())]).square().mean()
    assert float(task.loss(task.model, (z, lengths, text))["loss"].detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", ["reward", "judge"])
def test_pairs_belong_together_and_same_marks_equal_meanings(make_task, name, train_set, cache) -> None:
    """Fails where captions and motions are shuffled apart: nothing could be learnt, silently."""
    batch = make_task(name).batch(3, 0, 1)
    chosen = []
    for row, n in zip(batch.features.numpy(), batch.lengths.tolist(), strict=True):
        chosen.append(next(i for i in range(len(train_set)) if np.array_equal(train_set.motion(i), row[:n])))
    for position, i in enumerate(chosen):
        if name == "judge":
            assert batch.text[position] in train_set.captions[i]
        else:
            own = [cache.pooled[cache.index[c]] for c in train_set.captions[i]]
            assert any(torch.equal(batch.text.pooled[position], pooled) for pooled in own)
    expected = [[train_set.meanings[i] == train_set.meanings[j] for j in chosen] for i in chosen]
    assert batch.same.tolist() == expected


def test_half_of_the_judges_batch_are_near_misses(make_task, train_set) -> None:
    """Fails where the judge only meets random negatives: it would learn actions and neither style nor side."""
    task = make_task("judge")
    near = task.near.draw(np.random.default_rng(0), 3)
    actions = [action_group(train_set.meanings[i]) for i in near]
    assert len(near) == 3 * task.near.group
    assert all(len(set(actions[i : i + task.near.group])) == 1 for i in range(0, len(near), task.near.group))


def test_meanings_are_numbered_over_all_sets(train_set, val_set) -> None:
    ids, val_ids = meaning_ids(train_set, val_set)
    for j, meaning in enumerate(val_set.meanings):
        expected = {int(ids[i]) for i, other in enumerate(train_set.meanings) if other == meaning}
        assert expected in ({int(val_ids[j])}, set())


def test_chunks_cover_everything_once() -> None:
    assert [c.tolist() for c in batches_in_order(5, 2)] == [[0, 1], [2, 3], [4]] and not list(batches_in_order(0, 2))


def test_noised_latents_are_of_their_own_motions_and_levels(make_task, train_set) -> None:
    """Fails where texts meet latents of other motions, or the reward is told another noise level than there is."""
    task = make_task("latent-reward")
    batch, seen = task.batch(3, 0, 1), []
    z = posed_latents(train_set)
    for row, n in zip(batch.features, batch.lengths.tolist(), strict=True):
        seen += [i for i in range(len(z)) if n == train_set.lengths[i] and torch.equal(row[: len(z[i])], z[i])]
    expected = [[train_set.meanings[i] == train_set.meanings[j] for j in seen] for i in seen]
    assert len(seen) == SIZE and batch.same.tolist() == expected

    class Told:
        def embed_latent(self, x_t, t, lengths):
            return x_t, t

    for level in (None, CLEAN, 300, 999):
        task.level = level
        for draw in range(8):
            torch.manual_seed(draw)
            x_t, t = task.embed(Told(), batch)
            torch.manual_seed(draw)
            noise, again = task.embed(Told(), replace(batch, features=torch.zeros_like(batch.features)))
            signal = torch.where(t == CLEAN, 1.0, training_alphas()[t])[:, None, None]
            torch.testing.assert_close(x_t - noise, signal.sqrt() * batch.features, atol=1e-5, rtol=0)
            spread = noise.square().mean((1, 2)).sqrt()
            torch.testing.assert_close(spread, (1 - signal).sqrt().flatten(), atol=0.25, rtol=0)
            assert torch.equal(t, again) and (level is None or t.tolist() == [level] * SIZE)


def test_timesteps_of_noised_latents_are_spread_and_some_are_clean(make_task) -> None:
    task, drawn = make_task("latent-reward"), []
    batch = task.batch(3, 0, 1)

    class Told:
        def embed_latent(self, x_t, t, lengths):
            drawn.extend(t.tolist())

    torch.manual_seed(0)
    for _ in range(100):
        task.embed(Told(), batch)
    clean = sum(t == CLEAN for t in drawn)
    assert 0.5 * CLEAN_SHARE < clean / len(drawn) < 2 * CLEAN_SHARE
    assert min(drawn) == CLEAN and max(drawn) > 950 and 400 < np.mean([t for t in drawn if t != CLEAN]) < 600
