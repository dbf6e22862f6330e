"""Motions with captions in memory, end to end in one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MotionSet:
    """N motions end to end. features: (sum F, 263) float16 or float32; starts: (N + 1,); captions: N tuples."""

    features: np.ndarray
    starts: np.ndarray
    captions: tuple[tuple[str, ...], ...]
    canonical: tuple[str, ...]
    meanings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Frames (N,) of each motion."""
        return np.diff(self.starts)

    def motion(self, i: int) -> np.ndarray:
        """Features (F, 263) float32 of motion i."""
        return self.features[self.starts[i] : self.starts[i + 1]].astype(np.float32)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Zero-padded features (B, max F, 263) float32 and lengths (B,) int64."""
        lengths = self.lengths[np.asarray(indices)]
        out = np.zeros((len(lengths), int(lengths.max()), self.features.shape[1]), dtype=np.float32)
        for row, (i, n) in enumerate(zip(indices, lengths, strict=True)):
            out[row, :n] = self.features[self.starts[i] : self.starts[i] + n]
        return out, lengths.astype(np.int64)

    def pick(self, indices: Sequence[int] | np.ndarray) -> MotionSet:
        """The motions `indices`, in that order; one may come twice."""
        rows = [int(i) for i in indices]
        parts = [self.features[self.starts[i] : self.starts[i + 1]] for i in rows]
        return MotionSet(
            np.concatenate([self.features[:0], *parts]),
            np.cumsum([0, *map(len, parts)]),
            tuple(self.captions[i] for i in rows),
            tuple(self.canonical[i] for i in rows),
            tuple(self.meanings[i] for i in rows),
        )


def join(sets: Sequence[MotionSet]) -> MotionSet:
    """One set of several, one after the other; each keeps as many captions a motion as it has."""
    return MotionSet(
        np.concatenate([made.features for made in sets]),
        np.cumsum([0, *(n for made in sets for n in made.lengths)]),
        tuple(row for made in sets for row in made.captions),
        tuple(text for made in sets for text in made.canonical),
        tuple(meaning for made in sets for meaning in made.meanings),
    )
