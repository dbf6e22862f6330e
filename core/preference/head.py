"""A reward that has learnt somebody's taste: a text-motion reward and a Bradley-Terry head on top of it.

Utility (in logits) of motion m for text c is linear in D = 1 + K + E inputs:

    u(m, c) = w . x,   x = ([cos(m, c), d(m), z(m)] - mu) / s

cos is the base reward, d the K descriptors (core.preference.descriptors), z the base reward's motion embedding, mu and
s constants measured on takes. P(a better than b) = sigmoid(u(a) - u(b)). The reward is u in units of the base reward:
without votes (w_0 = prior, all else 0) it *is* the base reward. Everything is differentiable in the motion.

Votes may well show that somebody does not care for the text. The reward still does: a policy led by it has to keep
doing what it is told, so there w_0 is at least its prior mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.models.checkpoint import load_module, save_checkpoint
from core.models.reward import RewardConfig, RewardModel
from core.preference.bradley_terry import N_SAMPLES, Posterior
from core.preference.descriptors import DESCRIPTORS, N_DESCRIPTORS, describe

_TOLD_LOGITS = 0.15  # a weight is put into words from here on (per standard deviation of its descriptor)
_TOLD_SHARE = 0.25  # ... and from this share of the largest on
_IN_PROPORTION = tuple(descriptor.in_proportion for descriptor in DESCRIPTORS)


@dataclass(frozen=True)
class PreferenceConfig:
    """Architecture and provenance of a preference reward."""

    base: RewardConfig = field(default_factory=RewardConfig)
    text_weight: float = 1.0  # prior mean of w_0: logits per standard deviation of the base reward within a prompt
    annotator: str = ""  # whose votes were learnt; empty = everyone's
    report: dict[str, Any] = field(default_factory=dict)  # how refining went, see core.preference.refine


class PreferenceReward(nn.Module):
    """`Reward` of core.diffusion.protocol with a learnt head; see the module docstring."""

    center: Tensor  # (D,) mu
    scale: Tensor  # (D,) s: spread between takes of one prompt
    weight: Tensor  # (D,) posterior mean of w
    samples: Tensor  # (S * (1 + K),) of the posterior of w, flat, so that checkpoints keep them in float32

    def __init__(self, config: PreferenceConfig) -> None:
        super().__init__()
        self.config = config
        self.base = RewardModel(config.base)
        size = 1 + N_DESCRIPTORS + config.base.embedding
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("weight", torch.zeros(size))
        self.weight[0] = config.text_weight
        self.register_buffer("samples", self.weight[: 1 + N_DESCRIPTORS].repeat(N_SAMPLES))

    @property
    def report(self) -> dict[str, Any]:
        """How the last `refine` went."""
        return self.config.report

    def forward(self, features: Tensor, lengths: Tensor, text: Any) -> Tensor:
        """Reward (B,) of features (B, F, 263), frames (B,), TextFeatures; in units of the base reward."""
        return self.reward_of(self.inputs(motion_vectors(self.base, features, lengths), self.base.embed_text(text)))

    def reward_of(self, inputs: Tensor) -> Tensor:
        """Reward (B,) of inputs (B, D)."""
        missing = (self.config.text_weight - self.weight[0]).clamp_min(0.0)
        return (inputs @ self.weight + missing * inputs[:, 0]) * self._unit + self.center[0]

    @property
    def _unit(self) -> Tensor:
        """Base reward per logit, under the prior."""
        return self.scale[0] / self.config.text_weight

    def inputs(self, vectors: Tensor, words: Tensor) -> Tensor:
        """Standardised inputs x (B, D) of motion vectors (B, K + E) and text embeddings (B, E)."""
        cosine = (vectors[:, N_DESCRIPTORS:] * words).sum(-1, keepdim=True)
        return (torch.cat([cosine, vectors], -1) - self.center) / self.scale

    def probabilities(self, a: Tensor, b: Tensor) -> Tensor:
        """P(a better than b), (S, N), of inputs (N, D), by each sample of what the taste may be."""
        samples = self.samples.unflatten(0, (-1, 1 + N_DESCRIPTORS))
        return torch.sigmoid(samples @ (a - b)[:, : 1 + N_DESCRIPTORS].T)

    @torch.no_grad()
    def learn(self, posterior: Posterior) -> None:
        """Take over what `bradley_terry.fit` found."""
        self.weight.copy_(torch.from_numpy(posterior.mean))
        self.samples.copy_(torch.from_numpy(posterior.samples[:, : 1 + N_DESCRIPTORS]).flatten())

    def explain(self, k: int = 4) -> list[str]:
        """Up to k tastes in words, the strongest first, such as "calmer limbs" or "higher left hand"."""
        w = self.weight[1 : 1 + N_DESCRIPTORS]
        order = w.abs().argsort(descending=True).tolist()[:k]
        told = [i for i in order if w[i].abs() > max(_TOLD_LOGITS, _TOLD_SHARE * float(w.abs().max()))]
        return [DESCRIPTORS[i].more if w[i] > 0 else DESCRIPTORS[i].less for i in told]

    def save(self, folder: Path, meta: dict[str, Any]) -> None:
        """Write the folder as core.models.checkpoint does: model.safetensors, config.json with report and meta."""
        save_checkpoint(folder, self, meta)

    @staticmethod
    def load(folder: Path, device: str | torch.device = "cpu") -> PreferenceReward:
        """The frozen reward of a folder; raises as core.models.checkpoint.load_module does."""
        kinds = {"PreferenceReward": (PreferenceReward, PreferenceConfig)}
        module = load_module(folder, device, kinds)
        assert isinstance(module, PreferenceReward)  # the only kind
        return module


def motion_vectors(base: RewardModel, features: Tensor, lengths: Tensor) -> Tensor:
    """Descriptors and embedding (B, K + E) of features (B, F, 263), frames (B,); independent of text and head.

    Descriptors that count in proportion are logarithms.
    """
    d = describe(features.float(), lengths)
    proportional = torch.tensor(_IN_PROPORTION, device=d.device)
    d = torch.where(proportional, (d.clamp_min(0.0) + 1e-2).log(), d)
    return torch.cat([d, base.embed_motion(features, lengths)], -1)


def pad(motions: Sequence[Any], device: str | torch.device) -> tuple[Tensor, Tensor]:
    """Motions (F_i, 263) as numpy arrays -> features (B, F, 263), frames (B,)."""
    rows = [torch.from_numpy(motion).float() for motion in motions]
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), lengths
