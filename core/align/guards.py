"""What keeps a policy from pleasing the reward only: anchor, saturation, physical and realism terms, ensemble.

A reward model is trustworthy near the data it was trained on. Each guard is a small function of tensors; which are
on, and how strong, stands in core.align.config.GuardConfig; stop rules are in core.align.monitor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from core.align.config import GuardConfig
from core.diffusion.protocol import NoisedReward, Reward
from core.metrics.physical import FOOT_HEIGHTS_M, FOOT_JOINTS
from core.motion.features import recover_joints_torch
from core.motion.skeleton import FPS

_CONTACT_BLUR_M = 0.01  # width of the soft edge of "near the floor"
_STILL_SKATING, _STILL_ACCELERATION = 0.05, 0.5  # m/s, m/s^2: below these a body stands still, and doubling is nothing


def anchor(x0_hat: Tensor, x0_base: Tensor) -> Tensor:
    """Mean squared distance of two clean estimates (B, L, D) of the same x_t, scalar."""
    return (x0_hat - x0_base).square().mean()


@runtime_checkable
class EmbeddingReward(Protocol):
    """A reward that is the dot product of a motion and a text embedding."""

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor: ...

    def embed_text(self, text: Any) -> Tensor: ...


def embedding_reward(reward: object) -> EmbeddingReward:
    """The reward, if it has embeddings; ValueError if it hasn't."""
    if isinstance(reward, EmbeddingReward):
        return reward
    raise ValueError(f"{type(reward).__name__} has no embeddings. Set realism_weight to 0 for this reward.")


def noised_reward(reward: object) -> NoisedReward:
    """The reward, if it, or each of an ensemble that is trained on, scores noised motions; ValueError if not."""
    for member in reward.trained if isinstance(reward, EnsembleReward) else [reward]:
        if not isinstance(member, NoisedReward):
            raise ValueError(
                f"{type(member).__name__} does not score noised motions, which easytune-sde needs. Set --rewards to "
                "noise-aware ones, such as reward-noised (`python -m core train latent-reward`) or an imported SPM, or "
                "choose method easytune."
            )
    return cast(NoisedReward, reward)


def saturate(reward: Tensor, ceiling: float, sharpness: float) -> Tensor:
    """Reward that bends to `ceiling`: slope 1 far below, 1/2 at the ceiling, 0 far above (a soft minimum)."""
    return ceiling - F.softplus(sharpness * (ceiling - reward)) / sharpness


def _frame_mean(values: Tensor, lengths: Tensor) -> Tensor:
    """Mean (B,) of values (B, N) over the rows that lie wholly within each length, N = F - lost."""
    lost = int(lengths.max()) - values.shape[1]
    mask = torch.arange(values.shape[1], device=values.device) < (lengths[:, None] - lost)
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def _norm(x: Tensor) -> Tensor:
    return (x.square().sum(-1) + 1e-10).sqrt()  # the square root of an exact 0 has no gradient


def soft_skating(joints: Tensor, lengths: Tensor) -> Tensor:
    """Differentiable core.metrics.physical.foot_skating: (B,) m/s of joints (B, F, 22, 3)."""
    feet = joints[:, :, torch.as_tensor(FOOT_JOINTS, device=joints.device)]  # (B, F, 4, 3)
    height = joints.new_tensor(FOOT_HEIGHTS_M) - feet[..., 1]
    near = torch.sigmoid(height / _CONTACT_BLUR_M).detach()  # lifting the foot must not count as an improvement
    near = near[:, 1:] * near[:, :-1]  # (B, F - 1, 4)
    speed = _norm(feet[:, 1:, :, [0, 2]] - feet[:, :-1, :, [0, 2]]) * FPS
    return _frame_mean((speed * near).sum(-1), lengths) / _frame_mean(near.sum(-1), lengths).clamp(min=1e-3)


def acceleration(joints: Tensor, lengths: Tensor) -> Tensor:
    """Mean joint acceleration (B,) in m/s^2 of joints (B, F, 22, 3)."""
    return _frame_mean(_norm(joints.diff(n=2, dim=1)).mean(-1) * FPS**2, lengths)


@dataclass(frozen=True)
class PhysicalTerm:
    """Penalty for skating and acceleration beyond those of the base's own takes, row by row.

    Each prompt is measured against itself: a lively motion may stay lively, and standing still earns nothing.
    """

    skating: Tensor  # (B,) m/s
    acceleration: Tensor  # (B,) m/s^2

    @classmethod
    @torch.no_grad()
    def of(cls, features: Tensor, lengths: Tensor) -> PhysicalTerm:
        """The limits that takes of the base set: features (B, F, 263) in physical units, lengths (B,)."""
        joints = recover_joints_torch(features)
        skating = soft_skating(joints, lengths).clamp(min=_STILL_SKATING)
        return cls(skating, acceleration(joints, lengths).clamp(min=_STILL_ACCELERATION))

    def __call__(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Relative excess (B,) >= 0 of other takes (B, F, 263) of the same prompts; 1 = one of them doubled."""
        joints = recover_joints_torch(features)
        skating = soft_skating(joints, lengths) / self.skating
        return F.relu(skating - 1) + F.relu(acceleration(joints, lengths) / self.acceleration - 1)


def energy_score(motions: Tensor, real: Tensor) -> Tensor:
    """How far two motions of each prompt are from the distribution of its real motions, (B,), >= 0 on average.

    motions, real: (B, E) embeddings, rows 2i and 2i + 1 of one prompt, real the same in both. Per row
    |g - r| - |g - g'| / 2, whose mean is least where motions are distributed as real ones are (a strictly proper
    score, Gneiting & Raftery 2007): nearer to real motions, but not all in one place.
    """
    pairs = motions.unflatten(0, (-1, 2))  # (B / 2, 2, E)
    spread = _norm(pairs[:, 0] - pairs[:, 1])
    return _norm(motions - real) - 0.5 * spread.repeat_interleave(2)


@dataclass(frozen=True)
class EnsembleReward:
    """Mean of several rewards; `watched` ones are never trained on, only looked at by the alarm."""

    trained: Sequence[Reward]
    watched: Sequence[Reward] = ()

    def __call__(self, features: Tensor, lengths: Tensor, text: Any) -> Tensor:
        return torch.stack([reward(features, lengths, text) for reward in self.trained]).mean(0)

    def embed_motion(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeddings (B, M E) by all trained members; dot products are means over the members."""
        return self._joined([reward.embed_motion(features, lengths) for reward in self._embedding()])

    def embed_text(self, text: Any) -> Tensor:
        """Embeddings (B, M E) of texts, as embed_motion."""
        return self._joined([reward.embed_text(text) for reward in self._embedding()])

    def _embedding(self) -> list[EmbeddingReward]:
        return [embedding_reward(reward) for reward in self.trained]

    def _joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, -1) / len(parts) ** 0.5

    def noised(self, x_t: Tensor, t: int, lengths: Tensor, text: Any) -> Tensor:
        """Mean reward (B,) of latents x_t (B, L, D) at noise level t; ValueError where a trained member can't tell."""
        return torch.stack([noised_reward(r).noised(x_t, t, lengths, text) for r in self.trained]).mean(0)

    def members(self, features: Tensor, lengths: Tensor, text: Any) -> dict[str, Tensor]:
        """Rewards (B,) of each member: reward_0, reward_1 ... are trained on, watched_0 ... are not."""
        named = {"reward": self.trained, "watched": self.watched}
        return {f"{k}_{i}": r(features, lengths, text) for k, part in named.items() for i, r in enumerate(part)}


@dataclass(frozen=True)
class Objective:
    """What is maximised for a decoded motion: the (saturated) reward less the physical penalty."""

    reward: Reward
    guards: GuardConfig

    def __call__(
        self,
        features: Tensor,
        lengths: Tensor,
        text: Any,
        real: Tensor | None = None,
        physical: PhysicalTerm | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(value (B,) with gradient, plain reward (B,) for the log).

        real: as AlignBatch has it; prompts that come without real motions have no realism term.
        """
        if self.guards.realism_weight == 0 or real is None:
            reward = self.reward(features, lengths, text)
            value = self.shaped(reward)
        else:
            motions, reward = self._embedded(features, lengths, text)
            value = self.shaped(reward) - self.guards.realism_weight * energy_score(motions, real)
        if physical is not None:
            value = value - self.guards.physical_weight * physical(features, lengths)
        return value, reward.detach()

    def _embedded(self, features: Tensor, lengths: Tensor, text: Any) -> tuple[Tensor, Tensor]:
        """Embeddings (B, E) of the motions and their reward (B,)."""
        embeds = embedding_reward(self.reward)
        motions = embeds.embed_motion(features, lengths)
        return motions, (motions * embeds.embed_text(text)).sum(-1)

    def shaped(self, reward: Tensor) -> Tensor:
        """Reward with the configured ceiling."""
        if self.guards.saturation is None:
            return reward
        return saturate(reward, self.guards.saturation, self.guards.saturation_sharpness)
