"""What the noise-aware reward trains on: pairs of a text and a VAE latent, noised as the base's training noises it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.dataset import MotionSet
from core.diffusion.schedule import TRAIN_STEPS, training_alphas
from core.models.latent_reward import CLEAN, LatentReward
from core.text.encoder import CaptionCache
from core.train.tasks import PairBatch, PairSet, RewardTask, same_meaning

LEVELS = (CLEAN, 200, 400, 600, 800)  # timesteps at which validation tells how well texts are found


class LatentRewardTask(RewardTask):
    """InfoNCE over a batch of latents, each at a timestep of its own from CLEAN on."""

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
        self._latents = {id(self.train): latents[0], id(self.val): latents[1]}
        self._signal = torch.cat([training_alphas(), torch.ones(1)])  # alpha_bar by timestep, CLEAN = -1 at the end
        self.level: int | None = None  # None: a random one a row

    def _collate(self, pairs: PairSet, indices: np.ndarray, rng: np.random.Generator) -> PairBatch:
        """As PairTask's, with latents (B, L, D) in place of features."""
        latents = self._latents[id(pairs)]
        z = nn.utils.rnn.pad_sequence([latents[i] for i in indices], batch_first=True)
        lengths = torch.from_numpy(pairs.motions.lengths[indices].astype(np.int64))
        device = self.model.feature_mean.device
        text = pairs.table.draw(indices, rng).to(device)
        return PairBatch(z.to(device), lengths.to(device), text, same_meaning(pairs, indices, device))

    def embed(self, model: Any, batch: PairBatch) -> Tensor:
        """Embeddings (B, E) of the batch's latents, noised."""
        z, size = batch.features, len(batch.lengths)
        t = torch.randint(CLEAN, TRAIN_STEPS, (size,), device=z.device)
        if self.level is not None:
            t = torch.full_like(t, self.level)
        signal = self._signal.to(z.device)[t][:, None, None]
        x_t = signal.sqrt() * z + (1 - signal).sqrt() * torch.randn_like(z)
        return model.embed_latent(x_t, t, batch.lengths)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss and top-1 over random timesteps, and top-1 at each of LEVELS. Side effect: seeds PyTorch."""
        torch.manual_seed(0)
        figures = super().validate(model)
        for self.level in LEVELS:
            figures[f"top1_t{self.level}"] = super().validate(model)["top1"]
        self.level = None
        return figures
