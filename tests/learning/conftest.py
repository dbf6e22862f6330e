"""A data folder with votes, and tiny untrained models of the real classes beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.align.config import AlignConfig, GuardConfig
from core.learning.versions import VersionStore
from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take, new_pair_id, now

FRAMES = 40
QUICK = AlignConfig(  # seconds on tiny models
    steps=4, last_k=1, updates=2, batch=2, lora_rank=1, lora_alpha=1.0, guards=GuardConfig(monitor_every=1, ema=0.5)
)
PROMPTS = ("a person walks forward", "a person waves with the right hand", "a person bows")


@pytest.fixture
def versions(live_checkpoints: Path, tmp_path: Path) -> VersionStore:
    return VersionStore(live_checkpoints, tmp_path)


@pytest.fixture
def make_version(versions: VersionStore) -> Callable[..., str]:
    """Publishes copies of the shipped adapters, as a job would: (job, annotator) -> name."""
    from core.learning.versions import Start
    from core.models.checkpoint import save_adapters

    def make(job: str = "job", annotator: str = "") -> str:
        with versions.lock():
            work = versions.work_folder(job)
            start: Start = versions.start("aligned")
            live = {"parent": versions.parent_for(annotator), "job": job, "created": now().isoformat(), "votes": 12}
            live |= {"annotator": annotator, "learnt": ["calmer arms"], "pair_accuracy": 0.8}
            assert start.adapters is not None
            save_adapters(work, start.adapters, start.scale, {"live": live}, start.base, versions.checkpoints)
            return versions.publish(work).name

    return make


def vote(store: PreferenceStore, rng: np.random.Generator, annotator: str, prompt: str) -> None:
    """One pair of random walks and a vote for the one whose hands are higher."""
    features = [rng.normal(size=(FRAMES, 263)).astype(np.float32) * 0.05 for _ in range(2)]
    fields = dict(prompt=prompt, seed=1, frames=FRAMES, steps=2, guidance_scale=2.5, solver="ddim", device="cpu")
    fields |= dict(weights_sha256="0", text_encoder="minilm", code_version="0", torch_version="0")
    takes = [
        Take(model_version=name, motion_sha256=store.save_motion(motion), **fields)  # type: ignore[arg-type]
        for name, motion in zip(("base", "aligned"), features, strict=True)
    ]
    pair = Pair(new_pair_id(), takes[0], takes[1], now())
    store.add_pair(pair)
    higher = features[0][:, 100].mean() > features[1][:, 100].mean()
    store.record_vote(pair.id, "left" if higher else "right", annotator, "0")


@pytest.fixture
def voted(tmp_path: Path) -> PreferenceStore:
    """A store with eight votes of ada and four of ben."""
    store, rng = PreferenceStore(tmp_path), np.random.default_rng(0)
    for i in range(12):
        vote(store, rng, "ada" if i < 8 else "ben", PROMPTS[i % len(PROMPTS)])
    return store
