"""What the noise-aware reward trains on: pairs of a text and a VAE latent, noised as the base's training noises it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.dataset import MotionSet
from core.diffusion.schedule import CLEAN, TRAIN_STEPS, add_noise, training_alphas
from core.models.latent_reward import LatentReward
from core.text.encoder import CaptionCache
from core.train.tasks import PairBatch, PairSet, RewardTask, same_meaning

CLEAN_SHARE = 0.1  # of the rows: the last sampling step ends there, monitors look there
LEVELS = (CLEAN, 100, 200, 400, 600, 800)  # timesteps at which validation tells how well texts are found


@dataclass(frozen=True)
class LatentPairSet(PairSet):
    """Motions as clean latents (L_i, D)."""

    latents: Sequence[Tensor]


class LatentRewardTask(RewardTask):
    """InfoNCE over a batch of latents, each at a timestep of its own."""

    def __init__(
        self,
        model: LatentReward,
        train: MotionSet,
        val: MotionSet,
        latents: tuple[Sequence[Tensor], Sequence[Tensor]],
        cache: CaptionCache,
        size: int,
        seed: int,
    ) -> None:
        """latents: clean ones (L_i, D) of every motion of train and val."""
        super().__init__(model, train, val, cache, size, seed)
        self.train, self.val = (
            LatentPairSet(pairs.motions, pairs.table, pairs.meanings, z)
            for pairs, z in zip((self.train, self.val), latents, strict=True)
        )
        self.level: int | None = None  # timestep of every row; None: each has one of its own
        self.alphas = torch.cat([torch.ones(1), training_alphas()])  # of timesteps CLEAN, 0, 1, ...

    def _collate(self, pairs: PairSet, indices: np.ndarray, rng: np.random.Generator) -> PairBatch:
        """As PairTask's, with latents (B, L, D) in place of features."""
        assert isinstance(pairs, LatentPairSet)
        z = nn.utils.rnn.pad_sequence([pairs.latents[i] for i in indices], batch_first=True)
        lengths = torch.from_numpy(pairs.motions.lengths[indices].astype(np.int64))
        text = pairs.table.draw(indices, rng).to(self.device)
        return PairBatch(z.to(self.device), lengths.to(self.device), text, same_meaning(pairs, indices, self.device))

    def embed(self, model: Any, batch: PairBatch) -> Tensor:
        """Embeddings (B, E) of the batch's latents, noised."""
        z, size = batch.features, len(batch.lengths)
        t = torch.randint(0, TRAIN_STEPS, (size,), device=z.device)
        t = t.masked_fill(torch.rand(size, device=z.device) < CLEAN_SHARE, CLEAN)
        if self.level is not None:
            t = torch.full_like(t, self.level)
        return model.embed_latent(add_noise(z, torch.randn_like(z), t - CLEAN, self.alphas), t, batch.lengths)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss and top-1 over random timesteps, and top-1 at each of LEVELS. Side effect: seeds PyTorch."""
        torch.manual_seed(0)
        figures = super().validate(model)
        for level in LEVELS:
            task = copy.copy(self)
            task.level = level
            figures[f"top1_t{level}"] = RewardTask.validate(task, model)["top1"]
        return figures
