"""The clip archive: what goes in comes out, and what is no archive is named."""

from __future__ import annotations

import numpy as np
import pytest

from core.data.clips import ClipArchive, clip_joints, load_archive, save_archive


@pytest.fixture
def archive(make_clip, rest) -> ClipArchive:
    return ClipArchive((make_clip("walk", frames=50), make_clip("bow", "tired", frames=41)), rest)


def test_round_trip_within_a_step_of_int16(archive, tmp_path) -> None:
    """Fails where angles wrap around or clips are cut at the wrong place."""
    save_archive(tmp_path / "a.npz", archive)
    back = load_archive(tmp_path / "a.npz")
    for old, new in zip(archive.clips, back.clips, strict=True):
        assert (new.name, new.source, new.content, new.style, new.split) == (
            old.name, old.source, old.content, old.style, old.split)  # fmt: skip
        assert np.abs(new.rotvecs - old.rotvecs).max() <= 0.51 * np.pi / 32767
        np.testing.assert_array_equal(new.trans, old.trans)
        assert np.abs(clip_joints(new, back.rest) - clip_joints(old, archive.rest)).max() < 1e-3  # metres
    np.testing.assert_allclose(back.rest, archive.rest, atol=1e-6)


def test_half_a_turn_survives(make_clip, rest, tmp_path) -> None:
    """Fails where pi overflows int16 and comes back as -pi about the axis, or worse."""
    clip = make_clip(frames=45)
    clip.rotvecs[:, 0] = [0.0, -np.pi, 0.0]
    save_archive(tmp_path / "a.npz", ClipArchive((clip,), rest))
    np.testing.assert_allclose(load_archive(tmp_path / "a.npz").clips[0].rotvecs[:, 0, 1], -np.pi, atol=1e-4)


def test_missing_archive_names_the_command(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="core prepare bandai-namco"):
        load_archive(tmp_path / "none.npz")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "npy", "other", "empty"])
def test_damaged_archive_is_one_sentence(archive, tmp_path, damage) -> None:
    """Fails where zipfile's or numpy's own exceptions reach the user."""
    path = tmp_path / "a.npz"
    save_archive(path, archive)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[200:300] = bytes(100)
        path.write_bytes(data)
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "other":
        np.savez(path, poses=np.zeros(3))
    else:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="is not a clip archive .* core prepare bandai-namco"):
        load_archive(path)


def test_unknown_split_is_refused(archive) -> None:
    with pytest.raises(ValueError, match="split='dev' is unknown"):
        archive.of("dev")
