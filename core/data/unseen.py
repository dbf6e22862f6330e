"""Prompts of (action, style) pairs that no training clip shows.

There is no motion to learn them from or to compare with, but a reward can tell how well a take fits. They are where
the base fails most: a bow like a thug, when only others were seen to bow.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.data.captioned import is_prepared
from core.data.captions import STYLES, Segment, action_of, caption, mirror_action, style_of
from core.data.clips import Clip
from core.data.compose import BLEND_FRAMES, MAX_PART_FRAMES, Mix
from core.data.mixture import SUFFIX
from core.data.prepare import HELD_OUT
from core.motion.skeleton import MAX_FRAMES, MIN_FRAMES


@dataclass(frozen=True)
class Prompts:
    """Captions with the frames (N,) their takes shall have."""

    captions: tuple[str, ...]
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.captions)


def tells_pairs(archive: Path) -> bool:
    """Whether the captions of an archive are written from actions and styles, so that what it lacks is known."""
    return archive.suffix != SUFFIX and not is_prepared(archive)


def unrecorded_pairs(clips: Sequence[Clip]) -> list[tuple[str, str]]:
    """(action, style) pairs that no clip shows, as recorded or mirrored, of actions that some clip shows.

    Held-out pairs are left out too: what is measured on them must not have been rewarded for them.
    """
    recorded = _recorded(clips)
    pairs = [(action, style) for action in sorted({action for action, _ in recorded}) for style in STYLES]
    return [pair for pair in pairs if pair not in recorded and pair not in HELD_OUT]


def draw_unseen(clips: Sequence[Clip], count: int, seed: int, mix: Mix | None = None) -> Prompts:
    """`count` prompts with one unrecorded pair each, as long as clips of its action; clips: those of training.

    A share mix.then of them are sequences with a recorded pair, before or after; mix.same_style of these are of one
    style, where that is recorded of any action. ValueError where every pair is recorded.
    """
    if not (pairs := unrecorded_pairs(clips)):
        raise ValueError("every pair of action and style is recorded. Set unseen_share to 0.")
    mix, rng, recorded = mix or Mix(), random.Random(seed), sorted(_recorded(clips))
    frames: dict[str, list[int]] = defaultdict(list)
    for clip in clips:
        for action in _sides(clip):
            frames[action].append(min(max(len(clip), MIN_FRAMES), MAX_FRAMES))
    captions, lengths = [], []
    for _ in range(count):
        parts = [rng.choice(pairs)]
        if rng.random() < mix.then:
            alike = [pair for pair in recorded if pair[1] == parts[0][1]]
            parts.append(rng.choice(alike if alike and rng.random() < mix.same_style else recorded))
            rng.shuffle(parts)
        longest = MAX_FRAMES if len(parts) == 1 else MAX_PART_FRAMES
        each = [min(rng.choice(frames[action]), longest) for action, _ in parts]
        captions.append(caption([Segment(*part) for part in parts], "single" if len(parts) == 1 else "then", rng))
        lengths.append(sum(each) - BLEND_FRAMES * (len(parts) - 1))
    return Prompts(tuple(captions), np.array(lengths))


def _recorded(clips: Sequence[Clip]) -> set[tuple[str, str]]:
    """(action, style) of clips and of their mirror images."""
    return {(side, style_of(clip.style)) for clip in clips for side in _sides(clip)}


def _sides(clip: Clip) -> set[str]:
    """The action of a clip and of its mirror image."""
    action = action_of(clip.content)
    return {action, mirror_action(action)}
