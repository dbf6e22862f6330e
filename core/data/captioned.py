"""Prepared sets of captioned motions: one npz with features and captions a split, whatever dataset they came from.

Training motions are kept as float16 (0.05 % of a value), the others as float32, as in core.data.dataset.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.data.motion_set import MotionSet
from core.motion.files import atomic_write

KIND = "captioned motions, 1"  # of the file; raise the number when its layout changes


@dataclass(frozen=True, eq=False)
class CaptionedMotion:
    """One motion and what people said about it. features: (F, D); captions: at least one.

    tokens: each caption as word/PART-OF-SPEECH, as HumanML3D and KIT-ML give them; empty where nobody tagged the words.
    """

    name: str
    features: np.ndarray
    captions: tuple[str, ...]
    tokens: tuple[str, ...] = ()


@dataclass
class PreparedSet:
    """What a dataset gave. skipped: reason -> how many; statistics: "Mean" and "Std" (D,), where it has them."""

    source: str
    fps: float
    splits: dict[str, list[CaptionedMotion]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    statistics: dict[str, np.ndarray] = field(default_factory=dict)

    def summary(self) -> str:
        """How much was read, and what was left out and why, in words."""
        motions = [m for split in self.splits.values() for m in split]
        hours = sum(len(m.features) for m in motions) / self.fps / 3600
        counts = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        texts = sum(len(m.captions) for m in motions)
        left = ", ".join(f"{n} {reason}" for reason, n in self.skipped.most_common())
        return f"{self.source}: {len(motions)} motions ({counts}), {hours:.2f} h, {texts} captions; " + (
            f"left out: {left}" if left else "nothing left out"
        )


def save_prepared(path: Path, prepared: PreparedSet) -> None:
    """Write atomically. ValueError where there is nothing to write: the summary tells why."""
    if not any(prepared.splits.values()):
        raise ValueError(f"no motion can be used. {prepared.summary()}.")
    arrays: dict[str, Any] = {"kind": np.array(KIND), "fps": np.array(prepared.fps)}
    arrays |= {"source": np.array(prepared.source), **prepared.statistics}
    for name, motions in prepared.splits.items():
        if motions:
            dtype = np.float16 if name == "train" else np.float32
            arrays[f"{name}/features"] = np.concatenate([m.features for m in motions]).astype(dtype)
            arrays[f"{name}/starts"] = np.cumsum([0] + [len(m.features) for m in motions])
            texts = json.dumps([[m.name, list(m.captions), list(m.tokens)] for m in motions], ensure_ascii=False)
            arrays[f"{name}/texts"] = np.frombuffer(texts.encode(), dtype=np.uint8)
    atomic_write(path, lambda file: np.savez(file, **arrays))


def is_prepared(path: Path) -> bool:
    """Whether a file was written by save_prepared."""
    try:
        with np.load(path, allow_pickle=False) as z:
            return "kind" in z.files and str(z["kind"]) == KIND
    except Exception:  # numpy and zipfile raise a dozen kinds for another or a damaged file
        return False


def has_split(path: Path, split: str) -> bool:
    """Whether an archive has motions of a split; a clip archive, split by ourselves, is taken to have all of them."""
    if not is_prepared(path):
        return True
    with np.load(path, allow_pickle=False) as z:
        return f"{split}/starts" in z.files


def load_prepared(path: Path, split: str) -> MotionSet:
    """One split; captions are repeated in turn so that every motion has as many as the richest.

    Raises ValueError for a damaged file and a split that is not there.
    """
    motions = load_motions(path, split)
    rows = even_captions([motion.captions for motion in motions])
    first = tuple(row[0] for row in rows)
    starts = np.cumsum([0] + [len(motion.features) for motion in motions])
    features = np.concatenate([motion.features for motion in motions])
    return MotionSet(features, starts, rows, first, tuple(map(meaning_of, first)))


def load_motions(path: Path, split: str) -> list[CaptionedMotion]:
    """One split as it was saved, each motion with its own captions and tokens; raises as load_prepared."""
    there: list[str] = []
    try:
        with np.load(path, allow_pickle=False) as z:
            there = sorted({name.split("/")[0] for name in z.files if "/" in name})
            if split not in there:
                raise KeyError(split)
            features, starts = z[f"{split}/features"], z[f"{split}/starts"]
            texts: list[list[Any]] = json.loads(z[f"{split}/texts"].tobytes().decode())
        return [
            CaptionedMotion(name, features[a:b], tuple(captions), tuple(*tokens))
            for (name, captions, *tokens), a, b in zip(texts, starts[:-1], starts[1:], strict=True)
        ]
    except KeyError:
        raise ValueError(
            f"{path} has no split {split!r}. Choose one of {', '.join(there)}, or mix it with a set that has one: "
            "`python -m core prepare mix`."
        ) from None
    except Exception as error:
        raise ValueError(f"{path} is damaged ({error}). Prepare the dataset again.") from error


def source_of(path: Path) -> str:
    """What a prepared set was made from, such as "HumanML3D"; see PreparedSet."""
    with np.load(path, allow_pickle=False) as z:
        return str(z["source"])


def load_statistics(path: Path) -> Mapping[str, np.ndarray]:
    """The dataset's own "Mean" and "Std" (D,), empty where it had none."""
    with np.load(path, allow_pickle=False) as z:
        return {name: z[name] for name in ("Mean", "Std") if name in z.files}


def even_captions(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """The same number of captions for every motion, its own ones repeated in turn."""
    most = max((len(row) for row in rows), default=0)
    return tuple(tuple(row[i % len(row)] for i in range(most)) for row in rows)


def meaning_of(caption: str) -> str:
    """The same for captions of the same words: "text:a-man-waves"; see core.data.compose.action_group."""
    return "text:" + "-".join(re.findall(r"[a-z0-9']+", caption.lower()))
