"""Motion files are whole or absent, and are what their names say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.preference.motions import MotionFiles, features_sha256


def motion(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((40, 263)).astype(np.float32)


def test_name_depends_on_content_only(tmp_path: Path) -> None:
    """Prevents one motion from getting two names through memory layout or precision."""
    features = motion()
    assert features_sha256(features) == features_sha256(np.asfortranarray(features).astype(np.float64))
    assert features_sha256(features) != features_sha256(features[:39])
    files = MotionFiles(tmp_path)
    assert files.save(features) == files.save(features.copy())
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_leftovers_of_a_killed_process_are_removed_and_motions_kept(tmp_path: Path) -> None:
    """Prevents half-written files from piling up, or a clean-up that takes whole ones."""
    files = MotionFiles(tmp_path)
    sha256 = files.save(motion())
    leftover = files.path(sha256).with_name(f".{sha256}.npz.0123.part")
    leftover.write_bytes(b"half a mot")
    assert np.array_equal(MotionFiles(tmp_path).load(sha256), motion())
    assert not leftover.exists()


def test_write_survives_a_neighbour_that_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a lost motion when another process starts at the moment of writing."""
    import os

    files, replace, taken = MotionFiles(tmp_path), os.replace, []

    def replace_after_clean_up(source: Path, target: Path) -> None:
        if not taken:
            taken.append(source)
            MotionFiles(tmp_path)
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_after_clean_up)
    assert np.array_equal(files.load(files.save(motion())), motion())
    assert taken


def test_damaged_and_missing_motions_are_named(tmp_path: Path) -> None:
    """Prevents a truncated or exchanged file from being played as a motion."""
    files = MotionFiles(tmp_path)
    sha256, other = files.save(motion(1)), files.save(motion(2))
    files.path(other).write_bytes(files.path(sha256).read_bytes())
    with pytest.raises(ValueError, match="is not the one its name says"):
        files.load(other)
    files.path(sha256).write_bytes(files.path(sha256).read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{sha256}.npz is damaged"):
        files.load(sha256)
    with pytest.raises(FileNotFoundError, match="is missing"):
        files.load("0" * 64)
    with pytest.raises(ValueError, match="not a motion's name"):
        files.load("../../etc/passwd")


@pytest.mark.parametrize("features", [np.zeros((40, 262)), np.zeros(263), np.full((40, 263), np.nan)])
def test_what_is_no_motion_is_refused(tmp_path: Path, features: np.ndarray) -> None:
    """Prevents files that no reader can use."""
    with pytest.raises(ValueError, match="was refused"):
        MotionFiles(tmp_path).save(features)
    assert not list(tmp_path.rglob("*.npz"))
