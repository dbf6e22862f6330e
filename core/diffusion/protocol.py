"""What alignment and sampling ask of a model: latent or raw motion, any architecture, any text encoder.

Shapes: B batch, L latent tokens, D latent width, F frames. `text` is whatever the model, or the reward, understands
(core.text TextFeatures here): tensors, sequences or dataclasses of them with one row a sample.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class MotionDiffusion(Protocol):
    """A text-conditioned diffusion model of motion; everything differentiable with respect to its inputs."""

    @property
    def denoiser(self) -> nn.Module:
        """What alignment trains; the decoder stays frozen."""
        ...

    def predict_x0(self, x_t: Tensor, t: int, text: Any, guidance_scale: float, lengths: Tensor) -> Tensor:
        """Clean estimate x0_hat (B, L, D) of x_t (B, L, D) at training timestep t, guidance included.

        lengths: (B,) frames, for models whose latents run along time.
        """
        ...

    def decode(self, x0: Tensor, lengths: Tensor) -> Tensor:
        """Features (B, F, 263) in physical units of a clean latent; lengths: (B,) frames, F their maximum."""
        ...

    def latent_shape(self, lengths: Tensor) -> tuple[int, int]:
        """(L, D) of the noise for a batch of motions of these lengths (B,)."""
        ...


class Reward(Protocol):
    """A frozen, deterministic, differentiable score of features in physical units."""

    def __call__(self, features: Tensor, lengths: Tensor, text: Any) -> Tensor:
        """Reward (B,), higher is better."""
        ...


@runtime_checkable
class NoisedReward(Protocol):
    """A reward trained on noised latents, for stochastic samplers."""

    def noised(self, x_t: Tensor, t: int, lengths: Tensor, text: Any) -> Tensor:
        """Reward (B,) of a latent x_t (B, L, D) still at noise level t; t = -1 is the clean end."""
        ...


class Schedule(Protocol):
    """Sampling steps in order 0 .. len-1, from noise to motion. Written for tensors that may carry gradient."""

    @property
    def timesteps(self) -> tuple[int, ...]:
        """Training timestep of every step, descending."""
        ...

    @property
    def eta(self) -> float:
        """Noise that a step adds: 0 = none (ODE), 1 = as much as DDPM."""
        ...

    def alpha_bar(self, step: int) -> float:
        """Share of signal variance before step `step`; alpha_t = sqrt(alpha_bar)."""
        ...

    def timestep_after(self, step: int) -> int:
        """Training timestep of x_{t-1}; -1 after the last step."""
        ...

    def previous(self, x_t: Tensor, x0_hat: Tensor, step: int, noise: Tensor | None = None, stride: int = 1) -> Tensor:
        """x_t before step `step + stride`: that many steps in one."""
        ...

    def add_noise(self, x0: Tensor, noise: Tensor, step: int) -> Tensor:
        """x_t at the level before step `step`."""
        ...
