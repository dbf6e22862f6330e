"""What each model trains on: batches, losses and validation for the VAE, the denoiser, the reward and the judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from core.data.compose import action_group
from core.data.dataset import MotionSet
from core.diffusion.schedule import add_noise, training_alphas
from core.models.denoiser import Denoiser
from core.models.judge import Judge
from core.models.reward import RewardModel, TwoTowers, info_nce
from core.models.vae import MotionVae, VaeLossWeights, vae_loss
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
        std[block] = max(std[block].mean(), 1e-6)  # a group that never changes must not divide by zero
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def _set_statistics(model: MotionVae | RewardModel | Judge, motions: MotionSet) -> None:
    mean, std = feature_statistics(motions)
    model.feature_mean.copy_(mean)
    model.feature_std.copy_(std)


def _rng(seed: int, step: int, process: int) -> np.random.Generator:
    return np.random.default_rng((seed, step, process))


def unwrapped(model: nn.Module) -> Any:
    """The module inside a wrapper of several processes, or the model itself."""
    return getattr(model, "module", model)


def to_tensors(motions: MotionSet, indices: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Padded features (B, F, 263) and lengths (B,) on a device."""
    features, lengths = motions.batch(indices)
    return torch.from_numpy(features).to(device), torch.from_numpy(lengths).to(device)


class VaeTask:
    """Reconstruction of windows of up to `window` frames. Side effect: sets the model's feature statistics."""

    def __init__(
        self,
        model: MotionVae,
        train: MotionSet,
        val: MotionSet,
        size: int,
        seed: int,
        weights: VaeLossWeights,
        window: int = 96,
    ) -> None:
        self.model, self.train, self.val = model, train, val
        self.size, self.seed, self.window = size, seed, window
        self.weights = weights
        _set_statistics(model, train)

    def batch(self, step: int, process: int, processes: int) -> tuple[Tensor, Tensor]:
        """Windows (B, F, 263) at random places and their lengths (B,)."""
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
        """See vae_loss."""
        return vae_loss(unwrapped(model), *batch, self.weights)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See reconstruction_error."""
        return reconstruction_error(unwrapped(model), self.val)


@torch.no_grad()
def reconstruction_error(model: MotionVae, motions: MotionSet) -> dict[str, float]:
    """Mean per-joint error in millimetres over all frames, root-relative and absolute, and acceleration ratio."""
    sums = {"root_relative_mm": 0.0, "absolute_mm": 0.0}
    frames, acceleration, real_acceleration = 0, 0.0, 0.0
    for indices in batches_in_order(len(motions), 32):
        features, lengths = to_tensors(motions, indices, model.feature_mean.device)
        decoded = model.reconstruct(features, lengths)
        for row, n in enumerate(lengths.tolist()):
            a, b = (recover_joints_torch(x[row : row + 1, :n])[0] for x in (decoded, features))
            local_a, local_b = (x[row, :n, POSITIONS].reshape(n, -1, 3) for x in (decoded, features))
            sums["absolute_mm"] += float((a - b).norm(dim=-1).mean(-1).sum()) * 1000
            sums["root_relative_mm"] += float((local_a - local_b).norm(dim=-1).mean(-1).sum()) * 1000
            acceleration += float(a.diff(n=2, dim=0).norm(dim=-1).mean(-1).sum())
            real_acceleration += float(b.diff(n=2, dim=0).norm(dim=-1).mean(-1).sum())
            frames += n
    return {**{k: v / frames for k, v in sums.items()}, "acceleration_ratio": acceleration / real_acceleration}


def meaning_ids(*sets: MotionSet) -> list[np.ndarray]:
    """Meanings as integers, the same integer for the same meaning over all sets."""
    ids: dict[str, int] = {}
    return [np.array([ids.setdefault(m, len(ids)) for m in s.meanings]) for s in sets]


class CaptionTable:
    """Rows of a CaptionCache for every (motion, paraphrase) of a set."""

    def __init__(self, motions: MotionSet, cache: CaptionCache, first: bool = False) -> None:
        """first: of every motion's paraphrases only the first is drawn."""
        captions = [row[:1] for row in motions.captions] if first else motions.captions
        self.rows = np.array([[cache.index[c] for c in row] for row in captions])
        self.cache = cache

    def draw(self, indices: np.ndarray, rng: np.random.Generator) -> TextFeatures:
        """Features of one caption per motion."""
        rows = self.rows[indices, rng.integers(0, self.rows.shape[1], len(indices))]
        return self.cache.gather(torch.from_numpy(rows))


class WordTable:
    """The captions of a set as plain text."""

    def __init__(self, motions: MotionSet) -> None:
        self.captions = motions.captions

    def draw(self, indices: np.ndarray, rng: np.random.Generator) -> list[str]:
        """One caption per motion."""
        return [self.captions[i][rng.integers(0, len(self.captions[i]))] for i in indices]


@dataclass(frozen=True)
class LatentSet:
    """Clean latents (L_i, D) of every motion of a set, and its captions."""

    latents: list[Tensor]
    table: CaptionTable


class BaseTask:
    """Denoising of precomputed VAE latents; batches hold motions of similar length."""

    def __init__(
        self, model: Denoiser, train: LatentSet, val: LatentSet, null: TextFeatures, size: int, seed: int
    ) -> None:
        self.model, self.train, self.val, self.null = model, train, val, null
        self.size, self.seed = size, seed
        self.order = np.argsort([len(z) for z in train.latents], kind="stable")
        self.alphas = training_alphas()

    def batch(self, step: int, process: int, processes: int) -> tuple[Tensor, Tensor, TextFeatures]:
        """Latents (B, L, D), their lengths (B,) and one text each, a tenth of them the null text."""
        rng = _rng(self.seed, step, process)
        spread = min(len(self.order), 8 * self.size)  # similar lengths, still a varied batch
        start = rng.integers(0, len(self.order) - spread + 1)
        indices = self.order[start + rng.choice(spread, self.size, replace=len(self.order) < self.size)]
        text = self.train.table.draw(indices, rng)
        return self._collate(self.train, indices, self._drop(text, rng.random(self.size) < DROP_TEXT))

    def _drop(self, text: TextFeatures, drop: np.ndarray) -> TextFeatures:
        """The null text in the rows where drop (B,) is True, in place."""
        n = self.null.tokens.shape[1]
        dropped = torch.from_numpy(drop)
        text.tokens[dropped] = 0
        text.tokens[dropped, :n] = self.null.tokens
        text.mask[dropped] = torch.arange(text.mask.shape[1]) < n
        text.pooled[dropped] = self.null.pooled
        return text

    def _collate(
        self, latents: LatentSet, indices: np.ndarray, text: TextFeatures
    ) -> tuple[Tensor, Tensor, TextFeatures]:
        picked = [latents.latents[i] for i in indices]
        z = nn.utils.rnn.pad_sequence(picked, batch_first=True)  # (B, L, D)
        device = next(self.model.parameters()).device
        return z.to(device), torch.tensor([len(p) for p in picked], device=device), text.to(device)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, TextFeatures]) -> dict[str, Tensor]:
        """Mean squared error of the clean estimate at a random timestep a row."""
        z, lengths, text = batch
        t = torch.randint(0, len(self.alphas), (len(z),), device=z.device)
        x0_hat = model(add_noise(z, torch.randn_like(z), t, self.alphas), t, text, lengths)
        return {"loss": ((x0_hat - z) ** 2).sum() / lengths.sum() / z.shape[-1]}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The loss on the validation set, always at the same timesteps and noise. Side effect: seeds PyTorch."""
        rng = np.random.default_rng(0)
        torch.manual_seed(0)
        total, n = 0.0, 0
        for indices in batches_in_order(len(self.val.latents), 64):
            batch = self._collate(self.val, indices, self.val.table.draw(indices, rng))
            total += float(self.loss(model, batch)["loss"]) * len(indices)
            n += len(indices)
        return {"loss": total / n}


class TextTable(Protocol):
    """One text per motion, as the model takes it."""

    def draw(self, indices: np.ndarray, rng: np.random.Generator) -> Any: ...


@dataclass(frozen=True)
class PairSet:
    """Motions, their texts, and what each means as an integer (N,)."""

    motions: MotionSet
    table: TextTable
    meanings: np.ndarray


@dataclass(frozen=True)
class PairBatch:
    """B motions with one text each."""

    features: Tensor  # (B, F, 263), or latents (B, L, D) for a reward that reads these
    lengths: Tensor  # (B,) frames
    text: Any  # what the model embeds, B rows
    same: Tensor  # (B, B) bool, True where motion i and text j mean the same


def collate_pairs(pairs: PairSet, indices: np.ndarray, rng: np.random.Generator, device: torch.device) -> PairBatch:
    """Motions `indices` (B,) with one random caption each."""
    features, lengths = to_tensors(pairs.motions, indices, device)
    text = pairs.table.draw(indices, rng)
    text = text.to(device) if isinstance(text, TextFeatures) else text
    return PairBatch(features, lengths, text, same_meaning(pairs, indices, device))


def same_meaning(pairs: PairSet, indices: np.ndarray, device: torch.device) -> Tensor:
    """(B, B) bool: which of the motions `indices` (B,) mean the same."""
    meanings = pairs.meanings[indices]
    return torch.from_numpy(meanings[:, None] == meanings[None]).to(device)


class NearMisses:
    """Groups of motions that do the same action, by fours."""

    group = 4  # motions of one action drawn together

    def __init__(self, motions: MotionSet) -> None:
        _, self.action_of = np.unique([action_group(m) for m in motions.meanings], return_inverse=True)  # (N,)
        order = np.argsort(self.action_of, kind="stable")
        self.rows_of = np.split(order, np.cumsum(np.bincount(self.action_of))[:-1])

    def draw(self, rng: np.random.Generator, groups: int) -> np.ndarray:
        """Rows (groups * group,) by groups of one action; an action is drawn as often as it occurs."""
        actions = self.action_of[rng.integers(0, len(self.action_of), groups)]
        return np.array([rng.choice(self.rows_of[action], self.group) for action in actions], dtype=int).ravel()


class PairTask:
    """What rewards and the judge share: pairs of motion and text. Side effect: sets the feature statistics."""

    def __init__(self, model: TwoTowers | Judge, train: PairSet, val: PairSet, size: int, seed: int) -> None:
        self.model: TwoTowers | Judge = model
        self.train, self.val, self.size, self.seed = train, val, size, seed
        self.device = next(model.parameters()).device
        if isinstance(model, RewardModel | Judge):
            _set_statistics(model, train.motions)

    def batch(self, step: int, process: int, processes: int) -> PairBatch:
        """Random motions, one random caption each."""
        rng = _rng(self.seed, step, process)
        return self._collate(self.train, rng.integers(0, len(self.train.motions), self.size), rng)

    def _collate(self, pairs: PairSet, indices: np.ndarray, rng: np.random.Generator) -> PairBatch:
        return collate_pairs(pairs, indices, rng, self.device)

    def loss(self, model: nn.Module, batch: PairBatch) -> dict[str, Tensor]:
        """'loss', and 'top1': the share of texts whose nearest motion of the batch has the same meaning."""
        inner = unwrapped(model)
        motion, words = self.embed(inner, batch), inner.embed_text(batch.text)
        nearest = torch.cdist(words, motion).argmin(1)
        top1 = batch.same[torch.arange(len(batch.same), device=nearest.device), nearest].float().mean()
        return {"loss": self.pair_loss(inner, motion, words, batch.same), "top1": top1}

    def embed(self, model: Any, batch: PairBatch) -> Tensor:
        """Embeddings (B, E) of the batch's motions."""
        return model.embed_motion(batch.features, batch.lengths)

    def pair_loss(self, model: Any, motion: Tensor, words: Tensor, same: Tensor) -> Tensor:
        """Loss of embeddings (B, E), (B, E); same (B, B)."""
        raise NotImplementedError

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss and top-1 on the validation set in batches of 128."""
        rng, totals = np.random.default_rng(0), {"loss": 0.0, "top1": 0.0}
        n = len(self.val.motions)
        shuffled = rng.permutation(n)
        for chunk in batches_in_order(n, 128):
            values = self.loss(model, self._collate(self.val, shuffled[chunk], rng))
            totals = {k: totals[k] + float(values[k]) * len(chunk) for k in totals}
        return {k: v / n for k, v in totals.items()}


class RewardTask(PairTask):
    """InfoNCE over a batch, texts as token features."""

    def __init__(
        self, model: TwoTowers, train: MotionSet, val: MotionSet, cache: CaptionCache, size: int, seed: int
    ) -> None:
        ids, val_ids = meaning_ids(train, val)
        pairs = PairSet(train, CaptionTable(train, cache), ids)
        val_pairs = PairSet(val, CaptionTable(val, cache), val_ids)
        super().__init__(model, pairs, val_pairs, size, seed)

    def pair_loss(self, model: Any, motion: Tensor, words: Tensor, same: Tensor) -> Tensor:
        """See info_nce."""
        return info_nce(motion, words, same, model.config.temperature)


class JudgeTask(PairTask):
    """Margin loss over a batch, texts as words; half of a batch are near misses, by fours that do the same action."""

    near_miss_share = 0.5

    def __init__(self, model: Judge, train: MotionSet, val: MotionSet, size: int, seed: int) -> None:
        ids, val_ids = meaning_ids(train, val)
        pairs = PairSet(train, WordTable(train), ids)
        val_pairs = PairSet(val, WordTable(val), val_ids)
        super().__init__(model, pairs, val_pairs, size, seed + 1_000_003)  # other batches than the reward's
        self.near = NearMisses(train)

    def batch(self, step: int, process: int, processes: int) -> PairBatch:
        """Random motions and groups of near misses, one random caption each."""
        rng = _rng(self.seed, step, process)
        near = self.near.draw(rng, int(self.size * self.near_miss_share) // self.near.group)
        anything = rng.integers(0, len(self.train.motions), self.size - len(near))
        return self._collate(self.train, np.concatenate([anything, near]), rng)

    def pair_loss(self, model: Any, motion: Tensor, words: Tensor, same: Tensor) -> Tensor:
        """See Judge.loss."""
        return model.loss(motion, words, same)
