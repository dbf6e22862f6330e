"""The command line: quick help, nothing touched by importing, files from prompts, a sentence for every mistake."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.__main__ import COMMANDS, main
from core.data.clips import Clip, ClipArchive, save_archive
from core.motion.files import load_amass_npz, load_features_npy
from core.motion.skeleton import N_JOINTS
from core.settings import ROOT

QUICK = ["--duration-s", "2", "--sampler.steps", "2", "--device", "cpu"]
CUT_BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  End Site
  {
    OFFSET 0 1 0
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
0 90 0 0 0 0
0 90 0
"""

# Runs a statement and prints what it touched: files other than Python's own, sockets, heavy modules.
WATCH = """
import sys
touched = []
def hook(event, args):
    if event == "open" and isinstance(args[0], str) and not args[0].endswith((".py", ".pyc")):
        touched.append(args[0])
    if event.startswith("socket."):
        touched.append(event)
sys.addaudithook(hook)
%s
heavy = {"torch", "gradio", "diffusers", "tyro", "numpy"} & set(sys.modules)
print("touched:", sorted(heavy) + touched)
"""


def run(*arguments: str | Path) -> int:
    """Exit code of `python -m core ...`, in this process; a traceback would come out as an exception."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:  # tyro's way to refuse an option
        return int(stop.code or 0)


def words(text: str) -> str:
    """The text of a console box or of a plain line, on one line."""
    return " ".join(re.sub(r"[╭╮╰╯│─|]", " ", text).split())


@pytest.mark.parametrize("statement", ["import core", "from core.__main__ import main; main(['--help'])"])
def test_nothing_heavy_is_loaded_and_nothing_touched(statement: str) -> None:
    """Prevents a slow `import core` and `--help`, and models, ports or files that importing opens."""
    command = [sys.executable, "-B", "-c", WATCH % statement]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "touched: []"


def test_help_names_every_command_and_each_has_its_module(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a listed command that can't be started, and a command that nobody finds."""
    assert run("--help") == 0
    lines = capsys.readouterr().out
    modules = {path.stem.replace("_", "-") for path in (ROOT / "core" / "commands").glob("*.py")}
    assert modules - {"--init--", "console", "evaluate-official"} == set(COMMANDS)
    assert all(re.search(rf"^  {name} ", lines, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a configuration that tyro can't turn into options."""
    assert run(command, "--help") == 0
    assert f"usage: python -m core {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fly"], "command 'fly' is unknown. Choose one of: prepare, train, refine, align,"),
        (["train", "all"], "Unrecognized options: all"),
        (
            ["train", "vae", "--data.archive", "none.npz"],
            "none.npz does not exist. Make it with `python -m core prepare",
        ),
        (["train", "vae", "--loop.steps", "-1"], "steps=-1 must be at least 1, and finite."),
        (["train", "base", "--loop.threads", "-1"], "threads=-1 must be at least 0"),
        (["train", "reward", "--name", "../mine"], "name='../mine' is no folder name."),
        (["align", "--threads", "-1"], "threads=-1 must be at least 0"),
        (["align", "--name", "base"], "name='base' would replace what it is made with (base, reward,"),
        (["align", "--name", ""], "name='' is no folder name. Choose one word"),
        (["align", "--clip", "0"], "clip=0.0 must be above 0"),
        (["align", "--lr", "-1"], "lr=-1.0 must be at least 0, and finite."),
        (["align", "--noise-power", "nan"], "noise_power=nan must be at least 0, and finite."),
        (["align", "--guidance-scale", "30"], "guidance_scale=30.0 is outside [0, 20]."),
        (["align", "--betas", "0.9", "1"], "betas=(0.9, 1.0) must be within [0, 1)."),
        (["align", "--max-reward-gain", "0"], "max_reward_gain=0.0 must be above 0"),
        (["evaluate", "--batch-size", "0"], "batch_size=0 must be at least 1"),
        (["evaluate", "--evaluation.seed", "-1"], "seed=-1 must be at least 0"),
        (["evaluate", "--evaluation.repeats", "0"], "repeats=0 must be at least 1"),
        (["evaluate", "--prompt-seeds", "-1"], "prompt_seeds=(-1,) must name seeds of 0 or more."),
        (["align", "--checkpoints", "none"], "config.json is missing. Make it with `python -m core train"),
        (["evaluate", "--archive", "none.npz"], "none.npz does not exist. Make it with `python -m core prepare"),
        (["prepare", "cmu", "none"], "invalid choice 'cmu' for argument 'dataset'"),
        (["prepare", "bvh", "none", "--joints", "no.json"], "no.json does not exist. Give a JSON file"),
        (["prepare", "bandai-namco", "none"], "none does not exist. Clone the Bandai-Namco motion dataset"),
        (["export", "all", "--data-dir", "none"], "none does not exist. Give the --data-dir of an arena."),
        (["generate", "a person walks", "--checkpoints", "none"], "is missing. Make it with `python -m core align"),
        (["generate", ""], "The prompt is empty"),
        (["generate", "walk " * 1000], "The prompt has 4,999 characters, at most"),
        (["generate", "a person walks", "--duration-s", "14"], "duration_s=14.0 is outside 2.0-9.8 (196 frames"),
        (["generate", "a person walks", "--duration-s", "long"], "Error parsing --duration-s"),
        (["generate", "a person walks", "--sampler.guidance-scale", "-3"], "guidance_scale=-3.0 is outside 0-20."),
        (["generate", "a person walks", "--sampler.solver", "x"], "Choose one of ddim, dpm++, lcm."),
        (["generate", "a person walks", "--device", "abacus"], "device='abacus' is not available here."),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_mistakes_end_in_a_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Prevents tracebacks, and an exit code of 0 after nothing was done."""
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) != 0
    err = capsys.readouterr().err
    assert sentence in words(err) and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_folder_that_is_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents an empty archive from a mistyped folder."""
    (tmp_path / "data").mkdir()
    assert run("prepare", "bandai-namco", tmp_path / "data", "--out", tmp_path / "out.npz") == 1
    assert "holds no file named dataset-N_content_style_id.bvh" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


def test_cut_clip_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Prevents a download that broke off from going unnoticed."""
    (tmp_path / "dataset-1_walk_normal_001.bvh").write_text(CUT_BVH)
    assert run("prepare", "bandai-namco", tmp_path, "--out", tmp_path / "out.npz") == 1
    assert "skipped dataset-1_walk_normal_001.bvh" in caplog.text and "frame 2 (line 15) has 3 values" in caplog.text
    assert "none of the 1 clips" in capsys.readouterr().err and not (tmp_path / "out.npz").exists()


def test_evaluating_without_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents an evaluation of random weights."""
    still = Clip("c", "dataset-1", "walk", "normal", np.zeros((60, N_JOINTS, 3), np.float32), np.zeros((60, 3)), "test")
    save_archive(tmp_path / "archive.npz", ClipArchive((still,), np.random.default_rng(0).normal(size=(24, 3))))
    paths = ["--archive", tmp_path / "archive.npz", "--checkpoints", tmp_path / "none", "--out", tmp_path / "out"]
    assert run("evaluate", *paths, "--items", "0") == 1
    assert "config.json is missing. Make it with `python -m core train" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_generating_from_a_truncated_checkpoint(
    tiny_checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents random weights, or a traceback, where a download broke off."""
    shutil.copytree(tiny_checkpoints, tmp_path / "checkpoints")
    weights = tmp_path / "checkpoints" / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    paths = ["--checkpoints", tmp_path / "checkpoints", "--out", tmp_path / "out"]
    assert run("generate", "a person walks", *paths, *QUICK) == 1
    err = capsys.readouterr().err
    assert "is damaged" in err and "Make it again with `python -m core train base`" in err
    assert not (tmp_path / "out").exists()


def test_prompts_become_files(tiny_checkpoints: Path, tmp_path: Path) -> None:
    """Prevents lost prompts, a seed that does not count up, and formats that hold another motion."""
    options = ["--checkpoints", tiny_checkpoints, *QUICK]
    prompts = ["a person walks", "a person bows"]
    assert run("generate", *prompts, "--seed", "3", "--out", tmp_path / "both", "--format", "npy", *options) == 0
    assert run("generate", prompts[1], "--seed", "4", "--out", tmp_path / "one", "--format", "npy", *options) == 0
    first, second = (load_features_npy(tmp_path / "both" / f"motion-00{i}.npy") for i in range(2))
    assert first.shape == (40, 263) and not np.array_equal(first, second)
    assert np.array_equal(second, load_features_npy(tmp_path / "one" / "motion-000.npy"))
    assert run("generate", prompts[1], "--seed", "4", "--out", tmp_path / "one", *options) == 0
    assert len(load_amass_npz(tmp_path / "one" / "motion-000.npz").trans) == 40
