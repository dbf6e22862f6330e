"""From pairs to a preference reward: Bradley-Terry MAP with a Gaussian prior, Laplace uncertainty, cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core.models.reward import RewardModel
from core.preference.head import PreferenceReward
from core.preference.pairs import PreferencePair

Callback = Callable[[int, int, dict[str, Any]], None]
Motions = Callable[[str], np.ndarray]  # name of a stored motion -> features (F, 263), e.g. store.motions.load


class Encoder(Protocol):
    """What turns prompts into text features, such as core.text.encoder.TextEncoder."""

    def encode(self, prompts: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class RefineConfig:
    """How votes become a head."""

    folds: int = 5  # of the cross-validation behind report["accuracy"]
    annotator: str = ""  # put into the head's config: whose votes these are


def refine(
    base_reward: RewardModel,
    pairs: Sequence[PreferencePair],
    motions: Motions,
    encoder: Encoder,
    config: RefineConfig | None = None,
    callback: Callback | None = None,
) -> PreferenceReward:
    """A frozen preference reward (its `.report` tells how well it predicts); base_reward is copied, not changed.

    callback(step, total, info) after every batch of embedded motions and every fold; it may raise to cancel.
    report: pairs, accuracy (held-out, cross-validated over pairs without ties), base_accuracy (the un-refined reward
    on the same pairs), log_loss, calibration, words, seconds. Raises ValueError where no pair is given.
    """
    raise NotImplementedError
