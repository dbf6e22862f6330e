"""Tiny motion sets with captions and their token features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.data.dataset import MotionSet
from core.text.features import CaptionCache

ACTIONS, STYLES = ("walks", "waves", "bows", "runs"), ("tired", "happy")


def make_set(n: int, seed: int) -> MotionSet:
    """n smooth random motions of 40-80 frames; what they mean decides their mean pose, so that texts can be learnt."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(40, 81, n)
    parts, captions, meanings = [], [], []
    for i, frames in enumerate(lengths):
        action, style = i % len(ACTIONS), rng.integers(len(STYLES))
        pose = np.random.default_rng([action, style]).normal(size=263)
        wave = np.sin(np.arange(frames)[:, None] / 5 + rng.uniform(0, 6, 263))
        parts.append((0.1 * pose + 0.02 * wave).astype(np.float32))
        words = f"{STYLES[style]} person {ACTIONS[action]}"
        captions.append((f"a {words}", f"the {words} now"))
        meanings.append(f"single:{ACTIONS[action]}/{STYLES[style]}")
    return MotionSet(
        np.concatenate(parts),
        np.concatenate([[0], np.cumsum(lengths)]),
        tuple(captions),
        tuple(row[0] for row in captions),
        tuple(meanings),
    )


@pytest.fixture(scope="session")
def train_set() -> MotionSet:
    return make_set(24, 0)


@pytest.fixture(scope="session")
def val_set() -> MotionSet:
    return make_set(10, 1)


@pytest.fixture(scope="session")
def cache(train_set: MotionSet, val_set: MotionSet) -> CaptionCache:
    """Token features (S, 12) of every caption: one fixed random vector a word."""
    captions = list(dict.fromkeys(c for s in (train_set, val_set) for row in s.captions for c in row))
    rows = []
    for caption in captions:
        seeds = [sum(map(ord, word)) for word in caption.split()]
        rows.append(torch.stack([torch.randn(12, generator=torch.Generator().manual_seed(s)) for s in seeds]))
    offsets = torch.tensor([0, *np.cumsum([len(r) for r in rows]).tolist()])
    return CaptionCache(captions, torch.cat(rows).half(), offsets, torch.stack([r.mean(0) for r in rows]))
