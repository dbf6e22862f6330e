"""Single motions side by side: the same bits in any company, one progress, and a cancel that stops all."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from core.diffusion.rollout import SamplerConfig
from core.diffusion.takes import Wanted, sample_each
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.latent import LatentDiffusion
from core.models.vae import MotionVae, VaeConfig
from core.text.features import TextFeatures

SAMPLER = SamplerConfig(steps=3)


class LetterEncoder:
    """A real, tiny text encoder: a vector a letter."""

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        (prompt,) = prompts  # a company of prompts would be padded
        letters = torch.tensor([[ord(letter) / 100.0] * 12 for letter in "^" + prompt]).sin()[None]
        return TextFeatures(letters, torch.ones(letters.shape[:2], dtype=torch.bool), letters.mean(1))


def tiny(seed: int) -> LatentDiffusion:
    torch.manual_seed(seed)
    denoiser = Denoiser(DenoiserConfig(latent_dim=4, text_dim=12, width=64, layers=2, heads=2))
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    vae = MotionVae(VaeConfig(latent_dim=4, width=64, hidden=64, blocks=1, refine_width=8))
    return LatentDiffusion(vae, denoiser, LetterEncoder().encode([""])).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def wanted() -> list[Wanted]:
    models = tiny(0), tiny(1)
    return [Wanted(models[i % 2], f"walks {i}", 40 + 8 * i, seed=i) for i in range(5)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("cores", [1, 2])
def test_same_bits_alone_and_in_company(wanted: list[Wanted], cores: int, threads: None) -> None:
    """Prevents a stored take that only the same company, or the same number of cores, can make again."""
    torch.set_num_threads(cores)
    together = sample_each(wanted, LetterEncoder(), SAMPLER)
    assert [len(motion) for motion in together] == [one.frames for one in wanted]
    assert not np.array_equal(together[0], together[1][:40])
    for one, motion in zip(wanted, together, strict=True):
        assert np.array_equal(motion, sample_each([one], LetterEncoder(), SAMPLER)[0])


def test_threads_of_the_caller_and_of_others_stay_as_they_were(wanted: list[Wanted], threads: None) -> None:
    """Prevents everything else in the process from falling back to one core."""
    torch.set_num_threads(3)
    sample_each(wanted, LetterEncoder(), SAMPLER)
    seen: list[int] = [torch.get_num_threads()]
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [3, 3]


def test_progress_counts_all_steps_in_the_callers_thread(wanted: list[Wanted]) -> None:
    """Prevents a bar that jumps back, and a page whose progress belongs to no visitor."""
    seen: list[tuple[int, int, int]] = []
    sample_each(
        wanted[:2], LetterEncoder(), SAMPLER, lambda step, total, _: seen.append((step, total, threading.get_ident()))
    )
    assert seen == [(step, 6, threading.get_ident()) for step in range(1, 7)]


def test_cancel_stops_every_motion(wanted: list[Wanted]) -> None:
    """Prevents cores that go on working for a visitor who has left, and workers that stay lost."""
    model, told, decoded = tiny(3), [], []
    model.decode = lambda *_: decoded.append(True)  # type: ignore[assignment]

    def cancel(step: int, _total: int, _info: dict) -> None:
        told.append(step)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample_each([Wanted(model, "walks", 40, seed) for seed in (0, 1)], LetterEncoder(), SamplerConfig(50), cancel)
    assert told == [1] and not decoded
    assert len(sample_each(wanted[:1], LetterEncoder(), SAMPLER)) == 1


def test_failure_of_one_is_raised(wanted: list[Wanted]) -> None:
    """Prevents a hanging page, or half a pair, where a model breaks."""
    broken = tiny(2)
    broken.decode = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        sample_each([wanted[0], Wanted(broken, "walks", 40, 0)], LetterEncoder(), SAMPLER)


def test_length_out_of_range_is_refused(wanted: list[Wanted]) -> None:
    """Prevents noise of a length that the model never learnt."""
    with pytest.raises(ValueError, match="duration_s=14.0 is outside"):
        Wanted(wanted[0].model, "walks", 280, 0)
