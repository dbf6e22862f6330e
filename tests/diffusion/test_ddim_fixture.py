"""DDIM as EasyTune configures it (50 steps, eta 0, epsilon prediction) against stored trajectories.

Prevents a diffusers release, or a changed scheduler setting, from silently changing every sample.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from core.diffusion.rollout import SamplerConfig, make_scheduler

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ddim.npz"


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture
def scheduler(stored) -> DDIMScheduler:
    """What our sampler makes of the fixture's noise levels."""
    config = json.loads(str(stored["config_json"]))
    levels = {k: v for k, v in config["params"].items() if k != "clip_sample"}  # never clipped here
    return make_scheduler(SamplerConfig(config["num_inference_steps"]), levels)


def toy_noise(x, t):
    """The fixture's stand-in for a denoiser."""
    return 0.1 * x + np.sin(float(t) / 100.0)


def test_timesteps_and_alphas(stored, scheduler):
    assert np.array_equal(scheduler.timesteps.numpy(), stored["timesteps"])
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), stored["alphas_cumprod"], atol=1e-7)
    np.testing.assert_allclose(scheduler.final_alpha_cumprod.item(), stored["final_alpha_cumprod"], atol=1e-7)


@pytest.mark.parametrize(("suffix", "dtype", "tolerance"), [("", torch.float32, 5e-5), (".f64", torch.float64, 1e-6)])
def test_trajectory(stored, scheduler, suffix, dtype, tolerance):
    x_t = torch.from_numpy(stored["x_T"]).to(dtype)
    for step, t in enumerate(scheduler.timesteps):
        result = scheduler.step(toy_noise(x_t, t), t, x_t, eta=0.0)
        np.testing.assert_allclose(result.pred_original_sample, stored[f"x0{suffix}"][step], atol=tolerance)
        x_t = result.prev_sample
        np.testing.assert_allclose(x_t, stored[f"x{suffix}"][step + 1], atol=tolerance)


def test_closed_form_explains_the_trajectory(stored, scheduler):
    """DDIM eq. (12) at eta 0, on the stored alphas: prevents agreeing with the scheduler only by calling it."""
    alphas, stride = stored["alphas_cumprod"].astype(np.float64), 1000 // len(stored["timesteps"])
    x_t = stored["x_T"].astype(np.float64)
    for step, t in enumerate(stored["timesteps"]):
        alpha = alphas[t]
        alpha_prev = alphas[t - stride] if t >= stride else float(stored["final_alpha_cumprod"])
        eps = toy_noise(x_t, t)
        x0 = (x_t - np.sqrt(1.0 - alpha) * eps) / np.sqrt(alpha)
        x_t = np.sqrt(alpha_prev) * x0 + np.sqrt(1.0 - alpha_prev) * eps
        np.testing.assert_allclose(x0, stored["x0.f64"][step], atol=5e-6)
        np.testing.assert_allclose(x_t, stored["x.f64"][step + 1], atol=5e-6)


def test_add_noise(stored, scheduler):
    noisy = scheduler.add_noise(
        torch.from_numpy(stored["x_T"]),
        torch.from_numpy(stored["add_noise_eps"]),
        torch.from_numpy(stored["add_noise_t"]),
    )
    np.testing.assert_allclose(noisy, stored["add_noise_out"], atol=1e-5)
