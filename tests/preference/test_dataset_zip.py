"""Zipped datasets: whole on the way out, looked at twice on the way in."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from core.preference import dataset_zip
from core.preference.dataset_zip import pack_folder, unpack_dataset


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    (folder / "motions" / "ab").mkdir(parents=True)
    (folder / "pairs.jsonl").write_text("{}\n")
    (folder / "motions" / "ab" / "abc.npz").write_bytes(b"motion")
    (folder / "motions" / "ab" / ".x.npz.1.part").write_bytes(b"half a motion")
    return pack_folder(folder, tmp_path / "dataset.zip")


def test_what_was_packed_is_unpacked(packed: Path, tmp_path: Path) -> None:
    """Prevents files that are lost, and half-written ones that travel along."""
    folder = unpack_dataset(packed, tmp_path / "new")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {"pairs.jsonl": b"{}\n", "motions/ab/abc.npz": b"motion"}


def test_a_dataset_in_a_folder_of_the_zip_is_found(tmp_path: Path) -> None:
    """Prevents the refusal of what an archive program has packed."""
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("study-7/pairs.jsonl", "{}\n")
    assert unpack_dataset(tmp_path / "d.zip", tmp_path / "new").name == "study-7"


def test_names_that_climb_stay_within(tmp_path: Path) -> None:
    """Prevents a stranger's zip from writing elsewhere."""
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("../../climbed.txt", "x")
        archive.writestr("pairs.jsonl", "{}\n")
    unpack_dataset(tmp_path / "d.zip", tmp_path / "a" / "b")
    assert not (tmp_path / "climbed.txt").exists()


def test_what_is_no_dataset_is_named(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a traceback on the page, and a full disk."""
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"text.zip is no zip file that can be read"):
        unpack_dataset(tmp_path / "text.zip", tmp_path / "new")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("holiday.txt", "x")
    with pytest.raises(ValueError, match=r"holds no pairs.jsonl"):
        unpack_dataset(tmp_path / "other.zip", tmp_path / "new")
    monkeypatch.setattr(dataset_zip, "MAX_UNPACKED_BYTES", 3)
    with pytest.raises(ValueError, match="At most"):
        unpack_dataset(packed, tmp_path / "new")
