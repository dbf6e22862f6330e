"""A tiny diffusion model and reward that are real: every gradient in them can be written out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import AlignBatch, Finetuner, row_generators, row_noise
from core.align.guards import Objective
from core.align.policy import Ema, Policy
from core.diffusion.ddim import DdimSchedule

L, D, F, TEXT = 3, 4, 8, 5
NO_GUARDS = GuardConfig(anchor_weight=0.0, ema=0.0, physical_weight=0.0, monitor_every=0)


class TinyDenoiser(nn.Module):
    """x0_hat from (x_t, t, text) by two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(L * D + 1 + TEXT, 16)
        self.outer = nn.Linear(16, L * D)

    def forward(self, x_t: Tensor, t: int, text: Tensor) -> Tensor:
        time = x_t.new_full((len(x_t), 1), t / 1000)
        hidden = torch.tanh(self.inner(torch.cat([x_t.flatten(1), time, text], 1)))
        return self.outer(hidden).view_as(x_t) + 0.5 * x_t


class TinyDiffusion:
    """Protocol MotionDiffusion with a fixed linear decoder; guidance as usual."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        self.denoiser = TinyDenoiser().to(dtype)
        g = torch.Generator().manual_seed(1)
        self.decoder = (torch.randn(L * D, 263, generator=g, dtype=torch.float64) * 0.1).to(dtype)

    def predict_x0(self, x_t: Tensor, t: int, text: Tensor, guidance_scale: float, lengths: Tensor) -> Tensor:
        free = self.denoiser(x_t, t, torch.zeros_like(text))
        return free + guidance_scale * (self.denoiser(x_t, t, text) - free)

    def decode(self, x0: Tensor, lengths: Tensor) -> Tensor:
        wave = torch.cos(torch.arange(int(lengths.max()), dtype=x0.dtype))[:, None]
        mask = torch.arange(int(lengths.max()))[:, None] < lengths[:, None, None]
        return torch.tanh(x0.flatten(1) @ self.decoder)[:, None] * (1 + 0.3 * wave) * mask

    def latent_shape(self, lengths: Tensor) -> tuple[int, int]:
        return L, D


class TinyReward:
    """Cosine of a fixed projection of the mean frame with the text."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 2) -> None:
        g = torch.Generator().manual_seed(seed)
        self.projection = torch.randn(263, TEXT, generator=g, dtype=torch.float64).to(dtype)

    def __call__(self, features: Tensor, lengths: Tensor, text: Tensor) -> Tensor:
        mean = features.sum(1) / lengths[:, None]
        return nn.functional.cosine_similarity(mean @ self.projection, text, dim=-1)

    def noised(self, x_t: Tensor, t: int, lengths: Tensor, text: Tensor) -> Tensor:
        return (x_t.flatten(1)[:, :TEXT] * text).sum(-1) / (2 + t / 1000)


def tiny_schedule(steps: int) -> DdimSchedule:
    bars = torch.linspace(0.1, 0.95, steps, dtype=torch.float64).tolist()
    return DdimSchedule(tuple(range(steps * 20, 0, -20)), (*bars, 1.0))


def tiny_batch(size: int = 4, seed: int = 3, dtype: torch.dtype = torch.float64) -> AlignBatch:
    g = torch.Generator().manual_seed(seed)
    text = torch.randn(size, TEXT, generator=g, dtype=torch.float64).to(dtype)
    return AlignBatch(text, torch.tensor([F, F - 1, F - 2, F] * size)[:size])


@dataclass
class Bench:
    """One finetuner on tiny models whose optimiser only records gradients unless lr is given."""

    steps: int
    lr: float = 0.0
    config: AlignConfig | None = None
    lora_rank: int = 0

    def __post_init__(self) -> None:
        self.model, self.reward = TinyDiffusion(), TinyReward()
        self.schedule, self.batch = tiny_schedule(self.steps), tiny_batch()
        base = self.config or AlignConfig(guards=NO_GUARDS, noise_power=0.0, clip=1e12)
        self.config = replace(base, steps=self.steps, last_k=None, batch=4)
        self.policy = Policy(self.model.denoiser, self.lora_rank)
        self.gradients: list[list[Tensor]] = []
        optimizer = torch.optim.SGD(self.policy.parameters, lr=self.lr)
        optimizer.register_step_pre_hook(
            lambda *_: self.gradients.append([p.grad.clone() for p in self.policy.parameters])
        )
        guards = self.config.guards
        ema = Ema(self.policy.named, guards.ema) if guards.ema else None
        self.finetuner = Finetuner(
            self.model, Objective(self.reward, guards), self.schedule, self.policy, optimizer, self.config, ema
        )
        self.x_T = row_noise(row_generators(0, 0, range(4)), (L, D)).double()

    def run(self, plan) -> list[list[Tensor]]:
        """Gradients of every update of one trajectory."""
        self.records = self.finetuner.run(plan, self.x_T, self.batch, row_generators(0, 0, range(4)))
        return self.gradients

    def x0_hat(self, x_t: Tensor, i: int) -> Tensor:
        t, guidance = self.schedule.timesteps[i], self.config.guidance_scale
        return self.model.predict_x0(x_t, t, self.batch.text, guidance, self.batch.lengths)

    def mean_reward(self, x0: Tensor) -> Tensor:
        return self.reward(self.model.decode(x0, self.batch.lengths), self.batch.lengths, self.batch.text).mean()

    def gradient_of(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, self.policy.parameters))


@pytest.fixture
def bench():
    return Bench


@pytest.fixture
def tiny():
    """The tiny model, reward, schedule and batch makers by name."""

    class Tiny:
        Diffusion, Reward = TinyDiffusion, TinyReward
        schedule, batch, no_guards = staticmethod(tiny_schedule), staticmethod(tiny_batch), NO_GUARDS

    return Tiny


@pytest.fixture
def close():
    """Asserts that two lists of tensors agree to float64 rounding and are not all zero."""

    def check(ours: list[Tensor], expected: list[Tensor], rtol: float = 1e-10) -> None:
        assert any(e.abs().max() > 1e-6 for e in expected)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=rtol, atol=1e-13)

    return check
