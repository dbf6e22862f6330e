"""DDIM against diffusers' own run (fixture) and its error sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.diffusion.ddim import DdimSchedule, from_diffusers, from_table

DATA = np.load(Path(__file__).parents[1] / "fixtures" / "ddim.npz")


def test_fifty_steps_equal_diffusers() -> None:
    """Fails on a wrong final alpha, order of timesteps or noise term."""
    schedule = from_table(DATA["alphas_cumprod"], DATA["timesteps"], float(DATA["final_alpha_cumprod"]))
    x = torch.from_numpy(DATA["x"][0]).double()
    for i, t in enumerate(schedule.timesteps):
        eps = 0.1 * x + np.sin(t / 100)
        a = schedule.alpha_bar(i)
        x0_hat = (x - (1 - a) ** 0.5 * eps) / a**0.5
        x = schedule.previous(x, x0_hat, i)
        np.testing.assert_allclose(x0_hat.numpy(), DATA["x0"][i], atol=2.5e-5)
        np.testing.assert_allclose(x.numpy(), DATA["x"][i + 1], atol=2.5e-5)


def test_reads_a_diffusers_scheduler() -> None:
    """The table, order and end of a scheduler object, and noising that its step undoes."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False)
    scheduler.set_timesteps(20)
    schedule = from_diffusers(scheduler)
    x_t, x0 = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    theirs = scheduler.step(x0, scheduler.timesteps[5], x_t).prev_sample
    torch.testing.assert_close(schedule.previous(x_t, x0, 5), theirs, rtol=1e-4, atol=1e-4)
    noise = torch.randn_like(x0)
    torch.testing.assert_close(
        schedule.previous(schedule.add_noise(x0, noise, 5), x0, 5), schedule.add_noise(x0, noise, 6)
    )
    assert schedule.timestep_after(5) == schedule.timesteps[6] and schedule.timestep_after(19) == -1


def test_stochastic_steps_keep_the_variance() -> None:
    """eta = 1 on pure noise with x0 = 0 must give noise of the next level; without noise it must complain."""
    schedule = DdimSchedule((900, 500), (0.1, 0.4, 1.0), eta=1.0)
    g = torch.Generator().manual_seed(0)
    x_t = torch.randn(200_000, generator=g) * (1 - 0.1) ** 0.5
    x = schedule.previous(x_t, torch.zeros_like(x_t), 0, torch.randn(200_000, generator=g))
    assert float(x.var()) == pytest.approx(1 - 0.4, abs=0.01)
    with pytest.raises(ValueError, match="needs noise"):
        schedule.previous(x_t, x_t, 0)
    with pytest.raises(ValueError, match="one more"):
        DdimSchedule((900, 500), (0.1, 0.4))
    with pytest.raises(ValueError, match="within"):
        DdimSchedule((900,), (0.0, 1.0))
