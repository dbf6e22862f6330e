"""Prompts of (action, style) pairs that nobody recorded.

There is no motion to learn them from or to compare with, but a reward can tell how well a take fits.
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
    actions = {side for clip in clips for side in _sides(clip)}
    recorded = {(side, style_of(clip.style)) for clip in clips for side in _sides(clip)}
    pairs = [(action, style) for action in sorted(actions) for style in STYLES]
    return [pair for pair in pairs if pair not in recorded and pair not in HELD_OUT]


def draw_unseen(clips: Sequence[Clip], count: int, seed: int) -> Prompts:
    """`count` prompts of one unrecorded pair each, as long as clips of its action.

    ValueError where every pair is recorded.
    """
    if not (pairs := unrecorded_pairs(clips)):
        raise ValueError("every pair of action and style is recorded. Set unseen_share to 0.")
    frames: dict[str, list[int]] = defaultdict(list)
    for clip in clips:
        for action in _sides(clip):
            frames[action].append(min(max(len(clip), MIN_FRAMES), MAX_FRAMES))
    rng = random.Random(seed)
    drawn = [rng.choice(pairs) for _ in range(count)]
    captions = tuple(caption([Segment(*pair)], "single", rng) for pair in drawn)
    return Prompts(captions, np.array([rng.choice(frames[action]) for action, _ in drawn]))


def _sides(clip: Clip) -> set[str]:
    """The action of a clip and of its mirror image."""
    action = action_of(clip.content)
    return {action, mirror_action(action)}
