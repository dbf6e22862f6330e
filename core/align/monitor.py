"""Held-out prompts, sampled now and then: figures that need no judge, and the rules that stop a run by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.align.config import MAX_UPDATES, GuardConfig
from core.align.finetune import AlignBatch, initial_noise, row_generators, sample
from core.align.guards import EnsembleReward, acceleration, soft_skating
from core.diffusion.protocol import MotionDiffusion, Reward, Schedule
from core.motion.features import recover_joints_torch

_HELD_OUT_UPDATE = MAX_UPDATES  # a random stream that no update reaches


@dataclass(frozen=True)
class HeldOut:
    """Fixed prompts and noise that no update trains on."""

    model: MotionDiffusion
    reward: Reward
    schedule: Schedule
    batch: AlignBatch
    guidance_scale: float
    seed: int

    @torch.no_grad()
    def sample(self) -> Tensor:
        """Clean latents (B, L, D) of the policy as it is now."""
        batch = self.batch
        generators = row_generators(self.seed, _HELD_OUT_UPDATE, range(len(batch)))
        x_T = initial_noise(self.model, generators, batch.lengths)
        noisy = generators if self.schedule.eta > 0 else None
        return sample(self.model, self.schedule, x_T, batch, self.guidance_scale, noisy)

    @torch.no_grad()
    def measure(self, x0: Tensor, x0_base: Tensor) -> dict[str, float]:
        """Figures of samples x0 beside the base's x0_base, both (B, L, D), from the same noise."""
        text, lengths = self.batch.rewarded_text, self.batch.lengths
        features = self.model.decode(x0, lengths)
        if isinstance(self.reward, EnsembleReward):
            rewards = self.reward.members(features, lengths, text)
        else:
            rewards = {"reward_0": self.reward(features, lengths, text)}
        return monitors(x0, x0_base, features, lengths, rewards)


@torch.no_grad()
def monitors(
    x0: Tensor, x0_base: Tensor, features: Tensor, lengths: Tensor, rewards: Mapping[str, Tensor]
) -> dict[str, float]:
    """Judge-free figures of held-out samples: policy x0 and base x0_base (B, L, D) from the same noise.

    rewards: (B,) each, of `features`. diversity: mean distance between samples; distance: mean squared move
    in units of the base's variance.
    """
    joints = recover_joints_torch(features)
    return {
        "diversity": float(F.pdist(x0.flatten(1).cpu()).mean()),  # MPS has no pdist
        "skating": float(soft_skating(joints, lengths).mean()),
        "acceleration": float(acceleration(joints, lengths).mean()),
        "distance": float((x0 - x0_base).square().mean() / x0_base.var()),
        **{name: float(value.mean()) for name, value in rewards.items()},
    }


@dataclass
class StopRules:
    """Compares monitors with those of the base; `parted` counts checks of a run on end with parting rewards."""

    guards: GuardConfig
    baseline: Mapping[str, float]
    parted: int = 0

    def check(self, now: Mapping[str, float]) -> str | None:
        """The sentence that stops the run, or None: rewards may part at alarm_patience - 1 checks on end."""
        parting = self._parting(now)
        self.parted = self.parted + 1 if parting else 0
        return self._limit(now) or (parting if self.parted >= self.guards.alarm_patience else None)

    def refuse(self, now: Mapping[str, float]) -> str | None:
        """The sentence against shipping a policy, or None: as `check`, without patience and without counting."""
        return self._limit(now) or self._parting(now)

    def _limit(self, now: Mapping[str, float]) -> str | None:
        base, g = self.baseline, self.guards
        limits = {
            "diversity": (-1, g.max_diversity_loss),
            "skating": (1, g.max_skating_gain),
            "acceleration": (1, g.max_acceleration_gain),
        }
        for name, (sign, share) in limits.items():
            if not sign * (now[name] / base[name] - 1) <= share:  # also caught: NaN
                return (
                    f"{name} left its limit: {now[name]:.4g} against {base[name]:.4g} of the base (limit {share:.0%})."
                )
        if not now["distance"] <= g.max_distance:
            return f"distance to base {now['distance']:.3g} exceeds {g.max_distance:.3g} of its variance."
        gain, enough = max(self._gains(now, "reward_")), g.max_reward_gain
        if enough is not None and gain > enough:
            return f"the reward has risen by {gain:.3g}, which is enough (limit {enough:.3g})."
        return None

    def _gains(self, now: Mapping[str, float], member: str) -> list[float]:
        return [now[name] - value for name, value in self.baseline.items() if name.startswith(member)]

    def _parting(self, now: Mapping[str, float]) -> str | None:
        trained = self._gains(now, "reward_")
        gains = trained + self._gains(now, "watched_")
        if max(trained) > 0 and min(gains) < -self.guards.alarm_tolerance:
            return f"reward models part: gains range from {min(gains):+.4f} to {max(gains):+.4f}."
        return None


class Watch:
    """Held-out prompts with their stop rules. Made while the denoiser is the base: that is the baseline.

    reduce: averages a tensor over processes; their figures are rounded apart on GPUs, and all must stop, or none.
    """

    def __init__(
        self, held_out: HeldOut, guards: GuardConfig, reduce: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.held_out, self._reduce = held_out, reduce
        self._x0_base = held_out.sample()
        self.rules = StopRules(guards, self._measure(self._x0_base))

    def look(self) -> dict[str, float]:
        """Figures of the policy as it is now."""
        return self._measure(self.held_out.sample())

    def _measure(self, x0: Tensor) -> dict[str, float]:
        figures = self.held_out.measure(x0, self._x0_base)
        if self._reduce is None:
            return figures
        shared = self._reduce(torch.tensor(list(figures.values()), dtype=torch.float64, device=x0.device))
        return dict(zip(figures, shared.tolist(), strict=True))
