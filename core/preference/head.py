"""A reward that has learnt somebody's taste: a text-motion reward and a Bradley-Terry head on top of it.

Utility (in logits) of motion m for text c is linear in what is known of them:

    u(m, c) = w_0 cos(m, c) / s_0  +  sum_k w_k (d_k(m) - mu_k) / s_k  +  sum_e w_e (z_e(m) - mu_e) / s_e

cos is the base reward, d are the descriptors (core.preference.descriptors), z the base reward's motion embedding, mu
and s constants measured on takes. P(a better than b) = sigmoid(u(a) - u(b)). The reward is u in units of the base
reward, so that without votes (w_0 = prior, all else 0) it *is* the base reward. Everything is differentiable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.models.reward import RewardConfig


@dataclass(frozen=True)
class PreferenceConfig:
    """Architecture and provenance of a preference reward."""

    base: RewardConfig = field(default_factory=RewardConfig)
    text_weight: float = 1.0  # prior mean of w_0: logits per standard deviation of the base reward within a prompt
    annotator: str = ""  # whose votes were learnt; empty = everyone's


class PreferenceReward(nn.Module):
    """`Reward` of core.diffusion.protocol with a learnt head; see the module docstring. D = 1 + K + E inputs."""

    report: dict[str, Any]  # how the last `refine` went, see core.preference.refine

    def __init__(self, config: PreferenceConfig) -> None: ...

    def forward(self, features: Tensor, lengths: Tensor, text: Any) -> Tensor:
        """Reward (B,) of features (B, F, 263) in physical units, frames (B,), TextFeatures; units of the base reward."""
        raise NotImplementedError

    def uncertainty(self, features: Tensor, lengths: Tensor, text: Any) -> Tensor:
        """Posterior standard deviation (B,) of the reward against the mean take, in units of the base reward."""
        raise NotImplementedError

    def probability(self, a: Tensor, b: Tensor) -> Tensor:
        """P(a better than b), (N,), of inputs (N, D) as `inputs` gives them, averaged over the posterior."""
        raise NotImplementedError

    def explain(self, k: int = 4) -> list[str]:
        """Up to k tastes in words, the surest first, such as "calmer arms" or "higher left hand"."""
        raise NotImplementedError

    def save(self, folder: Path, meta: dict[str, Any]) -> None:
        """Write the folder as core.models.checkpoint does: model.safetensors, config.json with report and meta."""
        raise NotImplementedError

    @staticmethod
    def load(folder: Path, device: str | torch.device = "cpu") -> PreferenceReward:
        """The frozen reward of a folder; raises as core.models.checkpoint.load_module does."""
        raise NotImplementedError
