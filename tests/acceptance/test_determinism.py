"""The shipped models give the same motion for the same request: at once, in company, and from the stored row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.diffusion.rollout import SamplerConfig, sample_motions
from core.diffusion.takes import Wanted, sample_each
from core.engine import Engine
from core.models.checkpoint import load_diffusion
from core.models.latent import LatentDiffusion
from core.request import Request
from core.settings import Settings
from core.text.encoder import load_text_encoder

pytestmark = pytest.mark.slow

PROMPTS = ["a tired person walks forward, then waves with the right hand", "a person bows", "a proud person runs"]
FRAMES, SEEDS = [120, 50, 77], [3, 4, 5]
SAMPLER = SamplerConfig(steps=10)
STORED = 1e-5  # largest difference between a stored motion and the same one made again


@pytest.fixture(scope="module", params=["base", "aligned"])
def model(request: pytest.FixtureRequest, shipped: Path) -> LatentDiffusion:
    return load_diffusion(shipped, "cpu", request.param)


def sample(model: LatentDiffusion, rows: list[int], batch_size: int = 1) -> list[np.ndarray]:
    prompts, frames, seeds = ([values[i] for i in rows] for values in (PROMPTS, FRAMES, SEEDS))
    return sample_motions(model, load_text_encoder(), prompts, frames, seeds, SAMPLER, batch_size=batch_size)


def test_same_request_twice_alone_and_in_company(model: LatentDiffusion) -> None:
    """Prevents motions that depend on what was computed before or beside them; equal bit for bit."""
    alone = sample(model, [0])[0]
    assert np.array_equal(alone, sample(model, [0])[0])
    assert np.array_equal(alone, sample(model, [1, 0, 2])[1])


def test_padding_of_a_batch_does_not_reach_its_motions(model: LatentDiffusion) -> None:
    """Prevents evaluation from measuring other motions than the page shows: only rounding may differ."""
    for alone, together in zip(sample(model, [0, 1, 2]), sample(model, [0, 1, 2], batch_size=3), strict=True):
        assert np.abs(alone - together).max() < 1e-3


def test_number_of_cores_and_company_change_nothing(shipped: Path) -> None:
    """Prevents a stored row that only the machine, or the pair, that made it can make again; equal bit for bit."""
    models = [load_diffusion(shipped, "cpu", version) for version in ("base", "aligned")]
    pair = [Wanted(model, PROMPTS[0], FRAMES[0], SEEDS[0]) for model in models]
    threads = torch.get_num_threads()
    try:
        for cores, wanted in ((1, pair), (2, pair[1:])):
            torch.set_num_threads(cores)
            made = sample_each(wanted, load_text_encoder(), SAMPLER)[-1]
            if cores == 1:
                first = made
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(first, made)
    assert np.abs(first - sample(models[1], [0])[0]).max() <= STORED


def test_motions_come_back_from_the_stored_row(shipped: Path, tmp_path: Path) -> None:
    """Prevents a database that can't make its motions again; asked of an engine that has just been started."""
    pair = started(shipped, tmp_path).generate(Request(PROMPTS[0]))
    later = started(shipped, tmp_path)
    stored = later.store.pair(pair.id)
    for take in (stored.left, stored.right):
        assert np.abs(later.regenerate(take) - later.store.load_motion(take)).max() <= STORED


def started(checkpoints: Path, data_dir: Path) -> Engine:
    engine = Engine(Settings(device="cpu", data_dir=data_dir, checkpoints=checkpoints))
    engine.start_loading()
    assert engine.wait_until_ready(600.0).ready, engine.status()
    return engine
