"""A preference dataset as one zip file: packed with its card, and unpacked from strangers with care."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

from core.motion.files import atomic_write

MAX_UNPACKED_BYTES = 4 * 2**30
_STORED = (".npz", ".npy", ".parquet", ".mp4")  # compressed already, or not worth it


def pack_folder(folder: Path, target: Path) -> Path:
    """Zip everything in the folder, in a fixed order, into target; returns target. Atomic."""

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.endswith(".part"):
                    how = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
                    archive.write(path, path.relative_to(folder).as_posix(), how)

    atomic_write(target, write)
    return target


def unpack_dataset(path: Path, folder: Path) -> Path:
    """Unpack a zipped dataset into an empty folder and return where its pairs.jsonl lies.

    ValueError for what is no zip, holds no dataset, or would fill the disk. zipfile keeps all names within the folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_UNPACKED_BYTES:
                raise ValueError(f"{path.name} holds {size:,} bytes. At most {MAX_UNPACKED_BYTES:,} can be imported.")
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:  # encrypted: RuntimeError
        raise ValueError(f"{path.name} is no zip file that can be read ({error}). Give an exported dataset.") from error
    found = sorted(folder.rglob("pairs.jsonl"), key=lambda found: len(found.parts))
    if not found:
        raise ValueError(f"{path.name} holds no pairs.jsonl. Give a dataset exported by this program.")
    return found[0].parent
