"""From an archive of clips to five checkpoints that load: the functions behind `python -m core train`, at toy size."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.align.config import AlignConfig, GuardConfig
from core.body.smpl_files import DEFAULT_BODY, load_body
from core.commands.align import Align
from core.commands.align import run as align_run
from core.data.clips import Clip, ClipArchive, save_archive
from core.data.prepare import split_clips
from core.diffusion.rollout import SamplerConfig, sample_motions
from core.models.checkpoint import load_diffusion, load_judge, load_module, load_reward, load_vae, read_adapters
from core.models.denoiser import DenoiserConfig
from core.models.latent_reward import LatentRewardConfig
from core.models.reward import RewardConfig
from core.models.vae import VaeConfig
from core.preference.mining import MiningConfig
from core.preference.store import PreferenceStore
from core.text.encoder import load_text_encoder
from core.train import run
from core.train.loop import LoopConfig
from core.train.refine import Refine, interpolate, refine_reward
from core.train.run import (
    DataConfig,
    TrainBase,
    TrainJudge,
    TrainLatentReward,
    TrainReward,
    TrainVae,
    caption_cache,
    encode_set,
    motion_sets,
    train_base,
    train_judge,
    train_latent_reward,
    train_reward,
    train_vae,
    vocabulary,
)
from core.train.spl_task import SplConfig
from tests.train.conftest import cast_vote

ROOT = Path(__file__).parents[2]
LOOP = LoopConfig(steps=3, batch_size=4, warmup=1, ema=0.5, precision="fp32", device="cpu", log_every=1, save_every=2)


def swing(number: int, content: str) -> Clip:
    t = np.arange(60)[:, None, None] / 20
    rng = np.random.default_rng(number)
    rotvecs = 0.4 * rng.normal(size=(22, 3)) * np.sin(3 * t + rng.uniform(0, 6, (22, 3)))
    trans = np.stack([0 * t[:, 0, 0], 0.9 + 0 * t[:, 0, 0], 0.5 * t[:, 0, 0]], 1)
    name = f"dataset-1_{content}_normal_{number:03d}"
    return Clip(name, "dataset-1", content, "normal", rotvecs.astype(np.float32), trans.astype(np.float32))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataConfig:
    folder = tmp_path_factory.mktemp("project")
    clips = [swing(i, content) for content in ("walk", "bow") for i in range(12)]
    rest = load_body(DEFAULT_BODY).joints.astype(np.float64)
    save_archive(folder / "data" / "clips.npz", ClipArchive(tuple(split_clips(clips)), rest))
    return DataConfig(
        folder / "data" / "clips.npz", folder / "checkpoints", folder / "runs", train_items=4, val_items=3
    )


@pytest.fixture(scope="module")
def trained(data) -> Path:
    """The folder of checkpoints after five commands."""
    vae = VaeConfig(latent_dim=4, width=16, hidden=16, blocks=1, refine_width=8)
    train_vae(TrainVae(data, vae, loop=LOOP))
    train_base(TrainBase(data, DenoiserConfig(latent_dim=4, width=16, layers=1, heads=2), LOOP))
    train_reward(TrainReward(data, RewardConfig(width=16, heads=2, motion_layers=1, text_layers=1), LOOP))
    tiny = LatentRewardConfig(width=16, heads=2, motion_layers=1, text_layers=1)
    train_latent_reward(TrainLatentReward(data, tiny, LOOP))
    train_judge(TrainJudge(data, 16, LOOP), command="python -m core train judge --width 16")
    return data.checkpoints


@pytest.mark.parametrize("name", ["vae", "base", "reward", "reward-noised", "judge"])
def test_checkpoint_says_how_it_was_made(trained, data, name) -> None:
    described = json.loads((trained / name / "config.json").read_text())
    (settings,) = described["training"].values()
    assert settings["loop"]["steps"] == 3 and settings["data"]["archive"] == str(data.archive)
    assert described["validation"] and all(np.isfinite(v) for v in described["validation"].values())
    typed = {
        "judge": "judge --width 16",
        "reward": "reward --name reward --loop.seed 0",
        "reward-noised": "latent-reward --name reward-noised --loop.seed 0",
    }.get(name, name)
    assert f"`python -m core train {typed}` on {data.archive}" in (trained / name / "card.md").read_text()
    made_from = json.loads((data.runs / name / "run.json").read_text())["made_from"]
    assert set(made_from) == ({"archive", "vae"} if name in ("base", "reward-noised") else {"archive"})
    assert (data.runs / name / "curves.png").exists() and (data.runs / name / "metrics.jsonl").exists()


def test_trained_models_work_together(trained, data) -> None:
    """Fails where one command's checkpoint does not fit the next: widths, words, normalisation."""
    model, encoder = load_diffusion(trained), load_text_encoder()
    (motion,) = sample_motions(model, encoder, ["a person walks"], [41], [0], SamplerConfig(steps=2))
    assert motion.shape == (41, 263) and np.isfinite(motion).all()
    features, lengths = torch.from_numpy(motion)[None], torch.tensor([41])
    assert load_reward(trained)(features, lengths, encoder.encode(["a person walks"])).shape == (1,)
    assert load_judge(trained).embed_motion(features, lengths).shape == (1, 128)


def test_the_base_is_aligned_on_noised_latents(trained, data) -> None:
    """Fails where the noise-aware reward does not fit the base it was made for, at its steps or at its monitors."""
    lax = {"max_skating_gain": 99.0, "max_acceleration_gain": 99.0, "max_distance": 1e9, "max_diversity_loss": 99.0}
    guards = GuardConfig(anchor_weight=0.1, monitor_every=1, **lax)
    settings = AlignConfig("easytune-sde", 3, 2, eta=1.0, updates=2, batch=4, lora_rank=2, lr=1e-2, guards=guards)
    config = Align(
        "sde", rewards=("reward-noised",), archive=data.archive, train_items=4, checkpoints=trained, runs=data.runs,
        device="cpu", held_out_prompts=3, align=settings,
    )  # fmt: skip
    assert load_module(trained / "reward-noised").config.latent_dim == 4
    result = align_run(config)
    assert result.updates == 2 and all(np.isfinite(v) for v in result.monitors.values())
    assert any(value.any() for name, value in result.adapters.items() if name.endswith(".b"))


@pytest.mark.slow
def test_the_same_command_in_two_processes(trained, data) -> None:
    """README's line, with the default terms: the adapters of one process, from a run that was killed and goes on."""
    options = [
        "--rewards", "reward", "--archive", str(data.archive), "--checkpoints", str(trained), "--runs", str(data.runs),
        "--train-items", "4", "--held-out-prompts", "4", "--device", "cpu", "--steps", "4", "--last-k", "2",
        "--prefix-stride", "1", "--trained-stride", "1", "--batch", "4", "--updates", "4", "--save-every", "1",
        "--lora-rank", "2", "--unseen-share", "0", "--lr", "1e-3", "--monitor-every", "2", "--max-distance", "1e9",
        "--max-skating-gain", "99", "--max-acceleration-gain", "99", "--max-diversity-loss", "99",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    alone, told = [sys.executable, "-m", "core"], {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
    together = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "core"]

    def launch(command: list[str], name: str, **told: str) -> subprocess.Popen:
        command = [*command, "align", "--name", name, *options]
        return subprocess.Popen(command, cwd=ROOT, env=environment | told, stderr=subprocess.PIPE, text=True)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told["MASTER_PORT"] = str(free.getsockname()[1])
    # by hand what a launcher does, since killing one leaves its processes alive
    victims = [launch(alone, "two", **told, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]
    state, until = data.runs / "two" / "state.pt", time.monotonic() + 300
    while not state.exists() and all(victim.poll() is None for victim in victims) and time.monotonic() < until:
        time.sleep(0.02)
    for victim in victims:
        victim.kill()
        victim.communicate()
    assert state.exists() and not (trained / "two").exists()
    for command, name, resumed in ((together, "two", 2), (alone, "one", 0)):
        process = launch(command, name)
        log = process.communicate()[1]
        assert process.returncode == 0 and log.count(" resumed ") == resumed, log[-3000:]
    (_, one), (_, two) = (read_adapters(trained / name) for name in ("one", "two"))
    assert max(float(value.abs().max()) for name, value in one.items() if name.endswith(".b")) > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(two[name].float(), value.float(), atol=1e-4, rtol=0)


def test_latents_have_zero_mean_and_unit_variance(trained, data) -> None:
    """Fails where the schedule's noise is added to latents of another scale."""
    vae, (train, _) = load_vae(trained), motion_sets(data)
    latents = encode_set(vae, train)
    assert [len(z) for z in latents] == [-(-int(n) // 4) for n in train.lengths]
    z = torch.cat(latents)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(4), atol=0.02, rtol=0)
    alone = vae.encode(torch.from_numpy(train.motion(1))[None], torch.tensor([train.lengths[1]]))
    torch.testing.assert_close(alone[0], latents[1], atol=1e-5, rtol=0)


def test_training_again_goes_on_from_the_run_folder(trained, data) -> None:
    """A finished run is not repeated; more steps continue it."""
    before = load_judge(trained).state_dict()
    train_judge(TrainJudge(data, 16, LOOP))
    assert all(torch.equal(v, before[k]) for k, v in load_judge(trained).state_dict().items())
    seen = []
    train_judge(TrainJudge(data, 16, replace(LOOP, steps=5)), lambda step, total, values: seen.append(step))
    assert seen[0] == 4


def test_base_needs_the_vae_and_all_need_the_archive(data, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="core train vae"):
        train_base(TrainBase(replace(data, checkpoints=tmp_path), loop=LOOP))
    with pytest.raises(FileNotFoundError, match="core prepare bandai-namco"):
        train_vae(TrainVae(replace(data, archive=tmp_path / "none.npz"), loop=LOOP))


def test_captions_are_encoded_once(trained, data, monkeypatch) -> None:
    """Fails where minutes of text encoding are repeated by every command."""
    sets = motion_sets(data)
    monkeypatch.setattr(run, "load_text_encoder", lambda: pytest.fail("encoded again"))
    cache = caption_cache(data, *sets)
    assert {c for s in sets for row in s.captions for c in row} == set(cache.captions)


def test_vocabulary_is_the_sorted_words_of_the_captions(data) -> None:
    train, _ = motion_sets(data)
    words = vocabulary(train)
    assert list(words) == sorted(set(words)) and {"person", "walks"} & set(words)
    assert all(word == word.lower() and word.isalpha() for word in words)


def test_a_reward_refines_itself_into_a_folder_of_its_own(trained, data, tmp_path) -> None:
    """Fails where the shipped weights are overwritten, or the normalisation is not the one they were trained with."""
    spl = SplConfig(mining=MiningConfig(pool=4, texts=8, every=2))
    sizes = {"near_pools": 4, "held_out_pools": 2, "near_size": 2, "plain_size": 2}
    config = Refine("reward", tmp_path / "sharper", data, **sizes, spl=spl, loop=replace(LOOP, batch_size=8))
    before = load_reward(trained).state_dict()
    report = refine_reward(config)
    assert set(report) == {"val"} and set(report["val"]) == {"before", "after"}
    assert all(torch.equal(v, before[k]) for k, v in load_reward(trained).state_dict().items())
    after = load_module(tmp_path / "sharper").state_dict()
    torch.testing.assert_close(after["feature_mean"], before["feature_mean"])
    assert any(not torch.equal(after[k], v) for k, v in before.items() if v.dim() > 1)
    assert "core refine --name reward" in (tmp_path / "sharper" / "card.md").read_text()


def test_votes_are_learnt_from_and_new_votes_make_a_new_run(trained, data, tmp_path) -> None:
    """Fails where votes are ignored, where a finished run hides the votes cast since, or a password is written down."""
    url = f"sqlite:///{(tmp_path / 'votes.db').as_posix()}"
    store = PreferenceStore(tmp_path, url)
    spl = SplConfig(mining=MiningConfig(pool=4, texts=8, every=2))
    sizes = {"near_pools": 4, "held_out_pools": 2, "near_size": 2, "plain_size": 2}
    config = Refine("reward", None, data, tmp_path, url, **sizes, spl=spl, loop=replace(LOOP, batch_size=8))
    weights = []
    for seed in (0, 2):
        cast_vote(store, "left", seed)
        refine_reward(config)
        weights.append(load_module(data.checkpoints / "reward-votes").state_dict())
    assert any(not torch.equal(weights[0][k], v) for k, v in weights[1].items())
    assert len(list(data.runs.glob("refine-reward-votes-*"))) == 2
    assert "--votes" in (data.checkpoints / "reward-votes" / "card.md").read_text()
    written = [*data.runs.glob("refine-reward-votes-*/run.json"), data.checkpoints / "reward-votes" / "config.json"]
    assert not any("votes.db" in path.read_text() for path in written)


def test_interpolation_keeps_a_share_of_the_change() -> None:
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = 0.25 * b.weight.detach() + 0.75 * a.weight.detach()
    interpolate(b, a, 0.25)
    torch.testing.assert_close(b.weight.detach(), expected)


def test_only_a_reward_can_refine_itself(trained, data) -> None:
    with pytest.raises(ValueError, match="judge holds a Judge; SPL refines a RewardModel"):
        refine_reward(Refine("judge", data=data))
