"""HumanML3D and KIT-ML as their repositories lay them out.

    new_joint_vecs/NAME.npy   features (F, 263 or 251)      Mean.npy, Std.npy   (263 or 251,)
    texts/NAME.txt            caption#word/POS ...#from#to  train.txt, val.txt, test.txt   one NAME a line

from and to are seconds; 0 and 0 (or nothing, or nan) mean the whole motion, others a segment that becomes a motion of
its own. Which motions count is as published (Guo et al. 2022): at least 40 frames (KIT: 24), fewer than 200, at most
the first 196 of them. Left out beyond that: motions with NaN or numbers beyond float16, the second of two equal
captions of one motion, and every further listing of a name, so that nothing is trained on and tested on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core import Callback
from core.data.captioned import CaptionedMotion, PreparedSet
from core.motion.files import load_numbers
from core.motion.skeleton import MAX_FRAMES

LARGEST = float(np.finfo(np.float16).max)  # of a feature: training motions are kept in float16
LATEST_S = 1e6  # a later time in a text file is no time
TOO_LONG = 200  # frames; motions as long as that are left out as published
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Layout:
    """What tells the two datasets apart."""

    name: str
    features: int
    fps: float
    min_frames: int


HUMANML3D = Layout("HumanML3D", 263, 20.0, 40)
KIT = Layout("KIT-ML", 251, 12.5, 24)


@dataclass(frozen=True)
class TextLine:
    """One line of a text file; start_s = end_s = 0: the whole motion. tokens: "a/DET man/NOUN", may be empty."""

    caption: str
    start_s: float
    end_s: float
    tokens: str = field(default="", compare=False)

    @property
    def whole(self) -> bool:
        """Whether the caption is of the whole motion."""
        return self.start_s == 0.0 and self.end_s == 0.0


def read_humanml3d(
    path: Path,
    layout: Layout = HUMANML3D,
    callback: Callback | None = None,
) -> PreparedSet:
    """All usable motions below `path` as published, by split; the rest is counted by reason.

    Raises FileNotFoundError naming the missing file or folder, and ValueError for statistics of another width or that
    can't be read.
    """
    _check_folder(path)
    prepared = PreparedSet(layout.name, layout.fps, statistics=_statistics(path, layout))
    names = _names(path, prepared.skipped)
    done, total = 0, sum(map(len, names.values()))
    for split in SPLITS:
        motions = prepared.splits.setdefault(split, [])
        for name in names[split]:
            motions += _motions(path, name, layout, prepared.skipped)
            done += 1
            if callback:
                callback(done, total, name)
    return prepared


def _check_folder(path: Path) -> None:
    for needed in ("new_joint_vecs", "texts"):
        if not (path / needed).is_dir():
            hint = " Unpack texts.zip there." if (path / f"{needed}.zip").is_file() else ""
            raise FileNotFoundError(f"{path / needed} is not a folder. Give the dataset's own folder.{hint}")
    for needed in ("Mean.npy", "Std.npy", *(f"{split}.txt" for split in SPLITS)):
        if not (path / needed).is_file():
            raise FileNotFoundError(f"{path / needed} is missing. Give the dataset's own folder, complete.")


def _statistics(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    arrays = {name: load_numbers(path / f"{name}.npy").astype(np.float32) for name in ("Mean", "Std")}
    for name, array in arrays.items():
        if array.shape != (layout.features,):
            raise ValueError(
                f"{path / name}.npy has shape {array.shape}, {layout.name} needs ({layout.features},). "
                "Is it the other of humanml3d and kit?"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path / name}.npy holds NaN or infinite numbers. Take the dataset's own file anew.")
    return arrays


def _names(path: Path, skipped: Counter[str]) -> dict[str, list[str]]:
    """The names of every split, each where it is listed first: a second listing would be a leak or count twice."""
    names: dict[str, list[str]] = {}
    seen: set[str] = set()
    for split in SPLITS:
        lines = [line.strip() for line in (path / f"{split}.txt").read_text(encoding="utf-8-sig").splitlines()]
        listed = [line for line in lines if line]
        names[split] = [name for name in dict.fromkeys(listed) if name not in seen]
        seen.update(listed)
        if repeated := len(listed) - len(names[split]):
            skipped["names listed twice"] += repeated
    return names


def parse_texts(text: str, skipped: Counter[str]) -> list[TextLine]:
    """The captions of a text file: any line ends, empty or nan tags as 0, equal lines once. Others are counted."""
    lines: list[TextLine] = []
    for row in text.lstrip("\ufeff").splitlines():
        if not row.strip():
            continue
        caption, tokens, *tags = [*row.strip().split("#"), "", "", ""]
        try:
            line = TextLine(" ".join(caption.split()), _seconds(tags[0]), _seconds(tags[1]), tokens.strip())
        except ValueError:
            skipped["captions with unreadable times"] += 1
            continue
        if not line.caption:
            skipped["empty captions"] += 1
        elif line in lines:
            skipped["captions that repeat another of the motion"] += 1
        else:
            lines.append(line)
    return lines


def _seconds(tag: str) -> float:
    value = float(tag) if tag.strip() else 0.0
    if abs(value) > LATEST_S:
        raise ValueError(tag)
    return 0.0 if math.isnan(value) else value


def _motions(path: Path, name: str, layout: Layout, skipped: Counter[str]) -> list[CaptionedMotion]:
    """The motion of one name with the captions of all of it, and its captioned segments."""
    features, texts = path / "new_joint_vecs" / f"{name}.npy", path / "texts" / f"{name}.txt"
    if not features.is_file() or not texts.is_file():
        skipped["names without a motion or a text file"] += 1
        return []
    try:
        motion = load_numbers(features)
    except ValueError:
        skipped["motion files that can't be read"] += 1
        return []
    if problem := _problem(motion, layout):
        skipped[problem] += 1
        return []
    lines = parse_texts(texts.read_text(encoding="utf-8", errors="replace"), skipped)
    whole = [line for line in lines if line.whole]
    found = [_captioned(name, motion, whole)] if whole else []
    for line in lines:
        if not line.whole:
            found += _segment(name, motion, line, layout, skipped)
    if not found:
        skipped["motions without a usable caption"] += 1
    return found


def _problem(motion: np.ndarray, layout: Layout) -> str | None:
    """Why a motion is left out, as a plural, or None."""
    if motion.ndim != 2 or motion.shape[1] != layout.features:
        return f"motions of another shape than (F, {layout.features})"
    if not np.isfinite(motion).all():
        return "motions with NaN"
    if np.abs(motion).max(initial=0) > LARGEST:
        return f"motions with numbers beyond {LARGEST:g}"
    if len(motion) < layout.min_frames:
        return f"motions shorter than {layout.min_frames} frames"
    return f"motions of {TOO_LONG} frames or more" if len(motion) >= TOO_LONG else None


def _segment(
    name: str, motion: np.ndarray, line: TextLine, layout: Layout, skipped: Counter[str]
) -> list[CaptionedMotion]:
    part = motion[max(0, int(line.start_s * layout.fps)) : max(0, int(line.end_s * layout.fps))]
    if len(part) < layout.min_frames:
        skipped[f"segments shorter than {layout.min_frames} frames"] += 1
        return []
    return [_captioned(f"{name}#{line.start_s:g}-{line.end_s:g}", part, [line])]


def _captioned(name: str, motion: np.ndarray, lines: Sequence[TextLine]) -> CaptionedMotion:
    captions, tokens = (tuple(getattr(line, part) for line in lines) for part in ("caption", "tokens"))
    return CaptionedMotion(name, motion[:MAX_FRAMES], captions, tokens)
