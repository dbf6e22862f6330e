"""Wider motion from the same real clips: windows, mirror, tempo, sequences ("then"), upper-on-lower ("while").

Everything happens on local joint rotations, so bones keep their lengths, and every item keeps the labels that its
caption is written from. A Recipe is small and deterministic; `realize` turns it into poses.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.data.captions import Relation, Segment, action_of, mirror_action, style_of
from core.data.clips import Clip
from core.motion.mirror import mirror_rotations
from core.motion.rotations import (
    matrix_to_quaternion,
    normalize,
    quaternion_to_matrix,
    rotvec_to_matrix,
    yaw_matrix,
)
from core.motion.skeleton import JOINT, MAX_FRAMES, MIN_FRAMES

TEMPO_RATES = {"slow": 0.75, "normal": 1.0, "fast": 1.3}  # source frames per frame
BLEND_FRAMES = 10  # 0.5 s cross-fade between the parts of a sequence
MAX_PART_FRAMES = 102  # so that two parts and their blend fit into MAX_FRAMES
LOWER_ACTIONS = ("walk", "run", "walk-back", "walk-left", "walk-right", "walk-turn-left", "walk-turn-right")
UPPER_ACTIONS = tuple(
    f"{verb}-{side}" for verb in ("wave", "raise") for side in ("left-hand", "right-hand", "both-hands")
)
_ARM = {
    side: [JOINT[f"{side}_{part}"] for part in ("collar", "shoulder", "elbow", "wrist")] for side in ("left", "right")
}
_LEGS = [JOINT[f"{side}_{part}"] for side in ("left", "right") for part in ("hip", "knee")]


@dataclass(frozen=True)
class Part:
    """A window of one clip: `frames` source frames from `start`, mirrored or not, at a tempo of TEMPO_RATES."""

    clip: int
    start: int
    frames: int
    mirror: bool
    tempo: str
    segment: Segment


@dataclass(frozen=True)
class Recipe:
    """How to make one motion: parts in order ("then") or lower body first, then the gesture ("while")."""

    relation: Relation
    parts: tuple[Part, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Labels in the order in which the caption grammar takes them."""
        return tuple(part.segment for part in self.parts)

    @property
    def meaning(self) -> str:
        """The same for two recipes exactly when a caption of one also describes the other."""
        return f"{self.relation}:" + "|".join(f"{s.action}/{s.style}/{s.tempo}" for s in self.segments)


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds of items and of the variations of each part."""

    then: float = 0.35
    while_: float = 0.2
    mirror: float = 0.5
    tempo: float = 0.2  # probability of a part that is slowed down or sped up
    same_style: float = 0.7  # probability that the parts of one item share a style


class Composer:
    """Draws recipes from the clips of one split; the same seed gives the same recipes.

    held_out: (action, style) pairs that no recipe may contain.
    """

    def __init__(
        self, clips: Sequence[Clip], mix: Mix, seed: int, held_out: frozenset[tuple[str, str]] = frozenset()
    ) -> None:
        self.clips, self.mix, self.rng, self.held_out = clips, mix, random.Random(seed), held_out
        self._by_action: dict[str, list[int]] = defaultdict(list)
        self._by_style: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, clip in enumerate(clips):
            action, style = action_of(clip.content), style_of(clip.style)
            self._by_action[action].append(i)
            self._by_style[action, style].append(i)
        self._actions = sorted(self._by_action)
        self._weights = [len(self._by_action[a]) ** 0.5 for a in self._actions]

    def draw(self) -> Recipe:
        """One recipe of the mix, drawn again where clips are too short for it; ValueError after 1000 tries."""
        for _ in range(1000):
            kind = self.rng.random()
            if kind < self.mix.then:
                recipe = self._sequence()
            elif kind < self.mix.then + self.mix.while_:
                recipe = self._layered()
            else:
                recipe = self._single()
            if recipe is not None:
                return recipe
        raise ValueError("1000 draws gave no item of 2.0 to 9.8 s. The clips of this split are too short or too few.")

    def of_clip(self, index: int) -> Recipe | None:
        """The plain single of one clip, its first 9.8 s; None when shorter than 2.0 s."""
        frames = min(len(self.clips[index]), MAX_FRAMES + 1)
        return Recipe("single", (self.part_of(index, 0, frames, False, "normal"),)) if frames > MIN_FRAMES else None

    def part_of(self, index: int, start: int, frames: int, mirror: bool, tempo: str) -> Part:
        """A window of clip `index` with the segment that names what it then shows."""
        clip = self.clips[index]
        action = action_of(clip.content)
        segment = Segment(mirror_action(action) if mirror else action, style_of(clip.style), tempo)
        return Part(index, start, frames, mirror, tempo, segment)

    def clip_of(self, action: str, style: str) -> int | None:
        """A random clip of this action, as recorded, and style; None where there is none."""
        found = self._by_style.get((action, style))
        return self.rng.choice(found) if found else None

    def _window(self, index: int | None, longest: int, shortest: int) -> Part | None:
        """A random window of `shortest` to `longest` frames of the result; None without a clip or for a short one."""
        if index is None:
            return None
        tempo = self.rng.choice(("slow", "fast")) if self.rng.random() < self.mix.tempo else "normal"
        rate = TEMPO_RATES[tempo]
        available, low, high = len(self.clips[index]), int(np.ceil(shortest * rate)) + 1, int(longest * rate)
        if available < low:
            return None
        frames = min(available, high)
        if action_of(self.clips[index].content) in (*LOWER_ACTIONS, "dash", "dance") and self.rng.random() < 0.5:
            frames = self.rng.randint(low, frames)
        start = self.rng.randint(0, available - frames)
        part = self.part_of(index, start, frames, self.rng.random() < self.mix.mirror, tempo)
        return None if (part.segment.action, part.segment.style) in self.held_out else part

    def _pick(self, actions: Sequence[str] | None = None, style: str | None = None) -> int | None:
        """A random clip, of the given actions and style where asked for."""
        names = [a for a in actions if self._by_action.get(a)] if actions else self._actions
        if style is not None:
            names = [a for a in names if self._by_style.get((a, style))]
        if not names:
            return None
        weights = [len(self._by_action[a]) ** 0.5 for a in names]
        action = self.rng.choices(names, weights)[0]
        return self.rng.choice(self._by_style[action, style] if style is not None else self._by_action[action])

    def _single(self) -> Recipe | None:
        part = self._window(self._pick(), MAX_FRAMES, MIN_FRAMES)
        return part and Recipe("single", (part,))

    def _partner(self, first: Part, actions: Sequence[str] | None) -> int | None:
        style = style_of(self.clips[first.clip].style)
        return self._pick(actions, style if self.rng.random() < self.mix.same_style else None)

    def _sequence(self) -> Recipe | None:
        first = self._window(self._pick(), MAX_PART_FRAMES, 30)
        second = first and self._window(self._partner(first, None), MAX_PART_FRAMES, 30)
        if first is None or second is None or first.segment.action == second.segment.action:
            return None
        return Recipe("then", (first, second))

    def _layered(self) -> Recipe | None:
        lower = self._window(self._pick(LOWER_ACTIONS), MAX_FRAMES, MIN_FRAMES)
        upper = lower and self._window(self._partner(lower, UPPER_ACTIONS), MAX_FRAMES, MIN_FRAMES)
        return Recipe("while", (lower, upper)) if lower and upper else None


Poses = tuple[np.ndarray, np.ndarray]  # local rotations (F, 22, 3, 3), pelvis (F, 3) in metres


def realize(recipe: Recipe, clips: Sequence[Clip]) -> Poses:
    """Poses of a recipe, at most 197 frames (196 feature rows). Pure: the same recipe gives the same numbers."""
    parts = [_realize_part(part, clips[part.clip]) for part in recipe.parts]
    if recipe.relation == "then":
        pose, trans = join(parts[0], parts[1])
    elif recipe.relation == "while":
        pose, trans = layer(parts[0], parts[1], recipe.parts[1].segment.action)
    else:
        pose, trans = parts[0]
    return pose[: MAX_FRAMES + 1], trans[: MAX_FRAMES + 1]


def _realize_part(part: Part, clip: Clip) -> Poses:
    window = slice(part.start, part.start + part.frames)
    pose, trans = rotvec_to_matrix(clip.rotvecs[window]), clip.trans[window].astype(np.float64)
    if part.mirror:
        pose, trans = mirror_rotations(pose), trans * np.array([-1.0, 1.0, 1.0])
    return resample(pose, trans, TEMPO_RATES[part.tempo]) if part.tempo != "normal" else (pose, trans)


def resample(pose: np.ndarray, trans: np.ndarray, rate: float) -> Poses:
    """Every `rate`-th frame, between frames by quaternion nlerp: F frames -> floor((F - 1) / rate) + 1."""
    at = np.arange(0.0, len(pose) - 1 + 1e-9, rate)
    low = np.minimum(at.astype(int), len(pose) - 2)
    w = (at - low)[:, None]
    return interpolate(pose[low], pose[low + 1], w[..., None]), (1 - w) * trans[low] + w * trans[low + 1]


def interpolate(A: np.ndarray, B: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) between A (w = 0) and B (w = 1) by normalised quaternion interpolation; w (..., 1)."""
    a, b = matrix_to_quaternion(A), matrix_to_quaternion(B)
    b = np.where((a * b).sum(-1, keepdims=True) < 0, -b, b)
    return quaternion_to_matrix(normalize((1 - w) * a + w * b))


def _yaw(R: np.ndarray) -> float:
    """Heading of a pelvis rotation, radians about +Y from +Z."""
    return float(np.arctan2(R[0, 2], R[2, 2]))


def join(first: Poses, second: Poses) -> Poses:
    """A sequence: cut the first where its legs are nearest to the second's start, turn the second to match, cross-fade.

    The cross-fade blends rotations and the pelvis' height; across the floor it blends velocities, so nothing jumps.
    Both need more than BLEND_FRAMES frames, else ValueError.
    """
    if min(len(first[0]), len(second[0])) <= BLEND_FRAMES:
        raise ValueError(
            f"parts of {len(first[0])} and {len(second[0])} frames: each needs over {BLEND_FRAMES} frames."
        )
    (pose_a, trans_a), (pose_b, trans_b) = first, second
    n = BLEND_FRAMES
    cut = _nearest_cut(pose_a, pose_b[0], n)  # the fade covers a[cut : cut + n] and b[:n]
    turn = yaw_matrix(np.array(_yaw(pose_a[cut + n // 2, 0]) - _yaw(pose_b[n // 2, 0])))
    pose_b, trans_b = pose_b.copy(), trans_b @ turn.T
    pose_b[:, 0] = turn @ pose_b[:, 0]
    w = 0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 1) / (n + 1))
    fade = interpolate(pose_a[cut : cut + n], pose_b[:n], w[:, None, None])
    step_a, step_b = np.diff(trans_a[cut - 1 : cut + n], axis=0), np.diff(trans_b[: n + 1], axis=0)
    middle = trans_a[cut - 1] + np.cumsum((1 - w)[:, None] * step_a + w[:, None] * step_b, 0)
    middle[:, 1] = (1 - w) * trans_a[cut : cut + n, 1] + w * trans_b[:n, 1]
    rest = trans_b[n:] - trans_b[n - 1] * np.array([1.0, 0, 1]) + middle[-1] * np.array([1.0, 0, 1])
    return np.concatenate([pose_a[:cut], fade, pose_b[n:]]), np.concatenate([trans_a[:cut], middle, rest])


def _nearest_cut(pose: np.ndarray, start: np.ndarray, n: int) -> int:
    """Where to start a fade of n frames out of pose (F, 22, 3, 3): legs nearest to those of `start` (22, 3, 3)."""
    last = len(pose) - n
    cuts = np.arange(max(n, last - 2), last + 1) if last > n else np.array([last])
    distance = np.square(pose[cuts][:, _LEGS] - start[_LEGS]).sum((1, 2, 3))
    return int(cuts[distance.argmin()])


def layer(lower: Poses, upper: Poses, gesture: str) -> Poses:
    """A gesture's arm or arms on another motion's body; as long as the shorter of the two."""
    n = min(len(lower[0]), len(upper[0]))
    pose = lower[0][:n].copy()
    for side, joints in _ARM.items():
        if side in gesture or "both" in gesture:
            pose[:, joints] = upper[0][:n, joints]
    return pose, lower[1][:n]


def action_group(meaning: str) -> str:
    """What is done, without style, side, tempo or order: recipes of one group are near misses of each other."""
    relation, _, labels = meaning.partition(":")
    actions = [label.partition("/")[0] for label in labels.split("|")]
    bare = sorted("-".join(w for w in action.split("-") if w not in ("left", "right", "both")) for action in actions)
    return f"{relation}:{'|'.join(bare)}"
