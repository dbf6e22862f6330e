"""What MDM trains on: whole motions as they are, noised, with the clean motion as the target (Tevet et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.dataset import MotionSet
from core.diffusion.schedule import add_noise
from core.models.mdm_diffusion import MdmDiffusion
from core.models.mld.layers import frame_mask
from core.text.encoder import TextFeatures
from core.train.tasks import DROP_TEXT, CaptionTable, batches_in_order, feature_statistics, to_tensors


@dataclass(frozen=True)
class MdmBatch:
    """B normalised motions (B, F, 263), their lengths (B,) and one text each."""

    clean: Tensor
    lengths: Tensor
    text: TextFeatures


def without_text(text: TextFeatures, dropped: Tensor) -> TextFeatures:
    """Rows `dropped` (B,) bool as the network sees no text: sentence vector zero, no word visible."""
    pooled, mask = text.pooled.masked_fill(dropped[:, None], 0.0), text.mask & ~dropped[:, None]
    return replace(text, pooled=pooled, mask=mask)


class MdmTask:
    """Denoising of features; batches hold motions of similar length. Side effect: sets the model's statistics."""

    def __init__(
        self,
        model: MdmDiffusion,
        train: tuple[MotionSet, CaptionTable],
        val: tuple[MotionSet, CaptionTable],
        size: int,
        seed: int,
    ) -> None:
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        self.model, self.train, self.val = model, train, val
        self.size, self.seed = size, seed
        self.order = np.argsort(train[0].lengths, kind="stable")
        self.alphas: Tensor = DDIMScheduler(**model.schedule, clip_sample=False).alphas_cumprod
        mean, std = feature_statistics(train[0])
        model.feature_mean.copy_(mean)
        model.feature_std.copy_(std)

    def batch(self, step: int, process: int, processes: int) -> MdmBatch:
        """Random motions with one caption each, a tenth of them without text; a pure function of the arguments."""
        rng = np.random.default_rng((self.seed, step, process))
        spread = min(len(self.order), 8 * self.size)  # similar lengths waste no padding, still a varied batch
        start = rng.integers(0, len(self.order) - spread + 1)
        indices = self.order[start + rng.choice(spread, min(self.size, spread), replace=False)]
        made = self._collate(self.train, indices, rng)
        dropped = torch.from_numpy(rng.random(len(indices)) < DROP_TEXT).to(self.model.device)
        return replace(made, text=without_text(made.text, dropped))

    def _collate(
        self, pairs: tuple[MotionSet, CaptionTable], indices: np.ndarray, rng: np.random.Generator
    ) -> MdmBatch:
        motions, table = pairs
        features, lengths = to_tensors(motions, indices, self.model.device)
        text = table.draw(indices, rng).to(self.model.device)
        return MdmBatch(self.model.encode(features, lengths), lengths, text)

    def loss(self, model: nn.Module, batch: MdmBatch) -> dict[str, Tensor]:
        """Mean squared error of the clean estimate at a random timestep a row, over real frames."""
        inner: Any = getattr(model, "module", model)
        t = torch.randint(0, len(self.alphas), (len(batch.clean),), device=batch.clean.device)
        noised = add_noise(batch.clean, torch.randn_like(batch.clean), t, self.alphas)
        x0_hat = inner.estimate(noised, t, batch.text, batch.lengths)
        mask = frame_mask(batch.lengths, batch.clean.shape[1], batch.clean.device)[..., None]
        error = ((x0_hat - batch.clean) ** 2 * mask).sum()
        return {"loss": error / batch.lengths.sum() / batch.clean.shape[-1]}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss on the validation set, always at the same timesteps and noise. Side effect: seeds PyTorch."""
        rng, total, n = np.random.default_rng(0), 0.0, len(self.val[0])
        torch.manual_seed(0)
        for indices in batches_in_order(n, 64):
            total += float(self.loss(model, self._collate(self.val, indices, rng))["loss"]) * len(indices)
        return {"loss": total / n}
