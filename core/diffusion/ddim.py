"""DDIM steps as a pure function of (x_t, x0_hat), so that a gradient can pass or be cut where a plan says.

Symbols (Song et al. 2021): alpha_t^2 = alpha_bar_t, sigma_t^2 = 1 - alpha_bar_t, x_t = alpha_t x_0 + sigma_t eps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from torch import Tensor

from core.diffusion.schedule import CLEAN


@dataclass(frozen=True)
class DdimSchedule:
    """alpha_bars: S + 1 values, before each of the S steps and after the last. eta: 0 = ODE, 1 = DDPM noise."""

    timesteps: tuple[int, ...]
    alpha_bars: tuple[float, ...]
    eta: float = 0.0

    def __post_init__(self) -> None:
        if len(self.alpha_bars) != len(self.timesteps) + 1 or not self.timesteps:
            raise ValueError(
                f"{len(self.alpha_bars)} alpha_bars for {len(self.timesteps)} timesteps; pass one more than timesteps."
            )
        if not all(0.0 < a < 1.0 for a in self.alpha_bars[:-1]) or not 0.0 < self.alpha_bars[-1] <= 1.0:
            raise ValueError(f"alpha_bars={self.alpha_bars} must lie within (0, 1), the last one within (0, 1].")

    def __len__(self) -> int:
        return len(self.timesteps)

    def alpha_bar(self, step: int) -> float:
        """alpha_bar before step `step`; len(self) means after the last."""
        return self.alpha_bars[step]

    def timestep_after(self, step: int) -> int:
        """Training timestep of x_{t-1}; CLEAN after the last step."""
        return self.timesteps[step + 1] if step + 1 < len(self.timesteps) else CLEAN

    def previous(self, x_t: Tensor, x0_hat: Tensor, step: int, noise: Tensor | None = None, stride: int = 1) -> Tensor:
        """x_t (B, L, D) before step `step + stride`, DDIM eq. (12). noise: needed where eta > 0, ignored otherwise."""
        now, after = self.alpha_bars[step], self.alpha_bars[step + stride]
        eps = (x_t - sqrt(now) * x0_hat) / sqrt(1 - now)
        spread = self.eta * sqrt((1 - after) / (1 - now) * max(0.0, 1 - now / after))
        x_prev = sqrt(after) * x0_hat + sqrt(max(0.0, 1 - after - spread**2)) * eps
        if spread > 0:
            if noise is None:
                raise ValueError(f"eta={self.eta} needs noise at every step; pass noise or set eta=0.")
            x_prev = x_prev + spread * noise
        return x_prev

    def add_noise(self, x0: Tensor, noise: Tensor, step: int) -> Tensor:
        """x_t before step `step`, from clean x0 (B, L, D)."""
        return sqrt(self.alpha_bars[step]) * x0 + sqrt(1 - self.alpha_bars[step]) * noise


def from_table(
    alphas_cumprod: Sequence[float], timesteps: Sequence[int], final_alpha_bar: float = 1.0, eta: float = 0.0
) -> DdimSchedule:
    """Schedule over `timesteps` (descending) of a training table alphas_cumprod (1000,)."""
    bars = tuple(float(alphas_cumprod[int(t)]) for t in timesteps)
    return DdimSchedule(tuple(int(t) for t in timesteps), (*bars, float(final_alpha_bar)), eta)


def from_diffusers(scheduler: Any, eta: float = 0.0) -> DdimSchedule:
    """Schedule of a `diffusers.DDIMScheduler` after `set_timesteps`."""
    return from_table(
        scheduler.alphas_cumprod.double().tolist(),
        scheduler.timesteps.tolist(),
        float(scheduler.final_alpha_cumprod),
        eta,
    )
