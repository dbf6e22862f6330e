"""From a dataset on disk to one compact clip archive: read, put on the floor, split.

Splits are by clip, stratified by (source, content): 10 % test, 5 % validation. HELD_OUT (action, style) combinations
go to a split of their own, both sides of a sided action together, as mirroring would give the other side away.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.data.bandai import read_dataset
from core.data.captions import action_of, mirror_action, style_of
from core.data.clips import SPLITS, Clip, ClipArchive, save_archive
from core.data.retarget import standing_heights
from core.motion.skeleton import FPS

log = logging.getLogger(__name__)

TEST_SHARE, VAL_SHARE = 0.10, 0.05
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("wave-left-hand", "elderly"),
        ("wave-right-hand", "elderly"),
        ("raise-both-hands", "tired"),
        ("walk-turn-left", "feminine"),
        ("walk-turn-right", "feminine"),
        ("run", "elderly"),
        ("bow", "happy"),
        ("walk-left", "proud"),
        ("walk-right", "proud"),
    }
)


def prepare_bandai(
    path: Path, out: Path, rest: np.ndarray, callback: Callable[[int, int, str], None] | None = None
) -> str:
    """Write the archive of the Bandai-Namco dataset at `path` to `out`; rest (24, 3) are the body's rest joints.

    Returns a summary in words. Raises as read_dataset does.
    """
    clips = split_clips(lower_to_floor(read_dataset(path, rest, callback), rest))
    save_archive(out, ClipArchive(tuple(clips), rest))
    counts = ", ".join(f"{sum(c.split == s for c in clips)} {s}" for s in SPLITS)
    hours = sum(map(len, clips)) / FPS / 3600
    return f"{len(clips)} clips, {hours:.2f} h at {FPS} fps ({counts}) -> {out}, {out.stat().st_size / 1e6:.1f} MB"


def lower_to_floor(clips: Sequence[Clip], rest: np.ndarray) -> list[Clip]:
    """All clips moved down by one height, so that the foot joint of a standing person is at y = 0.

    One height for all, because the dataset has one floor: per-clip minima would sink whoever walks on tiptoe.
    Raises ValueError when no clip has a standing foot.
    """
    standing = np.concatenate([standing_heights(clip, rest) for clip in clips])
    if not len(standing):
        raise ValueError(f"no foot stands still in any of the {len(clips)} clips, so the floor is unknown. Add clips.")
    floor = float(np.median(standing))
    log.info("floor at %.3f m below the standing foot joint", floor)
    return [replace(clip, trans=clip.trans - np.array([0, floor, 0], dtype=np.float32)) for clip in clips]


def split_clips(clips: Sequence[Clip], seed: int = 0) -> list[Clip]:
    """The same clips with their split set; depends on names and labels only."""
    held_out = HELD_OUT | {(mirror_action(action), style) for action, style in HELD_OUT}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    split = ["train"] * len(clips)
    for i, clip in enumerate(clips):
        if (action_of(clip.content), style_of(clip.style)) in held_out:
            split[i] = "heldout"
        else:
            groups[clip.source, clip.content].append(i)
    for key in sorted(groups):
        members = sorted(groups[key], key=lambda i: clips[i].name)
        random.Random(f"{seed}/{key}").shuffle(members)
        n_test, n_val = round(TEST_SHARE * len(members)), round(VAL_SHARE * len(members))
        for i in members[:n_test]:
            split[i] = "test"
        for i in members[n_test : n_test + n_val]:
            split[i] = "val"
    return [replace(clip, split=s) for clip, s in zip(clips, split, strict=True)]
