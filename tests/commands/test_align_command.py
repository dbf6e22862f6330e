"""`python -m core align` on tiny models: what it refuses before it starts, and what it remembers of a run."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.__main__ import main
from core.align.config import AlignConfig, GuardConfig
from core.commands import align as command
from core.commands import align_report
from core.commands.align import Align
from core.commands.align_average import AlignAverage
from core.commands.align_average import run as average
from core.commands.align_report import AlignReport
from core.data.motion_set import MotionSet
from core.diffusion.rollout import SamplerConfig
from core.models.checkpoint import fingerprint, load_module, read_adapters, save_checkpoint
from core.models.judge import Judge, JudgeConfig
from core.models.latent_reward import LatentReward, LatentRewardConfig
from core.models.mld.layers import TransformerConfig
from core.models.mld.reward import SpmReward
from core.models.mld.spm import SpmConfig
from core.text.encoder import TextEncoder, load_text_encoder

GUARDS = GuardConfig(
    monitor_every=1,
    realism_weight=1.0,
    max_skating_gain=99,
    max_acceleration_gain=99,
    max_diversity_loss=99,
    max_distance=1e9,
)
ALIGN = AlignConfig(steps=2, last_k=1, updates=2, batch=2, lora_rank=1, save_every=1, keep_every=0, guards=GUARDS)
SPM = SpmConfig(transformer=TransformerConfig(width=256, ff_width=16, layers=1, heads=2), text_width=384)


@pytest.fixture
def config(live_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Align:
    """A copy of the tiny models with a second reward, and a dozen motions in place of an archive."""
    shutil.copytree(live_checkpoints, tmp_path / "checkpoints")
    other = load_module(tmp_path / "checkpoints" / "reward-spl")
    next(other.parameters()).mul_(1.1)
    save_checkpoint(tmp_path / "checkpoints" / "other", other, {})
    (tmp_path / "motions.npz").write_bytes(b"motions")
    rng, captions = np.random.default_rng(0), tuple((f"a person walks {i} steps",) for i in range(12))
    features = (0.1 * rng.normal(size=(480, 263))).astype(np.float32)
    motions = MotionSet(features, np.arange(0, 481, 40), captions, ("",) * 12, ("",) * 12)
    monkeypatch.setattr(command, "load_set", lambda *_: motions)
    paths = {"archive": tmp_path / "motions.npz", "checkpoints": tmp_path / "checkpoints", "runs": tmp_path / "runs"}
    small = {"held_out_prompts": 2, "device": "cpu", "unseen_share": 0.0}  # the archive is none
    return Align("mine", rewards=("reward-spl",), align=ALIGN, **small, **paths)


def described(config: Align) -> dict:
    return json.loads((config.checkpoints / config.name / "config.json").read_text())


def test_a_run_of_something_else_is_not_continued(config: Align) -> None:
    """Prevents weights half of one base, reward or data and half of another, under a card that names the last."""
    command.run(config)
    before = described(config)

    def refused(other: Align, named: str) -> None:
        with pytest.raises(ValueError, match=f"mine holds a run with {named}.*another name .*or delete that folder"):
            command.run(other)

    refused(replace(config, rewards=("other",)), "made_from.rewards=")
    refused(replace(config, watched=("other",)), "made_from.watched=")
    refused(replace(config, train_items=7), "made_from.train_items=6000, not 7")
    refused(replace(config, held_out_prompts=3), "made_from.held_out_prompts=2, not 3")
    refused(replace(config, align=replace(ALIGN, lr=1.0)), "lr=5e-05, not 1.0")
    refused(replace(config, align=replace(ALIGN, guards=replace(GUARDS, ema=0.1))), "guards.ema=0.97, not 0.1")
    command.run(replace(config, name="parent", align=replace(ALIGN, seed=5)))
    refused(replace(config, start="parent"), "made_from.start=")
    config.archive.write_bytes(b"other motions")
    refused(config, "made_from.archive=")
    config.archive.write_bytes(b"motions")
    base = load_module(config.checkpoints / "base")
    next(base.parameters()).add_(1.0)
    save_checkpoint(config.checkpoints / "base", base, {})
    refused(config, "made_from.base=")
    assert described(config) == before


def change(folder: Path) -> dict[str, torch.Tensor]:
    """What the adapters of a checkpoint folder add to each weight."""
    found, tensors = read_adapters(folder)
    names = [name.removesuffix(".a") for name in tensors if name.endswith(".a")]
    return {n: found["config"]["scale"] * tensors[f"{n}.b"].float() @ tensors[f"{n}.a"].float() for n in names}


def test_a_run_goes_on_from_the_adapters_of_another(config: Align) -> None:
    """Prevents a start at another scale: what nothing is learnt from must stay what it was."""
    command.run(config)
    before = change(config.checkpoints / "mine")
    standing = replace(ALIGN, lr=0.0, lora_alpha=4.0, guards=replace(GUARDS, ema=0.0))
    onward = replace(config, name="onward", start="mine", align=standing)
    command.run(onward)
    after = change(config.checkpoints / "onward")
    assert max(float(value.abs().max()) for value in before.values()) > 0
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=2e-3, atol=1e-7)
    command.run(replace(config, name="other-run", align=replace(ALIGN, seed=5)))
    for other in ("other-run", None):
        with pytest.raises(ValueError, match="onward holds a run with made_from.start="):
            command.run(replace(onward, start=other))


def test_a_share_of_the_change_is_kept_on_request(config: Align) -> None:
    """Fails where --keep is left out of the checkpoint, or changes what was learnt instead of its scale."""
    command.run(config)
    command.run(replace(config, name="half", keep=0.5))
    whole, half = change(config.checkpoints / "mine"), change(config.checkpoints / "half")
    assert max(float(value.abs().max()) for value in whole.values()) > 0
    for name, value in whole.items():
        torch.testing.assert_close(half[name], value / 2)


def test_a_start_that_does_not_fit_is_refused(config: Align) -> None:
    command.run(config)
    wider = replace(config, name="wider", start="mine", align=replace(ALIGN, lora_rank=2))
    with pytest.raises(ValueError, match="mine has adapters of rank 1, lora_rank=2. Set --lora-rank 1"):
        command.run(wider)
    with pytest.raises(ValueError, match="vae holds no low-rank adapters"):
        command.run(replace(config, name="no", start="vae"))
    shutil.copytree(config.checkpoints / "base", config.checkpoints / "second")
    second = load_module(config.checkpoints / "second")
    next(second.parameters()).add_(1.0)
    save_checkpoint(config.checkpoints / "second", second, {})
    with pytest.raises(ValueError, match="mine was aligned from another base than .*second"):
        command.run(replace(config, name="no", start="mine", base="second"))
    with pytest.raises(ValueError, match=r"unseen_share=1.5 is outside \[0, 1\]"):
        replace(config, unseen_share=1.5)
    with pytest.raises(ValueError, match="unseen_weight=0.0 must be above 0"):
        replace(config, unseen_weight=0.0)


def test_what_changes_no_weight_may_change(config: Align, tmp_path: Path) -> None:
    """Prevents a run that can't be prolonged, watched more closely, or found again after its files have moved."""
    command.run(config)
    shutil.move(config.checkpoints, tmp_path / "moved")
    shutil.move(config.archive, tmp_path / "moved.npz")
    longer = replace(ALIGN, updates=3, save_every=5, keep_every=1, guards=replace(GUARDS, monitor_every=2))
    moved = replace(config, checkpoints=tmp_path / "moved", archive=tmp_path / "moved.npz", threads=1, align=longer)
    assert command.run(moved).updates == 3


def test_a_run_without_a_record_goes_on_and_says_so(config: Align, caplog: pytest.LogCaptureFixture) -> None:
    """Prevents runs of an earlier version of this program from being lost."""
    command.run(config)
    path = config.runs / "mine" / "config.json"
    record = json.loads(path.read_text())
    assert record.pop("made_from")["train_items"] == 6000
    path.write_text(json.dumps(record))
    with caplog.at_level(logging.WARNING):
        assert command.run(replace(config, align=replace(ALIGN, updates=3))).updates == 3
    assert "does not say what it was made from" in caplog.text
    assert "made_from" in json.loads(path.read_text())


def test_time_of_an_interrupted_run_adds_up(config: Align) -> None:
    """Prevents a card that tells the time of the last process only."""
    command.run(config)
    path = config.runs / "mine" / "state.pt"
    state = torch.load(path, weights_only=True)
    assert state["seconds"] > 0
    torch.save({**state, "seconds": 600.0}, path)
    command.run(config)
    assert described(config)["minutes"] >= 10.0


def test_a_checkpoint_of_others_is_kept(config: Align) -> None:
    """Prevents the shipped weights from being lost to a default name; one's own run made again copies nothing."""
    shipped = replace(config, name="aligned")
    before = described(shipped)
    for _ in range(2):
        command.run(shipped)
        assert described(shipped)["updates"] == 2
    assert described(replace(config, name="aligned-before")) == before
    assert not list(config.checkpoints.glob("aligned-before-*"))


def test_an_average_under_the_name_of_a_run_is_kept_when_the_run_is_prolonged(config: Align) -> None:
    """Prevents the state of an old run from passing for the maker of what has replaced its checkpoint since."""
    for name in ("mine", "a", "b"):
        command.run(replace(config, name=name))
    average(AlignAverage(("a", "b"), name="mine", checkpoints=config.checkpoints))
    mean = described(config)
    for updates in (3, 4):
        command.run(replace(config, align=replace(ALIGN, updates=updates)))
        assert described(config)["updates"] == updates
    assert described(replace(config, name="mine-before-2")) == mean
    assert not (config.checkpoints / "mine-before-3").exists()


def test_numbers_beyond_the_random_streams_are_refused_at_once(config: Align) -> None:
    """Prevents a run that fails at its update 65536, or after loading all models."""
    with pytest.raises(ValueError, match=r"seed=1048576 is outside \[0, 1048575\]"):
        replace(ALIGN, seed=2**20)
    with pytest.raises(ValueError, match=r"updates=65536 is outside \[0, 65535\]"):
        replace(config, align=replace(ALIGN, updates=2**16))


def test_a_published_reward_aligns_a_model_that_reads_another_encoder(
    config: Align, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents `align --base base --rewards spm` from failing: no embeddings, or captions by the wrong encoder."""
    asked = []

    def named(name: str = "minilm", device: str = "cpu") -> TextEncoder:
        asked.append(name)
        return load_text_encoder("minilm", device)

    monkeypatch.setattr("core.text.encoder.load_text_encoder", named)
    torch.manual_seed(3)
    save_checkpoint(config.checkpoints / "spm", SpmReward(SPM), {}, exact=True)
    command.run(replace(config, rewards=("spm",)))
    assert "sentence-t5-large" in asked and described(config)["updates"] == 2


def test_rewards_that_do_not_fit_are_refused_before_the_run(config: Align) -> None:
    """Prevents raw errors of shapes and missing methods once the models are at work."""
    save_checkpoint(config.checkpoints / "spm", SpmReward(SPM), {}, exact=True)
    narrow = SpmReward(replace(SPM, text_width=8, text_encoder="minilm"))
    save_checkpoint(config.checkpoints / "narrow", narrow, {}, exact=True)
    for rewards, said in (
        (("spm", "reward-spl"), "spm by sentence-t5-large, reward-spl by minilm. Choose rewards of one encoder"),
        (("vae",), "vae holds a MotionVae, which is no reward"),
        (("narrow",), "text tokens have 384 numbers, this reward knows 8"),
        ((), "rewards is empty"),
    ):
        with pytest.raises(ValueError, match=said):
            command.run(replace(config, rewards=rewards))
    noisy = replace(ALIGN, method="easytune-sde", eta=1.0, guards=replace(GUARDS, realism_weight=0.0))
    known = LatentRewardConfig(384, 16, 2, 1, 1, latent_dim=7, vae=fingerprint(config.checkpoints / "vae"))
    save_checkpoint(config.checkpoints / "foreign", LatentReward(known), {})
    for rewards, said in (
        (config.rewards, "RewardModel does not score noised motions"),
        (("foreign",), "numbers a token, this reward reads latents of 7"),
    ):
        with pytest.raises(ValueError, match=said):
            command.run(replace(config, rewards=rewards, align=noisy))
    assert not (config.runs / config.name).exists()
    with pytest.raises(ValueError, match="held_out_prompts=1 must be 2 or more"):
        replace(config, held_out_prompts=1)


@pytest.fixture
def reported(config: Align) -> tuple[AlignReport, MotionSet]:
    """A finished run of two kept policies, a judge and the report to make of it."""
    command.run(replace(config, align=replace(ALIGN, keep_every=1)))
    torch.manual_seed(2)
    save_checkpoint(config.checkpoints / "judge", Judge(JudgeConfig(("walks",), width=8, embedding=8)), {})
    places = {"checkpoints": config.checkpoints, "runs": config.runs, "device": "cpu"}
    report = AlignReport("mine", prompts=4, sampler=SamplerConfig(2), **places)
    return report, command.load_set(config.archive, None)


def looks(report: AlignReport) -> dict[str, dict]:
    return json.loads((report.runs / report.name / "report.json").read_text())["looks"]


def test_a_report_looks_at_the_base_and_at_every_kept_policy(reported: tuple[AlignReport, MotionSet]) -> None:
    """Prevents looks at another policy than the one named, and figures made with other weights than there are now."""
    report, motions = reported
    said = align_report.run(report, motions)
    found = looks(report)
    assert list(found) == ["0", "1", "2"] and len({look["reward"] for look in found.values()}) == 3
    folder = report.checkpoints / "mine"
    assert said in (folder / "card.md").read_text() and (folder / "curve.png").read_bytes()[:4] == b"\x89PNG"
    store = report.runs / "mine" / "report.json"
    edited = json.loads(store.read_text())
    edited["looks"]["1"]["reward"] = 9.0
    store.write_text(json.dumps(edited))
    align_report.run(report, motions)
    assert looks(report)["1"]["reward"] == 9.0  # what is there is not measured again
    align_report.run(replace(report, unseen=("other",)), motions)
    again = looks(report)
    assert again["1"]["reward"] == found["1"]["reward"] and set(again["1"]["unseen"]) == {"other"}
    judge = load_module(report.checkpoints / "judge")
    next(judge.parameters()).mul_(2.0)
    save_checkpoint(report.checkpoints / "judge", judge, {})
    align_report.run(replace(report, unseen=("other",)), motions)
    assert looks(report)["0"]["distances"] != again["0"]["distances"]
    reworded = replace(motions, captions=tuple((f"{row[0]} slowly",) for row in motions.captions))
    before = looks(report)
    align_report.run(replace(report, unseen=("other",)), reworded)
    assert looks(report)["0"]["reward"] != before["0"]["reward"]


def test_a_base_that_brings_its_text_encoder_is_reported_on(reported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a traceback for imported models: an encoder holds a lock, and no copy of a lock can be made."""
    report, motions = reported
    plain = align_report.run(report, motions)
    (report.runs / "mine" / "report.json").unlink()
    load = align_report.load_diffusion

    def with_encoder(*where):
        model = load(*where)
        model.text_encoder = TextEncoder(load_text_encoder("minilm", "cpu").folder, "cpu")
        return model

    monkeypatch.setattr(align_report, "load_diffusion", with_encoder)
    assert align_report.run(report, motions) == plain


def test_reports_that_cannot_be_made_are_refused(reported: tuple[AlignReport, MotionSet]) -> None:
    report, motions = reported
    with pytest.raises(ValueError, match="judge holds a Judge, which is no reward"):
        align_report.run(replace(report, unseen=("judge",)), motions)
    with pytest.raises(ValueError, match="base is no alignment. Name one that"):
        align_report.run(replace(report, name="base"), motions)
    with pytest.raises(ValueError, match="prompts=1 must be 2 or more"):
        replace(report, prompts=1)
    shutil.rmtree(report.runs / "mine" / "policies")
    with pytest.raises(FileNotFoundError, match="holds no policy. Align with --keep-every above 0"):
        align_report.run(report, motions)


def test_an_average_is_reported_on_along_its_change(reported: tuple[AlignReport, MotionSet]) -> None:
    """Prevents multiples of another change than the one that ships, and a card of an average without its picture."""
    report, motions = reported
    align_report.run(report, motions)
    shutil.copytree(report.checkpoints / "mine", report.checkpoints / "again")
    average = ["align-average", "mine", "again", "--name", "both", "--checkpoints", str(report.checkpoints)]
    assert main(average) == 0
    said = align_report.run(replace(report, name="both"), motions)
    run, both = looks(report), looks(replace(report, name="both"))
    assert list(both) == ["0", "0.25", "0.5", "0.75", "1.0", "1.25", "1.5", "2.0"] and both["0"]["place"] == 0
    assert both["0"] == run["0"] and both["1.0"]["reward"] == pytest.approx(run["2"]["reward"], abs=2e-3)
    assert len({look["reward"] for look in both.values()}) == 8
    card = (report.checkpoints / "both" / "card.md").read_text()
    assert card.index(said) < card.index("### mine") and "(curve.png)" in card and "(curve-mine.png)" in card
    assert main([*average[:1], "both", "third", "--name", "all", *average[-2:]]) == 1  # there is no third
    shutil.copytree(report.checkpoints / "mine", report.checkpoints / "third")
    assert main([*average[:1], "both", "third", "--name", "all", *average[-2:]]) == 0
    curves = {path.name for path in (report.checkpoints / "all").glob("*.png")}
    assert curves == {"curve-mine.png", "curve-again.png", "curve-third.png"}
