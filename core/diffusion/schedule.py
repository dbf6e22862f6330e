"""The noise schedule, in one place: cosine (Nichol & Dhariwal 2021), 1000 training steps, the model predicts x0."""

from __future__ import annotations

from torch import Tensor

TRAIN_STEPS = 1000
CLEAN = -1  # the timestep of what has no noise left
SCHEDULER = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
    "timestep_spacing": "trailing",
}


def training_alphas() -> Tensor:
    """alpha_bar (1000,) of the schedule, from diffusers."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(**SCHEDULER, clip_sample=False).alphas_cumprod


def add_noise(x0: Tensor, noise: Tensor, t: Tensor, alphas: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise; x0 (B, L, D), t (B,)."""
    a = alphas.to(x0.device)[t][:, None, None]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise
