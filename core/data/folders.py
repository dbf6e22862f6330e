"""Folders of BVH or AMASS files -> captioned motions on our body.

Captions come from, in this order: a table index.csv or captions.csv in the folder (columns file and description or
caption); a text file of the same name (a caption a line, or HumanML3D's lines); the words of the file's name.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from core import Callback
from core.data.captioned import CaptionedMotion, PreparedSet
from core.data.clips import Clip, pose_joints
from core.data.humanml3d import parse_texts
from core.data.prepare import TEST_SHARE, VAL_SHARE
from core.data.retarget import retarget_bvh, to_clip, windows
from core.motion.bvh import read_bvh
from core.motion.features import extract_features
from core.motion.files import load_amass_npz
from core.motion.rotations import rotvec_to_matrix
from core.motion.skeleton import FPS, MAX_FRAMES, MIN_FRAMES

TABLES = ("index.csv", "captions.csv")
Reader = Callable[[Path], Clip]


def read_bvh_folder(
    path: Path, rest: np.ndarray, callback: Callback | None = None, given: Mapping[str, str] | None = None
) -> PreparedSet:
    """Every .bvh below `path` on the body with rest joints (24, 3); given: joint names, see core.data.humanoids.

    Raises FileNotFoundError, and ValueError where the folder has no such file. Files that can't be read are counted.
    """
    return _read_folder(path, "bvh", "BVH", partial(read_bvh_clip, rest=rest, given=given), rest, callback)


def read_amass_folder(path: Path, rest: np.ndarray, callback: Callback | None = None) -> PreparedSet:
    """Every AMASS .npz below `path` (SMPL-H, SMPL-X or SMPL); rotations are kept, our body takes the place of theirs.

    Raises as read_bvh_folder.
    """
    return _read_folder(path, "npz", "AMASS", partial(read_amass_clip, rest=rest), rest, callback)


def read_bvh_clip(file: Path, rest: np.ndarray, given: Mapping[str, str] | None = None) -> Clip:
    """One BVH of any humanoid at 20 fps, feet on the floor; raises as read_bvh and retarget_bvh."""
    bvh = read_bvh(file)
    return to_clip(file.stem, *retarget_bvh(bvh, rest, file.name, given), bvh.fps, rest)


def read_amass_clip(file: Path, rest: np.ndarray) -> Clip:
    """One AMASS file at 20 fps, feet on the floor; raises as load_amass_npz."""
    amass = load_amass_npz(file)
    return to_clip(file.stem, amass.rotations, amass.trans + rest[0], amass.fps, rest)


def read_joint_names(path: Path | None) -> dict[str, str]:
    """Our joint name -> the files', from a JSON file; empty for None.

    Raises FileNotFoundError, and ValueError for anything but such a table.
    """
    if path is None:
        return {}
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Give a JSON file {{our name: their name}} by --joints.")
    try:
        table = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file ({error}). Write {{our name: their name}}.") from None
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise ValueError(f"{path} holds no table of names. Write {{our name: their name}}.")
    return table


def _read_folder(
    path: Path, suffix: str, source: str, read: Reader, rest: np.ndarray, callback: Callback | None
) -> PreparedSet:
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder. Give the folder that holds the .{suffix} files.")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() == f".{suffix}")
    if not files:
        raise ValueError(f"{path} holds no .{suffix} file. Give the folder that holds them.")
    prepared = PreparedSet(source, FPS, {"train": [], "val": [], "test": []})
    table, used = read_tables(path), []
    for i, file in enumerate(files):
        motions = _captioned(file, read, rest, table, prepared.skipped)
        used += [motions] if motions else []
        if callback:
            callback(i + 1, len(files), file.name)
    for split, motions in zip(split_of(len(used)), used, strict=True):
        prepared.splits[split] += motions
    return prepared


def split_of(count: int, seed: int = 0) -> list[str]:
    """A split for each of `count` files: 10 % test, 5 % validation, at least one each from three files on.

    In an order drawn from the seed; one or two files are all for training.
    """
    order = np.random.default_rng(seed).permutation(count)
    splits = np.full(count, "train", dtype="<U5")
    n_test, n_val = (max(round(share * count), int(count >= 3)) for share in (TEST_SHARE, VAL_SHARE))
    splits[order[:n_test]], splits[order[n_test : n_test + n_val]] = "test", "val"
    return splits.tolist()


def _captioned(
    file: Path, read: Reader, rest: np.ndarray, table: Mapping[str, str], skipped: Counter[str]
) -> list[CaptionedMotion]:
    captions = captions_of(file, table, skipped)
    if not captions:
        skipped["files without a caption"] += 1
        return []
    try:
        clip = read(file)
    except (ValueError, OSError) as error:
        skipped[f"file: {error}"] += 1
        return []
    features = clip_features(clip, rest)
    cuts = windows(len(features), MAX_FRAMES, MIN_FRAMES)
    if not cuts:
        skipped[f"files shorter than {MIN_FRAMES / FPS:.1f} s"] += 1
    return [CaptionedMotion(f"{file.stem}#{cut.start}", features[cut], captions) for cut in cuts]


def clip_features(clip: Clip, rest: np.ndarray) -> np.ndarray:
    """Features (F - 1, 263) of convention "smpl" of a clip on the body with rest joints (24, 3)."""
    pose = rotvec_to_matrix(clip.rotvecs)
    return extract_features(pose_joints(pose, clip.trans, rest), pose)


def read_tables(folder: Path) -> dict[str, str]:
    """File name without its suffix -> description, from the folder's tables; empty where there is none."""
    found: dict[str, str] = {}
    for name in TABLES:
        if (folder / name).is_file():
            with (folder / name).open(encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file):
                    text = (row.get("description") or row.get("caption") or "").strip()
                    if text and row.get("file"):
                        found[Path(row["file"]).stem] = text
    return found


def captions_of(file: Path, table: Mapping[str, str], skipped: Counter[str]) -> tuple[str, ...]:
    """What is known about a file, in words; see the module docstring."""
    if file.stem in table:
        return (table[file.stem],)
    beside = file.with_suffix(".txt")
    if beside.is_file():
        lines = parse_texts(beside.read_text(encoding="utf-8", errors="replace"), skipped)
        return tuple(dict.fromkeys(line.caption for line in lines if line.whole))
    words = re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}", file.stem.removesuffix("_poses").removesuffix("_stageii"))
    return (" ".join(word.lower() for word in words),) if words else ()
