"""`evaluate` from an archive to its files, on data whose captions are their own meaning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from core.__main__ import main
from core.data.captioned import CaptionedMotion, PreparedSet, save_prepared
from core.data.mixture import write_mixture
from core.models.checkpoint import save_checkpoint
from core.models.judge import Judge, JudgeConfig

VERBS = ("walks", "sits", "jumps", "waves", "bows", "turns")
OPTIONS = ["--sampler.steps", "2", "--evaluation.repeats", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "checkpoints"
    shutil.copytree(tiny_checkpoints, folder)
    torch.manual_seed(2)
    save_checkpoint(folder / "judge", Judge(JudgeConfig(VERBS, width=8, embedding=8)), {})
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Six motions of six captions, as `prepare humanml3d` writes them."""
    rng, path = np.random.default_rng(0), tmp_path / "h3d.npz"
    motions = [CaptionedMotion(verb, rng.normal(size=(45, 263)), (f"a man {verb}",)) for verb in VERBS]
    save_prepared(path, PreparedSet("HumanML3D", 20.0, {"train": motions, "test": motions}))
    return path


def test_data_with_captions_of_its_own_is_evaluated(archive, checkpoints, tmp_path, capsys):
    """Prevents a report that stops because no action has six styles: near misses are left out, all else is there."""
    small = tmp_path / "small.npz"
    save_prepared(small, PreparedSet("BVH", 20.0, {"train": [CaptionedMotion("0", np.zeros((40, 263)), ("a",))]}))
    write_mixture(tmp_path / "mix.json", [archive, small])
    places = ["--checkpoints", str(checkpoints), "--out", str(tmp_path / "out")]
    command = ["evaluate", "--archive", str(tmp_path / "mix.json"), *places, *OPTIONS]
    assert main([*command, "--evaluation.pool-size", "4"]) == 0
    printed = capsys.readouterr().out
    assert "## h3d test" in printed and "**aligned - base**, 6 prompts" in printed and "small" not in printed
    report = json.loads((tmp_path / "out" / "h3d" / "test.json").read_text())
    assert list(report["rows"]) == ["real", "vae", "base", "aligned"]
    assert {"r_precision_1", "fid"} <= set(report["rows"]["base"]) and "near_miss_1" not in printed
    assert "near_miss_1" not in json.dumps([report["rows"], report["differences"]])
    assert (tmp_path / "out" / "h3d" / "test.png").stat().st_size > 1000


def test_pools_larger_than_the_data_are_named(archive, checkpoints, tmp_path, capsys):
    """Prevents a traceback, or figures of pools of another size than were asked for."""
    command = ["evaluate", "--archive", str(archive), "--checkpoints", str(checkpoints), "--out", str(tmp_path / "out")]
    assert main([*command, *OPTIONS]) == 1
    assert "6 distinct captions are fewer than the pool size 32. Evaluate on more prompts or" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--evaluation.pool-size", "1"])
    assert "pool_size=1 must be at least 2" in " ".join(capsys.readouterr().err.split())
