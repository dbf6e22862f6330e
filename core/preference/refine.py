"""From pairs to a preference reward: a Bradley-Terry average over small sets of tastes, and cross-validation.

Every motion is embedded once, in batches; what remains is a regression of few inputs, linear in the number of pairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core import Callback
from core.models.reward import RewardModel
from core.preference.bradley_terry import Prior, fit, predict
from core.preference.descriptors import N_DESCRIPTORS
from core.preference.head import PreferenceConfig, PreferenceReward, motion_vectors, pad
from core.preference.pairs import PreferencePair
from core.preference.vectors import VectorFile

Motions = Callable[[str], np.ndarray]  # name of a stored motion -> features (F, 263), e.g. store.motions.load
_BATCH = 32  # motions or prompts embedded at once


class Encoder(Protocol):
    """What turns prompts into text features, such as core.text.encoder.TextEncoder."""

    def encode(self, prompts: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class RefineConfig:
    """How votes become a head; what is believed before any vote is told in core.preference.bradley_terry.Prior."""

    folds: int = 5  # of the cross-validation behind report["accuracy"]
    parts: int = 4  # points of the curve that tells how agreement grows with the votes
    annotator: str = ""  # put into the head's config: whose votes these are
    text_weight: float = 1.0  # of the base reward, logits per standard deviation within a prompt
    tastes: float = 0.2  # expected number of descriptors that a taste is about
    lapse: float = 0.05  # share of votes that are slips, either way
    seed: int = 0  # of the folds

    def __post_init__(self) -> None:
        if self.folds < 2 or self.parts < 1:
            raise ValueError(f"folds={self.folds} must be at least 2 and parts={self.parts} at least 1.")
        if not 0.0 <= self.lapse < 0.5:
            raise ValueError(f"lapse={self.lapse} is outside 0-0.5. It is the share of votes that are slips.")
        if not 0.0 < self.tastes < N_DESCRIPTORS:
            raise ValueError(f"tastes={self.tastes} is outside 0-{N_DESCRIPTORS}, the number of descriptors.")


def refine(
    base_reward: RewardModel,
    pairs: Sequence[PreferencePair],
    motions: Motions,
    encoder: Encoder,
    config: RefineConfig | None = None,
    callback: Callback | None = None,
    known: VectorFile | None = None,
) -> PreferenceReward:
    """A frozen preference reward (its `.report` tells how well it predicts); base_reward is copied, not changed.

    known: vectors of earlier refinements; those of further motions are appended to it.
    callback(step, total, info) after every batch of embedded motions and every fold; it may raise to cancel. info
    after the last fold of each part: learnt_from, the share of votes learnt from, and accuracy, base_accuracy.
    report: pairs, accuracy (held-out, cross-validated over pairs without ties), base_accuracy (the un-refined reward
    on the same pairs), log_loss and calibration (mean |predicted - observed| over five bins) of the held-out
    predictions, seconds; figures that need more pairs are None. Raises ValueError where no pair is given.
    """
    if not pairs:
        raise ValueError("There is no pair to learn from. Vote first.")
    started, config = time.perf_counter(), config or RefineConfig()
    vectors = known.read() if known else {}
    names = list(dict.fromkeys(n for p in pairs for n in (p.chosen_sha256, p.rejected_sha256)))
    fresh = [name for name in names if name not in vectors]
    report = _Steps(callback, -(-len(fresh) // _BATCH) + config.parts * (config.folds + 1))
    found = embed_motions(base_reward, fresh, motions, report)
    if known and found:
        known.append(fresh, torch.stack(list(found.values())))
    vectors = {name: vector.to(base_reward.feature_mean.device) for name, vector in (vectors | found).items()}
    words = embed_prompts(base_reward, list(dict.fromkeys(p.prompt for p in pairs)), encoder)
    head, difference = learn_head(base_reward, pairs, vectors, words, config)
    prior, figures = prior_of(config, base_reward.config.embedding), {}
    for part in range(1, config.parts + 1):
        figures = cross_validate(difference, pairs, prior, config, report, -(-part * len(pairs) // config.parts))
        known_so_far = {name: figures[name] for name in ("accuracy", "base_accuracy")}
        report({"learnt_from": part / config.parts, **known_so_far})
    seconds = round(time.perf_counter() - started, 3)
    head.config = replace(head.config, report={"pairs": len(pairs), **figures, "seconds": seconds})
    return head


def learn_head(
    base_reward: RewardModel,
    pairs: Sequence[PreferencePair],
    vectors: dict[str, Tensor],
    words: dict[str, Tensor],
    config: RefineConfig,
) -> tuple[PreferenceReward, np.ndarray]:
    """The frozen reward of pairs whose motions and prompts are embedded, and its input differences (N, D)."""
    head = PreferenceReward(PreferenceConfig(base_reward.config, config.text_weight, config.annotator))
    head.to(base_reward.feature_mean.device)
    head.base.load_state_dict(base_reward.state_dict())
    difference = standardise(head, pairs, vectors, words)
    head.learn(fit(difference, *votes_of(pairs), prior_of(config, base_reward.config.embedding)))
    return head.eval().requires_grad_(False), difference


def votes_of(pairs: Sequence[PreferencePair]) -> tuple[np.ndarray, np.ndarray]:
    """Target (N,), the probability that the chosen one is better, and weight (N,)."""
    return np.array([0.5 if p.tie else 1.0 for p in pairs]), np.array([p.weight for p in pairs])


def _nothing(_info: Mapping[str, Any] | None = None) -> None:
    """Reports to nobody."""


@dataclass
class _Steps:
    """Counts steps into one callback."""

    callback: Callback | None
    total: int
    done: int = 0

    def __call__(self, info: Mapping[str, Any] | None = None) -> None:
        self.done += 1
        if self.callback:
            self.callback(self.done, self.total, dict(info or {}))


@torch.no_grad()
def embed_motions(
    base: RewardModel, names: Sequence[str], motions: Motions, report: Callable[[], None] = _nothing
) -> dict[str, Tensor]:
    """Name -> vector (K + E,), each motion embedded once."""
    found: dict[str, Tensor] = {}
    for start in range(0, len(names), _BATCH):
        chunk = names[start : start + _BATCH]
        rows = motion_vectors(base, *pad([motions(name) for name in chunk], base.feature_mean.device))
        found |= dict(zip(chunk, rows, strict=True))
        report()
    return found


@torch.no_grad()
def embed_prompts(base: RewardModel, prompts: Sequence[str], encoder: Encoder) -> dict[str, Tensor]:
    """Prompt -> text embedding (E,)."""
    found: dict[str, Tensor] = {}
    for start in range(0, len(prompts), _BATCH):
        chunk = prompts[start : start + _BATCH]
        rows = base.embed_text(encoder.encode(chunk).to(base.feature_mean.device))
        found |= dict(zip(chunk, rows, strict=True))
    return found


@torch.no_grad()
def standardise(
    head: PreferenceReward, pairs: Sequence[PreferencePair], vectors: dict[str, Tensor], words: dict[str, Tensor]
) -> np.ndarray:
    """Measure the head's mu and s on the motions of the pairs; returns input differences chosen - rejected (N, D).

    s is the spread within a prompt, from the differences; embeddings share one. Side effect: sets both buffers.
    """
    text = torch.stack([words[p.prompt] for p in pairs])
    chosen = head.inputs(torch.stack([vectors[p.chosen_sha256] for p in pairs]), text)  # mu = 0, s = 1 so far
    rejected = head.inputs(torch.stack([vectors[p.rejected_sha256] for p in pairs]), text)
    everything = torch.cat([chosen, rejected])
    spread = ((chosen - rejected).square().mean(0) / 2).sqrt()
    overall = everything.std(0, correction=0)
    spread = torch.maximum(spread, 0.05 * overall).clamp_min(1e-4)  # a quantity that never differs tells nothing
    spread[1 + N_DESCRIPTORS :] = spread[1 + N_DESCRIPTORS :].square().mean().sqrt()
    head.center.copy_(everything.mean(0))
    head.scale.copy_(spread)
    return ((chosen - rejected) / spread).cpu().double().numpy()


def prior_of(config: RefineConfig, embedding: int) -> Prior:
    """The base reward as it is, any descriptor perhaps a taste; the embedding (E,) serves the base reward alone."""
    return Prior(
        inputs=1 + N_DESCRIPTORS + embedding,
        candidates=N_DESCRIPTORS,
        base_weight=config.text_weight,
        tastes=config.tastes,
        lapse=config.lapse,
    )


def cross_validate(
    x: np.ndarray,
    pairs: Sequence[PreferencePair],
    prior: Prior,
    config: RefineConfig,
    report: Callable[[], None],
    first: int | None = None,
) -> dict[str, float | None]:
    """Accuracy, log-loss and calibration of votes held out by prompt, and the base reward's accuracy on them.

    first: only so many of the pairs, from the first, are learnt from; all are predicted. None: all of them.
    """
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(p.prompt for p in pairs))}
    order = np.random.default_rng(config.seed).permutation(len(prompts))
    fold = np.array([order[prompts[p.prompt]] for p in pairs]) % config.folds
    (target, weight), p = votes_of(pairs), np.full(len(x), np.nan)
    for k in range(config.folds):
        held, kept = fold == k, (fold != k) & (np.arange(len(x)) < (len(x) if first is None else first))
        if held.any() and kept.any():
            p[held] = predict(x[held], fit(x[kept], target[kept], weight[kept], prior), prior.lapse)
        report()
    scored = np.isfinite(p) & (target == 1.0) & np.array([pair.source == "human" for pair in pairs])
    if not scored.any():
        return dict.fromkeys(("accuracy", "base_accuracy", "log_loss", "calibration"))
    return {
        "accuracy": _accuracy(p[scored] - 0.5),
        "base_accuracy": _accuracy(x[scored, 0]),
        "log_loss": float(-np.log(np.clip(p[scored], 1e-12, 1.0)).mean()),
        "calibration": _calibration(p[scored]),
    }


def _accuracy(margin: np.ndarray) -> float:
    """Share of positive margins; a margin of 0 is half right."""
    return float((0.5 * (np.sign(margin) + 1.0)).mean())


def _calibration(p: np.ndarray) -> float:
    """Mean |predicted - observed| over bins of the stated certainty, weighted by their size; p: P(true answer)."""
    certainty, right = np.maximum(p, 1.0 - p), p > 0.5
    bins = np.minimum(((certainty - 0.5) * 10).astype(int), 4)
    gaps = [(bins == b).mean() * abs(certainty[bins == b].mean() - right[bins == b].mean()) for b in np.unique(bins)]
    return float(sum(gaps))
