"""Which pair to show next: the one whose answer is expected to tell most about the taste.

Expected information (BALD, Houlsby et al. 2011): entropy of the predicted answer minus the expected entropy were the
taste known, over samples of what the taste may be.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.preference.head import PreferenceReward


def information(p: Tensor) -> Tensor:
    """Expected information in bits (N,) of answers that S equally likely tastes expect with probabilities (S, N)."""
    return (_entropy(p.mean(0)) - _entropy(p).mean(0)).clamp_min(0.0)


def _entropy(p: Tensor) -> Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1.0 - p, 1.0 - p)) / np.log(2.0)


@torch.no_grad()
def most_telling(head: PreferenceReward, a: Tensor, b: Tensor) -> tuple[int, float]:
    """(row, bits) of the most informative of N pairs, a and b (N, D) as `PreferenceReward.inputs` gives them.

    ValueError where there is none.
    """
    if not len(a):
        raise ValueError("There is no pair to choose from. Generate at least two takes.")
    bits = information(head.probabilities(a, b))
    best = int(bits.argmax())
    return best, float(bits[best])
