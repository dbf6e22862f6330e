"""Several prepared sets in one training, each reported by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.__main__ import main
from core.commands.evaluate import Evaluate, reported_sets
from core.data.captioned import CaptionedMotion, PreparedSet, save_prepared
from core.data.dataset import SetConfig, load_set
from core.data.mixture import read_mixture, write_mixture


def prepared(path: Path, count: int, value: float, captions: tuple[str, ...]) -> Path:
    motions = [CaptionedMotion(f"{i}", np.full((40 + i, 263), value), captions) for i in range(count)]
    save_prepared(path, PreparedSet(path.stem, 20.0, {"train": motions, "test": motions[:2]}))
    return path


@pytest.fixture
def mixture(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    first = prepared(tmp_path / "data" / "first.npz", 4, 1.0, ("a man walks",))
    second = prepared(tmp_path / "data" / "second.npz", 2, 2.0, ("he sits", "someone sits down"))
    command = ["prepare", "mix", str(first), str(second), "--weights", "1", "2.5"]
    assert main([*command, "--out", str(tmp_path / "data" / "mix.json")]) == 0
    return tmp_path / "data" / "mix.json"


def test_weights_count_in_training_only(mixture):
    """Prevents a small set from being drowned, and test figures that depend on the weights."""
    train, test = (load_set(mixture, SetConfig(split)) for split in ("train", "test"))
    values = [float(train.motion(i)[0, 0]) for i in range(len(train))]
    assert values.count(1.0) == 4 and values.count(2.0) == 5 and len(test) == 4
    assert train.captions[0] == ("a man walks", "a man walks") and train.captions[-1][1] == "someone sits down"
    assert train.lengths.sum() == train.starts[-1] == len(train.features)


def test_each_set_is_reported_by_itself(mixture):
    """Prevents one figure for two datasets of different difficulty."""
    parts = reported_sets(Evaluate(archive=mixture), "test")
    assert list(parts) == ["first", "second"]
    assert parts["second"].archive == mixture.parent / "second.npz" and parts["second"].out.name == "second"
    assert list(reported_sets(Evaluate(), "test")) == [""]


def test_sets_without_a_split_are_left_out_of_it(tmp_path, caplog):
    """Prevents a training that stops because one small set of a mixture has nothing to validate on."""
    motions = [CaptionedMotion("0", np.zeros((40, 263)), ("a man walks",))]
    paths = [tmp_path / "small.npz", tmp_path / "large.npz"]
    save_prepared(paths[0], PreparedSet("small", 20.0, {"train": motions, "val": [], "test": []}))
    save_prepared(paths[1], PreparedSet("large", 20.0, {"train": motions, "val": motions, "test": []}))
    write_mixture(tmp_path / "mix.json", paths)
    train, val = (load_set(tmp_path / "mix.json", SetConfig(split)) for split in ("train", "val"))
    assert len(train) == 2 and len(val) == 1
    with caplog.at_level("INFO"):
        assert list(reported_sets(Evaluate(archive=tmp_path / "mix.json"), "val")) == ["large"]
    assert "small.npz has no split 'val' and is left out of it" in caplog.text
    with pytest.raises(ValueError, match=r"no set of .*mix.json has a split 'test'. Mix in one that has"):
        load_set(tmp_path / "mix.json", SetConfig("test"))
    with pytest.raises(ValueError, match="small.npz has no split 'val'. Choose one of train, or mix it with a set"):
        load_set(paths[0], SetConfig("val"))


def test_what_cannot_be_mixed_is_named(mixture, tmp_path):
    first, second = read_mixture(mixture)
    with pytest.raises(ValueError, match="2 archives and 1 weights"):
        write_mixture(tmp_path / "m.json", [first, second], [1.0])
    with pytest.raises(ValueError, match="above 0"):
        write_mixture(tmp_path / "m.json", [first, second], [1.0, 0.0])
    with pytest.raises(FileNotFoundError, match="none.npz does not exist"):
        write_mixture(tmp_path / "m.json", [first, tmp_path / "none.npz"])
    with pytest.raises(ValueError, match="must end with .json"):
        write_mixture(tmp_path / "m.npz", [first, second])
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(ValueError, match="is no mixture"):
        load_set(tmp_path / "m.json", SetConfig())
