"""Tiny motion sets with captions and their token features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.data.dataset import MotionSet
from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take, new_pair_id, now
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


def cast_vote(store: PreferenceStore, verdict: str, seed: int, prompt: str = "a person spins") -> tuple[str, str]:
    """A pair of stored noises and one vote on it; the names of the motions, left and right."""
    names = [
        store.save_motion(0.3 * np.random.default_rng(seed + side).normal(size=(40 + side, 263)).astype(np.float32))
        for side in (0, 1)
    ]
    fields = dict(prompt=prompt, seed=seed, frames=40, steps=2, guidance_scale=2.5, solver="ddim", device="cpu")
    fields |= dict(weights_sha256="0", text_encoder="minilm", code_version="0", torch_version="0")
    takes = [Take(model_version="base", motion_sha256=name, **fields) for name in names]  # type: ignore[arg-type]
    pair = Pair(new_pair_id(), takes[0], takes[1], now())
    store.add_pair(pair)
    store.record_vote(pair.id, verdict, "ada", "0")
    return names[0], names[1]


@pytest.fixture(scope="session")
def train_set() -> MotionSet:
    return make_set(24, 0)


@pytest.fixture(scope="session")
def val_set() -> MotionSet:
    return make_set(10, 1)


@pytest.fixture(scope="session")
def cache(train_set: MotionSet, val_set: MotionSet) -> CaptionCache:
    return make_cache(train_set, val_set)


def make_cache(*sets: MotionSet) -> CaptionCache:
    """Token features (S, 12) of every caption: one fixed random vector a word."""
    captions = list(dict.fromkeys(c for s in sets for row in s.captions for c in row))
    rows = []
    for caption in captions:
        seeds = [sum(map(ord, word)) for word in caption.split()]
        rows.append(torch.stack([torch.randn(12, generator=torch.Generator().manual_seed(s)) for s in seeds]))
    offsets = torch.tensor([0, *np.cumsum([len(r) for r in rows]).tolist()])
    return CaptionCache(captions, torch.cat(rows).half(), offsets, torch.stack([r.mean(0) for r in rows]))
