"""What the loop trains when a reward refines itself: SPL's loss on mined pairs, beside retrieval so that it is kept.

A batch is one set of motions with one text each: the chosen and the rejected ones of mined pairs, groups of near
misses, and any others. All of them meet in InfoNCE; the mined pairs meet once more in eq. (2). Pairs are mined with the
weights at hand, so a run that was killed mines once more where it goes on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.compose import action_group
from core.data.motion_set import MotionSet
from core.metrics.retrieval import NEAR_MISS_SIZE, POOL_SIZE, distinct_pools, near_miss_pools, r_precision
from core.models.reward import RewardModel, info_nce
from core.preference.mining import MiningConfig, draw_pools, mine
from core.preference.spl import spl_loss
from core.text.encoder import CaptionCache
from core.train.tasks import (
    CaptionTable,
    NearMisses,
    PairBatch,
    PairSet,
    batches_in_order,
    collate_pairs,
    meaning_ids,
    to_tensors,
    unwrapped,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplConfig:
    """The loss and the batch of self-refinement."""

    temperature: float = 0.1  # of eq. (2), as published
    weight: float = 1.0  # of SPL's loss beside that of retrieval
    mined_share: float = 0.5  # of a batch: motions of mined pairs
    near_share: float = 0.25  # of a batch: groups of near misses
    mining: MiningConfig = MiningConfig()

    def __post_init__(self) -> None:
        if min(self.mined_share, self.near_share) < 0 or self.mined_share + self.near_share > 1:
            raise ValueError(f"mined_share={self.mined_share} and near_share={self.near_share} must be shares of 1.")


@dataclass(frozen=True)
class HeldOut:
    """What retrieval is measured on. edited: pools of `near_size` consecutive rows, see core.data.near_misses."""

    plain: MotionSet
    edited: MotionSet
    near_size: int = NEAR_MISS_SIZE
    plain_size: int = POOL_SIZE


@dataclass(frozen=True)
class SplBatch:
    """Rows 0 .. mined - 1 are the chosen motions of mined pairs, the next `mined` the rejected ones."""

    pairs: PairBatch
    mined: int


class SplTask:
    """Self-refinement of a reward on `train`, which should hold near misses; mined is rows (M, 2) of it."""

    def __init__(
        self,
        model: RewardModel,
        train: MotionSet,
        val: HeldOut,
        cache: CaptionCache,
        size: int,
        seed: int,
        spl: SplConfig,
    ) -> None:
        self.model, self.val, self.cache = model, val, cache
        self.size, self.seed, self.spl = size, seed, spl
        (ids,) = meaning_ids(train)
        self.train = PairSet(train, CaptionTable(train, cache), ids)
        self.near = NearMisses(train)
        self.mined, self._mined_at = np.zeros((0, 2), dtype=np.int64), -1

    def batch(self, step: int, process: int, processes: int) -> SplBatch:
        """Mined pairs, near misses and random motions, one random caption each. Side effect: mines when it is time."""
        rng = np.random.default_rng((self.seed, step, process))
        if self._mined_at != step // self.spl.mining.every:
            self._mined_at = step // self.spl.mining.every
            self.mined = self._mine(np.random.default_rng((self.seed, step, process, 1)))
        n = min(int(self.size * self.spl.mined_share) // 2, len(self.mined))
        chosen, rejected = self.mined[rng.choice(len(self.mined), n, replace=False)].T if n else np.zeros((2, 0), int)
        near = self.near.draw(rng, int(self.size * self.spl.near_share) // self.near.group)
        anything = rng.integers(0, len(self.train.motions), self.size - 2 * n - len(near))
        rows = np.concatenate([chosen, rejected, near, anything])
        return SplBatch(collate_pairs(self.train, rows, rng, self.model.feature_mean.device), n)

    @torch.no_grad()
    def _mine(self, rng: np.random.Generator) -> np.ndarray:
        """Failures of the current weights on a fresh gallery of near-miss groups."""
        config, was_training = self.spl.mining, self.model.training
        rows = np.unique(self.near.draw(rng, -(-config.texts // self.near.group)))
        self.model.eval()
        motion, words = embed(self.model, self.train.motions, self.train.table, rows, rng)
        self.model.train(was_training)
        pools = draw_pools(self.near.action_of[rows], self.train.meanings[rows], config, rng)
        found = mine(words @ motion.T, pools, config)
        log.info("mined %d pairs from %d texts", len(found), len(rows))
        return rows[found]

    def loss(self, model: nn.Module, batch: SplBatch) -> dict[str, Tensor]:
        """'loss' and its parts; 'mined': share of the batch's mined pairs that are still the wrong way round."""
        inner, pairs, n = unwrapped(model), batch.pairs, batch.mined
        motion, words = inner.embed_motion(pairs.features, pairs.lengths), inner.embed_text(pairs.text)
        retrieval = info_nce(motion, words, pairs.same, inner.config.temperature)
        chosen, rejected = (motion[:n] * words[:n]).sum(-1), (motion[n : 2 * n] * words[:n]).sum(-1)
        spl = spl_loss(chosen, rejected, self.spl.temperature).sum() / max(1, n)
        wrong = (rejected > chosen).float().sum() / max(1, n)
        return {"loss": retrieval + self.spl.weight * spl, "retrieval": retrieval, "spl": spl, "wrong": wrong}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See retrieval_figures."""
        return retrieval_figures(unwrapped(model), self.val, self.cache)


def embed(
    model: RewardModel, motions: MotionSet, table: Any, rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings (N, E) of motions `rows` and of one caption each, in the order of `rows`."""
    device = model.feature_mean.device
    motion, words = np.zeros((2, len(rows), model.config.embedding), dtype=np.float32)
    order = np.argsort(motions.lengths[rows], kind="stable")  # similar lengths together: little padding
    for chunk in batches_in_order(len(rows), 64):
        at = order[chunk]
        motion[at] = model.embed_motion(*to_tensors(motions, rows[at], device)).cpu().numpy()
        words[at] = model.embed_text(table.draw(rows[at], rng).to(device)).cpu().numpy()
    return motion, words


@torch.no_grad()
def retrieval_figures(model: RewardModel, data: HeldOut, cache: CaptionCache, draws: int = 20) -> dict[str, float]:
    """Text -> motion R@1 in [0, 1]: in plain pools, in near-miss pools as they come and as they are made.

    plain_1: any motions of other meaning; near_1: pools of one action drawn from the plain set; both the mean of
    `draws` draws. edited_1: pools of core.data.near_misses, every motion of which is once asked for.
    """
    actions, meanings = [action_group(m) for m in data.plain.meanings], list(data.plain.meanings)
    motion, words = _embed_first(model, data.plain, cache)
    figures: dict[str, list[float]] = {"plain_1": [], "near_1": []}
    for draw in range(draws):
        rng = np.random.default_rng((0, draw))
        figures["plain_1"].append(r_precision(words, motion, distinct_pools(meanings, rng, data.plain_size))[0])
        figures["near_1"].append(r_precision(words, motion, near_miss_pools(actions, meanings, rng, data.near_size))[0])
    motion, words = _embed_first(model, data.edited, cache)
    pools = np.arange(len(data.edited)).reshape(-1, data.near_size)
    edited = {"edited_1": float(r_precision(words, motion, pools)[0])}
    return {name: float(np.mean(values)) for name, values in figures.items()} | edited


def _embed_first(model: RewardModel, motions: MotionSet, cache: CaptionCache) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of all motions and of the first caption of each."""
    table = CaptionTable(motions, cache, first=True)
    return embed(model, motions, table, np.arange(len(motions)), np.random.default_rng(0))
