"""What each model trains on: batches, losses and validation for the VAE, the denoiser, the reward and the judge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.dataset import MotionSet
from core.diffusion.schedule import add_noise, training_alphas
from core.models.denoiser import Denoiser
from core.models.judge import Judge
from core.models.reward import RewardModel, info_nce
from core.models.vae import MotionVae, VaeLossWeights, latent_lengths, vae_loss
from core.motion.features import recover_joints_torch
from core.motion.layout import CONTACTS, POSITIONS, ROTATIONS, VELOCITIES
from core.text.encoder import CaptionCache, TextFeatures

DROP_TEXT = 0.1  # share of training texts replaced by the null text, classifier-free guidance (Ho & Salimans 2022)


def batches_in_order(n: int, size: int) -> Iterator[np.ndarray]:
    """Indices 0..n-1 in chunks of `size`."""
    for start in range(0, n, size):
        yield np.arange(start, min(n, start + size))


def feature_statistics(motions: MotionSet, sample: int = 200_000) -> tuple[Tensor, Tensor]:
    """Mean (263,) and spread (263,): one spread per group of features, as HumanML3D normalises."""
    stride = max(1, len(motions.features) // sample)
    x = motions.features[::stride].astype(np.float64)
    mean, std = x.mean(0), x.std(0)
    blocks = [slice(0, 1), slice(1, 3), slice(3, 4), POSITIONS, ROTATIONS, VELOCITIES, CONTACTS]
    for block in blocks:
        std[block] = std[block].mean()
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def _rng(seed: int, step: int, process: int) -> np.random.Generator:
    return np.random.default_rng((seed, step, process))


def to_tensors(motions: MotionSet, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Padded features (B, F, 263) and lengths (B,) on a device."""
    features, lengths = motions.batch(indices)
    return torch.from_numpy(features).to(device), torch.from_numpy(lengths).to(device)


class VaeTask:
    """Windows of up to `window` frames."""

    def __init__(self, model: MotionVae, train: MotionSet, val: MotionSet, size: int, seed: int, weights: VaeLossWeights, window: int = 96) -> None:
        self.model, self.train, self.val, self.size, self.seed, self.weights, self.window = model, train, val, size, seed, weights, window
        mean, std = feature_statistics(train)
        model.feature_mean.copy_(mean)
        model.feature_std.copy_(std)

    def batch(self, step: int, process: int, processes: int) -> tuple[Tensor, Tensor]:
        rng = _rng(self.seed, step, process)
        picked = rng.integers(0, len(self.train), self.size)
        lengths = np.minimum(self.train.lengths[picked], self.window)
        out = np.zeros((self.size, int(lengths.max()), self.train.features.shape[1]), dtype=np.float32)
        starts = self.train.starts[picked] + rng.integers(0, self.train.lengths[picked] - lengths + 1)
        for row, (start, n) in enumerate(zip(starts, lengths, strict=True)):
            out[row, :n] = self.train.features[start : start + n]
        device = self.model.feature_mean.device
        return torch.from_numpy(out).to(device), torch.from_numpy(lengths.astype(np.int64)).to(device)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return vae_loss(getattr(model, "module", model), *batch, self.weights)

    def validate(self, model: nn.Module) -> dict[str, float]:
        return reconstruction_error(model, self.val)


@torch.no_grad()
def reconstruction_error(model: MotionVae, motions: MotionSet) -> dict[str, float]:
    """Mean per-joint error in millimetres over all frames, root-relative and absolute, and acceleration ratio."""
    sums = {"root_relative_mm": 0.0, "absolute_mm": 0.0}
    frames, jerk, real_jerk = 0, 0.0, 0.0
    for indices in batches_in_order(len(motions), 32):
        features, lengths = to_tensors(motions, indices, model.feature_mean.device)
        decoded = model.reconstruct(features, lengths)
        for row, n in enumerate(lengths.tolist()):
            a, b = (recover_joints_torch(x[row : row + 1, :n])[0] for x in (decoded, features))
            local_a, local_b = (x[row, :n, POSITIONS].reshape(n, -1, 3) for x in (decoded, features))
            sums["absolute_mm"] += float((a - b).norm(dim=-1).mean(-1).sum()) * 1000
            sums["root_relative_mm"] += float((local_a - local_b).norm(dim=-1).mean(-1).sum()) * 1000
            jerk += float(a.diff(n=2, dim=0).norm(dim=-1).mean(-1).sum())
            real_jerk += float(b.diff(n=2, dim=0).norm(dim=-1).mean(-1).sum())
            frames += n
    return {**{k: v / frames for k, v in sums.items()}, "acceleration_ratio": jerk / real_jerk}


def meaning_ids(*sets: MotionSet) -> list[np.ndarray]:
    """Meanings as integers, the same integer for the same meaning over all sets."""
    ids: dict[str, int] = {}
    return [np.array([ids.setdefault(m, len(ids)) for m in s.meanings]) for s in sets]


class CaptionTable:
    """Rows of a CaptionCache for every (motion, paraphrase) of a set."""

    def __init__(self, motions: MotionSet, cache: CaptionCache) -> None:
        self.rows = np.array([[cache.index[c] for c in row] for row in motions.captions])
        self.cache = cache

    def draw(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One caption row per motion."""
        return self.rows[indices, rng.integers(0, self.rows.shape[1], len(indices))]


class BaseTask:
    """Denoising of precomputed VAE latents; batches hold motions of similar length."""

    def __init__(self, model: Denoiser, latents: list[Tensor], table: CaptionTable, null: TextFeatures, val: tuple[list[Tensor], CaptionTable], size: int, seed: int) -> None:
        self.model, self.latents, self.table, self.null, self.val, self.size, self.seed = model, latents, table, null, val, size, seed
        self.order = np.argsort([len(z) for z in latents], kind="stable")
        self.alphas = training_alphas()

    def batch(self, step: int, process: int, processes: int) -> tuple[Tensor, Tensor, TextFeatures]:
        rng = _rng(self.seed, step, process)
        spread = min(len(self.order), 8 * self.size)  # similar lengths, still a varied batch
        start = rng.integers(0, len(self.order) - spread + 1)
        indices = self.order[start + rng.choice(spread, self.size, replace=len(self.order) < self.size)]
        rows = self.table.draw(indices, rng)
        return self._collate(self.latents, indices, self.table.cache, rows, rng.random(self.size) < DROP_TEXT)

    def _collate(self, latents: list[Tensor], indices: np.ndarray, cache: CaptionCache, rows: np.ndarray, drop: np.ndarray) -> tuple[Tensor, Tensor, TextFeatures]:
        picked = [latents[i] for i in indices]
        z = nn.utils.rnn.pad_sequence(picked, batch_first=True)  # (B, L, D)
        text = cache.gather(rows)
        if drop.any():
            n = self.null.tokens.shape[1]
            dropped = torch.from_numpy(drop)
            text.tokens[dropped] = 0
            text.tokens[dropped, :n] = self.null.tokens
            text.mask[dropped] = torch.arange(text.mask.shape[1]) < n
            text.pooled[dropped] = self.null.pooled
        device = next(self.model.parameters()).device
        return z.to(device), torch.tensor([len(p) for p in picked], device=device), text.to(device)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, TextFeatures]) -> dict[str, Tensor]:
        z, lengths, text = batch
        t = torch.randint(0, len(self.alphas), (len(z),), device=z.device)
        x0_hat = model(add_noise(z, torch.randn_like(z), t, self.alphas), t, text, lengths)
        return {"loss": ((x0_hat - z) ** 2).sum() / lengths.sum() / z.shape[-1]}

    def validate(self, model: nn.Module) -> dict[str, float]:
        generator = np.random.default_rng(0)
        torch.manual_seed(0)
        latents, table = self.val
        total, n = 0.0, 0
        for indices in batches_in_order(len(latents), 64):
            batch = self._collate(latents, indices, table.cache, table.draw(indices, generator), np.zeros(len(indices), bool))
            total += float(self.loss(model, batch)["loss"]) * len(indices)
            n += len(indices)
        return {"loss": total / n}


class RewardTask:
    """InfoNCE over a batch of motions and one caption each."""

    def __init__(self, model: RewardModel, train: MotionSet, val: MotionSet, cache: CaptionCache, size: int, seed: int) -> None:
        self.model, self.train, self.val, self.size, self.seed = model, train, val, size, seed
        self.table, self.val_table = CaptionTable(train, cache), CaptionTable(val, cache)
        self.meanings, self.val_meanings = meaning_ids(train, val)
        mean, std = feature_statistics(train)
        model.feature_mean.copy_(mean)
        model.feature_std.copy_(std)

    def batch(self, step: int, process: int, processes: int) -> Any:
        rng = _rng(self.seed, step, process)
        indices = rng.integers(0, len(self.train), self.size)
        return self._collate(self.train, self.table, self.meanings, indices, rng)

    def _collate(self, motions: MotionSet, table: CaptionTable, meanings: np.ndarray, indices: np.ndarray, rng: np.random.Generator) -> Any:
        device = self.model.feature_mean.device
        features, lengths = to_tensors(motions, indices, device)
        text = table.cache.gather(table.draw(indices, rng)).to(device)
        same = torch.from_numpy(meanings[indices][:, None] == meanings[indices][None]).to(device)
        return features, lengths, text, same

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        features, lengths, text, same = batch
        reward = getattr(model, "module", model)
        motion, words = reward.embed_motion(features, lengths), reward.embed_text(text)
        return {"loss": info_nce(motion, words, same, reward.config.temperature), **_accuracy(motion, words, same)}

    def validate(self, model: nn.Module) -> dict[str, float]:
        return validate_pairs(self, model)


class JudgeTask:
    """Pairwise sigmoid loss over a batch of motions and one caption each, as words."""

    def __init__(self, model: Judge, train: MotionSet, val: MotionSet, size: int, seed: int) -> None:
        self.model, self.train, self.val, self.size, self.seed = model, train, val, size, seed
        self.table, self.val_table = train.captions, val.captions
        self.meanings, self.val_meanings = meaning_ids(train, val)
        mean, std = feature_statistics(train)
        model.feature_mean.copy_(mean)
        model.feature_std.copy_(std)

    def batch(self, step: int, process: int, processes: int) -> Any:
        rng = _rng(self.seed + 1_000_003, step, process)
        indices = rng.integers(0, len(self.train), self.size)
        return self._collate(self.train, self.table, self.meanings, indices, rng)

    def _collate(self, motions: MotionSet, table: Any, meanings: np.ndarray, indices: np.ndarray, rng: np.random.Generator) -> Any:
        device = self.model.feature_mean.device
        features, lengths = to_tensors(motions, indices, device)
        texts = [table[i][rng.integers(0, len(table[i]))] for i in indices]
        same = torch.from_numpy(meanings[indices][:, None] == meanings[indices][None]).to(device)
        return features, lengths, texts, same

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        features, lengths, texts, same = batch
        judge = getattr(model, "module", model)
        motion, words = judge.embed_motion(features, lengths), judge.embed_text(texts)
        return {"loss": judge.loss(motion, words, same), **_accuracy(motion, words, same)}

    def validate(self, model: nn.Module) -> dict[str, float]:
        return validate_pairs(self, model)


def _accuracy(motion: Tensor, words: Tensor, same: Tensor) -> dict[str, Tensor]:
    """Share of texts whose nearest motion of the batch has the same meaning."""
    nearest = (words @ motion.T).argmax(1)
    return {"top1": same[torch.arange(len(same), device=same.device), nearest].float().mean()}


def validate_pairs(task: RewardTask | JudgeTask, model: nn.Module) -> dict[str, float]:
    """Loss and top-1 on the validation set in batches of 128."""
    rng, totals, n = np.random.default_rng(0), {"loss": 0.0, "top1": 0.0}, 0
    shuffled = rng.permutation(len(task.val))
    for chunk in batches_in_order(len(task.val), 128):
        batch = task._collate(task.val, task.val_table, task.val_meanings, shuffled[chunk], rng)
        values = task.loss(model, batch)
        totals = {k: totals[k] + float(values[k]) * len(chunk) for k in totals}
        n += len(chunk)
    return {k: v / n for k, v in totals.items()}
