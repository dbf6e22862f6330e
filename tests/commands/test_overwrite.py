"""Commands with default names lose no weights that are there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.__main__ import COMMANDS, RESUMES, main
from core.commands.align_average import AlignAverage
from core.commands.align_average import run as average
from core.models.checkpoint import read_adapters, save_adapters
from core.train.run_record import set_aside


@pytest.fixture
def checkpoints(live_checkpoints: Path, tmp_path: Path) -> Path:
    shutil.copytree(live_checkpoints, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("arguments", "name"), [(["train", "vae"], "vae"), (["refine", "--name", "reward"], "reward-spl")]
)
def test_what_a_training_replaces_is_kept(
    arguments: list[str], name: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents the shipped weights from being lost to a command from the README."""
    paths = ["--data.checkpoints", checkpoints, "--data.runs", checkpoints / "runs", "--data.archive", "none.npz"]
    for _ in range(2):
        assert main([str(word) for word in (*arguments, *paths)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    for file in ("config.json", "model.safetensors"):
        assert (checkpoints / f"{name}-before" / file).read_bytes() == (checkpoints / name / file).read_bytes()
    assert not list(checkpoints.glob(f"{name}-before-*"))


def test_one_process_of_several_sets_aside(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents processes that start together from failing on each other's copy of the same weights."""
    monkeypatch.setenv("RANK", "1")
    paths = ["--data.checkpoints", checkpoints, "--data.runs", checkpoints / "runs", "--data.archive", "none.npz"]
    assert main([str(word) for word in ("train", "vae", *paths)]) == 1
    assert not list(checkpoints.glob("vae-before*"))


def test_each_of_several_is_kept_under_its_own_name(checkpoints: Path) -> None:
    """Prevents the second replacement from costing what the first one kept."""
    base, weights = checkpoints / "base", checkpoints / "base" / "model.safetensors"
    assert set_aside(base, made_here=True) is None and not (checkpoints / "base-before").exists()
    first = weights.read_bytes()
    assert set_aside(base, made_here=False) == checkpoints / "base-before"
    weights.write_bytes(b"other")
    assert set_aside(base, made_here=False) == checkpoints / "base-before-2"
    assert (checkpoints / "base-before" / "model.safetensors").read_bytes() == first
    assert set_aside(checkpoints / "none", made_here=False) is None


def test_an_import_does_not_replace_what_is_there(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents the shipped `mdm` from being lost to `import-weights mdm FILE`."""
    command = ["import-weights", "mdm", "none.pt", "--name", "base", "--checkpoints", str(checkpoints)]
    assert main(command) == 1
    assert "base exists already. " in (err := capsys.readouterr().err) and "or replace it with --overwrite" in err
    assert main([*command, "--overwrite"]) == 1
    assert "none.pt does not exist" in capsys.readouterr().err


def test_an_average_keeps_what_it_replaces(checkpoints: Path) -> None:
    """Prevents the shipped model from being lost to an average of one's own; making it again copies nothing."""
    _, adapters = read_adapters(checkpoints / "aligned")
    before = (checkpoints / "aligned" / "model.safetensors").read_bytes()
    for name in ("a", "b"):
        save_adapters(checkpoints / name, adapters, 0.02, {"command": f"make {name}"})
    for _ in range(2):
        average(AlignAverage(("a", "b"), checkpoints=checkpoints))
    assert (checkpoints / "aligned-before" / "model.safetensors").read_bytes() == before
    assert not list(checkpoints.glob("aligned-before-*"))


@pytest.mark.parametrize("command", ["train", "generate"])
def test_an_interrupted_command_says_whether_it_goes_on(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents hope for the work of a command that begins anew."""

    def interrupted(_: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"core.commands.{command}.main", interrupted)
    assert main([command, "x"]) == 130
    goes_on = "stopped; run the same command again to go on where it left off"
    assert capsys.readouterr().err.strip() == (goes_on if command in RESUMES else "stopped")
    assert set(RESUMES) < set(COMMANDS)
