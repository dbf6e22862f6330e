"""What the loop trains when a reward is refined: SPL on mined pairs and votes, beside retrieval so that it is kept.

A batch is one set of motions with one text each: the chosen and the rejected ones of mined pairs, groups of near
misses, and any others. All of them meet in InfoNCE; the mined pairs meet once more in eq. (2). Pairs of votes come on
top and meet in eq. (2) alone: nobody said that a take shows what its prompt asks for, nor which other text it shows.
Pairs are mined with the weights at hand, so a run that was killed mines once more where it goes on.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.data.compose import action_group
from core.data.mixture import mix
from core.data.motion_set import MotionSet
from core.metrics.retrieval import (
    NEAR_MISS_SIZE,
    POOL_SIZE,
    distinct_pools,
    near_miss_groups,
    near_miss_pools,
    r_precision,
)
from core.models.reward import RewardModel, info_nce
from core.preference.mining import MiningConfig, draw_pools, mine
from core.preference.pairs import PairBuffer, RowPair, SourceWeights
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
from core.train.votes import VotedSet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplConfig:
    """The loss and the batch of self-refinement."""

    temperature: float = 0.1  # of eq. (2), as published
    weight: float = 1.0  # of SPL's loss beside that of retrieval
    mined_share: float = 0.4  # of a batch: motions of mined pairs
    near_share: float = 0.25  # of a batch: groups of near misses
    voted_share: float = 0.25  # motions of votes, where there are any, on top of a batch and as a share of it
    sources: SourceWeights = SourceWeights()  # of pairs in the mean of eq. (2)
    mining: MiningConfig = MiningConfig()

    def __post_init__(self) -> None:
        if min(self.mined_share, self.near_share) < 0 or self.mined_share + self.near_share > 1:
            raise ValueError(f"mined_share={self.mined_share} and near_share={self.near_share} must be shares of 1.")
        if not 0 <= self.voted_share <= 1:
            raise ValueError(f"voted_share={self.voted_share} is outside 0-1. It is a share of the batch.")


@dataclass(frozen=True)
class HeldOut:
    """What retrieval is measured on. edited: pools of `near_size` consecutive rows, see core.data.near_misses."""

    plain: MotionSet
    edited: MotionSet
    near_size: int = NEAR_MISS_SIZE
    plain_size: int = POOL_SIZE


@dataclass(frozen=True)
class SplBatch:
    """Motions with one text each, and P pairs of them by row."""

    pairs: PairBatch
    retrieved: int  # rows that meet in InfoNCE; those of votes come after them
    chosen: Tensor  # (P,) rows; their text is the pair's
    rejected: Tensor  # (P,) rows
    tie: Tensor  # (P,) bool
    weight: Tensor  # (P,)


class SplTask:
    """Refinement of a reward on `train`, which should hold near misses, and on votes; buffer: pairs of both kinds."""

    def __init__(
        self,
        model: RewardModel,
        train: MotionSet,
        val: HeldOut,
        cache: CaptionCache,
        size: int,
        seed: int,
        spl: SplConfig,
        votes: VotedSet | None = None,
    ) -> None:
        self.model, self.val, self.cache = model, val, cache
        self.size, self.seed, self.spl = size, seed, spl
        self.near, self.retrieved = NearMisses(train), len(train)
        self.buffer, self._mined_at = PairBuffer(), -1
        if votes is not None:
            n, train = len(train), mix([train, votes.motions], [1.0, 1.0])
            self.buffer.votes = [replace(p, chosen=n + p.chosen, rejected=n + p.rejected) for p in votes.pairs]
        (ids,) = meaning_ids(train)
        self.train = PairSet(train, CaptionTable(train, cache), ids)

    def batch(self, step: int, process: int, processes: int) -> SplBatch:
        """Mined pairs, near misses, random motions, votes; one random caption each. Side effect: mines at its time."""
        rng = np.random.default_rng((self.seed, step, process))
        if self._mined_at != step // self.spl.mining.every:
            self._mined_at = step // self.spl.mining.every
            found = self._mine(np.random.default_rng((self.seed, step, process, 1)))
            self.buffer.renew_mined(found, self.spl.sources.mined)
        mined = self._draw(rng, self.buffer.mined, self.spl.mined_share)
        near = self.near.draw(rng, int(self.size * self.spl.near_share) // self.near.group)
        anything = rng.integers(0, self.retrieved, self.size - 2 * len(mined) - len(near))
        voted = self._draw(rng, self.buffer.votes, self.spl.voted_share)
        rows = np.concatenate([*_sides(mined), near, anything, *_sides(voted)])
        return self._collate(rows, mined, voted, rng)

    def _draw(self, rng: np.random.Generator, pairs: Sequence[RowPair], share: float) -> list[RowPair]:
        """Different ones, as many as their motions make up a share of the batch."""
        n = min(int(self.size * share) // 2, len(pairs))
        return [pairs[i] for i in rng.choice(len(pairs), n, replace=False)] if n else []

    def _collate(
        self, rows: np.ndarray, mined: list[RowPair], voted: list[RowPair], rng: np.random.Generator
    ) -> SplBatch:
        """The batch of motions `rows`: mined chosen, mined rejected, others up to `size`, voted chosen, rejected."""
        device, pairs = self.model.feature_mean.device, mined + voted
        m, v, size = len(mined), len(voted), self.size
        return SplBatch(
            collate_pairs(self.train, rows, rng, device),
            retrieved=size,
            chosen=torch.tensor([*range(m), *range(size, size + v)], dtype=torch.long, device=device),
            rejected=torch.tensor([*range(m, 2 * m), *range(size + v, size + 2 * v)], dtype=torch.long, device=device),
            tie=torch.tensor([pair.tie for pair in pairs], dtype=torch.bool, device=device),
            weight=torch.tensor([pair.weight for pair in pairs], device=device),
        )

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
        """'loss' and its parts; 'wrong': share of the batch's pairs, ties aside, that are the wrong way round."""
        inner, pairs, r = unwrapped(model), batch.pairs, batch.retrieved
        motion, words = inner.embed_motion(pairs.features, pairs.lengths), inner.embed_text(pairs.text)
        retrieval = info_nce(motion[:r], words[:r], pairs.same[:r, :r], inner.config.temperature)
        text = words[batch.chosen]
        chosen, rejected = ((motion[side] * text).sum(-1) for side in (batch.chosen, batch.rejected))
        each = spl_loss(chosen, rejected, self.spl.temperature, batch.tie)
        spl = (batch.weight * each).sum() / batch.weight.sum().clamp_min(1e-6)
        decided = ~batch.tie
        wrong = ((rejected > chosen) & decided).sum() / decided.sum().clamp_min(1)
        return {"loss": retrieval + self.spl.weight * spl, "retrieval": retrieval, "spl": spl, "wrong": wrong}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See retrieval_figures."""
        return retrieval_figures(unwrapped(model), self.val, self.cache)


def _sides(pairs: Sequence[RowPair]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the chosen and of the rejected motions."""
    return np.array([p.chosen for p in pairs], dtype=np.int64), np.array([p.rejected for p in pairs], dtype=np.int64)


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

    plain_1: any motions of other meaning; near_1: pools of one action drawn from the plain set, left out where it has
    none of that size; both the mean of `draws` draws. edited_1: pools of core.data.near_misses, every motion of which
    is once asked for.
    """
    actions, meanings = [action_group(m) for m in data.plain.meanings], list(data.plain.meanings)
    motion, words = _embed_first(model, data.plain, cache)
    figures, has_near = defaultdict(list), bool(near_miss_groups(actions, meanings, data.near_size))
    for draw in range(draws):
        rng = np.random.default_rng((0, draw))
        figures["plain_1"].append(r_precision(words, motion, distinct_pools(meanings, rng, data.plain_size))[0])
        if has_near:
            near = near_miss_pools(actions, meanings, rng, data.near_size)
            figures["near_1"].append(r_precision(words, motion, near)[0])
    motion, words = _embed_first(model, data.edited, cache)
    pools = np.arange(len(data.edited)).reshape(-1, data.near_size)
    edited = {"edited_1": float(r_precision(words, motion, pools)[0])}
    return {name: float(np.mean(values)) for name, values in figures.items()} | edited


def _embed_first(model: RewardModel, motions: MotionSet, cache: CaptionCache) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of all motions and of the first caption of each."""
    table = CaptionTable(motions, cache, first=True)
    return embed(model, motions, table, np.arange(len(motions)), np.random.default_rng(0))
