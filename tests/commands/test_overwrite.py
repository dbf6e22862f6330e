"""Commands with default names do not replace the weights that are there, and say what to do."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from core.__main__ import COMMANDS, RESUMES, main
from core.commands.align_average import AlignAverage
from core.commands.align_average import run as average
from core.models.checkpoint import read_adapters, save_adapters


@pytest.fixture
def checkpoints(live_checkpoints: Path, tmp_path: Path) -> Path:
    shutil.copytree(live_checkpoints, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "vae"], "vae exists already, and no run kept here has made it. Replace it with --data.overwrite."),
        (["train", "base"], "base exists already, .*Choose another --name, or replace it with --data.overwrite."),
        (
            ["refine", "--name", "reward"],
            "reward-spl exists already, .*Choose another --out, or replace it with --data",
        ),
    ],
)
def test_training_does_not_replace_what_is_there(
    arguments: list[str], said: str, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents the shipped weights from being lost to a command from the README."""
    paths = ["--data.checkpoints", checkpoints, "--data.runs", checkpoints / "runs", "--data.archive", "none.npz"]
    command = [str(word) for word in (*arguments, *paths)]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert re.search(said, err)
    assert main([*command, "--data.overwrite"]) == 1
    assert "exists already" not in capsys.readouterr().err


def test_an_import_does_not_replace_what_is_there(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents the shipped `mdm` from being lost to `import-weights mdm FILE`."""
    command = ["import-weights", "mdm", "none.pt", "--name", "base", "--checkpoints", str(checkpoints)]
    assert main(command) == 1
    assert "base exists already, " in (err := capsys.readouterr().err) and "or replace it with --overwrite" in err
    assert main([*command, "--overwrite"]) == 1
    assert "none.pt does not exist" in capsys.readouterr().err


def test_an_average_replaces_only_itself(checkpoints: Path) -> None:
    """Prevents the shipped model from being lost to an average of one's own; making it again needs no flag."""
    _, adapters = read_adapters(checkpoints / "aligned")
    for name in ("a", "b"):
        save_adapters(checkpoints / name, adapters, 0.02, {"command": f"make {name}"})
    config = AlignAverage(("a", "b"), checkpoints=checkpoints)
    with pytest.raises(ValueError, match="aligned exists already, .*another --name, or replace it with --overwrite"):
        average(config)
    average(AlignAverage(("a", "b"), checkpoints=checkpoints, overwrite=True))
    average(config)
    with pytest.raises(ValueError, match="aligned exists already"):
        average(AlignAverage(("b", "a"), checkpoints=checkpoints))


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
