"""The benchmarks of preference learning, over tiny untrained models: they run, resume, and vote as they say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import live_loop, live_page
from benchmarks.live_loop import LiveLoop, cast_votes, main, markdown, order_accuracy, set_stage, split_prompts, tiny
from benchmarks.live_page import LivePage
from benchmarks.pair_buffer import main as buffer_main
from benchmarks.takes import PoolConfig
from core.models.checkpoint import save_checkpoint
from core.models.judge import Judge, JudgeConfig
from core.models.reward import RewardConfig, RewardModel
from core.preference.store import PreferenceStore


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preference") / "checkpoints"
    shutil.copytree(tiny_checkpoints, folder)
    torch.manual_seed(1)
    small = {"width": 16, "heads": 2, "motion_layers": 1, "text_layers": 1, "embedding": 8}
    for name in ("reward", "reward-spl"):
        save_checkpoint(folder / name, RewardModel(RewardConfig(**small)), {})
    save_checkpoint(folder / "judge", Judge(JudgeConfig(("a", "person", "walks"), width=16)), {})
    return folder


def test_smoke_run_writes_table_picture_and_figures_and_is_not_repeated(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "--smoke",
        "--checkpoints",
        str(checkpoints),
        "--out",
        str(tmp_path),
        "--rules",
        "calmer",
        "text match",
    ]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "live-loop.json").read_text())
    cell = report["accuracy"]["calmer"]["0"]
    assert set(cell) == {"base", "random", "active"} and all(0 <= v <= 1 for v in [cell["base"], *cell["random"]])
    assert (tmp_path / "live-loop.png").read_bytes().startswith(b"\x89PNG")
    assert "| **mean** | active |" in capsys.readouterr().out
    monkeypatch.setattr(live_loop, "learn_curve", lambda *_: pytest.fail("measured again"))
    assert main(arguments) == 0


def test_votes_follow_the_rule_on_prompts_that_are_not_held_out(checkpoints: Path, tmp_path: Path) -> None:
    """Fails where accuracy is measured on what was voted on, or votes don't say what the rule says."""
    config = tiny(LiveLoop(checkpoints, out=tmp_path, rules=("higher hands",), noise=0.0))
    stage = set_stage(config)
    voted, held = split_prompts(config, 0)
    assert not set(voted) & set(held) and len(voted) + len(held) == config.pool.prompts
    for way in live_loop.WAYS:
        pairs: list = []
        cast_votes(pairs, 8, way, config, stage, "higher hands", 0, voted)
        for pair in pairs:
            (p, i), (q, j) = (map(int, n.split("/")) for n in (pair.chosen_sha256, pair.rejected_sha256))
            values = stage.statistics["higher hands"][p]
            assert p == q and p in voted and values[i] >= values[j]
            assert i % 2 != j % 2, "one take by each version, as on the page"
    assert not set(split_prompts(replace(config, skip=3), 0)[0]) & {0, 1, 2}


def test_pairs_are_those_the_page_chooses_from() -> None:
    """Prevents figures of a choice among 15 pairs that the page, which has 3 x 3, never offers."""
    left, right = live_loop.shown_pairs(PoolConfig(takes=6))
    assert len(left) == 9 and {tuple(sorted({i % 2, j % 2})) for i, j in zip(left, right, strict=True)} == {(0, 1)}
    with pytest.raises(ValueError, match="must be two or more"):
        LiveLoop(pool=PoolConfig(versions=("base",)))


def test_order_accuracy_is_half_where_nothing_is_known(checkpoints: Path, tmp_path: Path) -> None:
    config = tiny(LiveLoop(checkpoints, out=tmp_path, rules=("calmer",)))
    stage = set_stage(config)
    still = replace(stage, statistics={"calmer": np.zeros_like(stage.statistics["calmer"])})
    assert order_accuracy(None, still, "calmer", np.array([0, 1])) == 0.5


def test_table_tells_a_failed_live_step() -> None:
    cell = {"base": 0.5, "random": [0.7], "active": [0.8]}
    report = {"config": {"votes": [5], "noise": 0.1}, "accuracy": {"calmer": {"0": cell}}}
    table = markdown({**report, "align": {"calmer": {"failed": "error: no version"}}})
    assert "| calmer | active | 0.500 | 0.800 |" in table and "error: no version |" in table


def test_pair_buffer_runs(checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert buffer_main(["--smoke", "--checkpoints", str(checkpoints), "--out", str(tmp_path / "b.json")]) == 0
    seconds = json.loads((tmp_path / "b.json").read_text())["seconds"]
    assert set(seconds) == {"20", "40"} and all(value > 0 for row in seconds.values() for value in row.values())
    assert "| 40 |" in capsys.readouterr().out


def test_the_page_benchmark_votes_as_the_page_does(checkpoints: Path, tmp_path: Path) -> None:
    """Prevents a live_page that can't make its votes."""
    live_page.vote(LivePage(votes=6, smoke=True, checkpoints=checkpoints, out=tmp_path), tmp_path / "data")
    store = PreferenceStore(tmp_path / "data")
    assert store.counts() == (6, 6)
    store.close()
