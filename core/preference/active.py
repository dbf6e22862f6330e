"""Which pair to show next: the one whose answer is expected to tell most about the taste.

Expected information (BALD, Houlsby et al. 2011): entropy of the predicted answer minus the expected entropy were the
taste known, both under the head's Gaussian posterior, by Gauss-Hermite quadrature.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.preference.head import PreferenceReward

_NODES = 64  # of the quadrature


def information(mean: Tensor, variance: Tensor) -> Tensor:
    """Expected information in bits (...,) of an answer whose logit is Gaussian with this mean and variance."""
    nodes, weights = (torch.as_tensor(v).to(mean) for v in np.polynomial.hermite_e.hermegauss(_NODES))
    p = torch.sigmoid(mean[..., None] + variance.sqrt()[..., None] * nodes)  # (..., 64)
    weights = weights / weights.sum()
    return (_entropy((p * weights).sum(-1)) - (_entropy(p) * weights).sum(-1)).clamp_min(0.0)


def _entropy(p: Tensor) -> Tensor:
    return -(torch.xlogy(p, p) + torch.xlogy(1.0 - p, 1.0 - p)) / np.log(2.0)


@torch.no_grad()
def choose_pair(head: PreferenceReward, inputs: Tensor) -> tuple[int, int, float]:
    """(i, j, bits): the most informative pair among candidates (N, D), as `PreferenceReward.inputs` gives them.

    ValueError with fewer than 2 candidates.
    """
    if len(inputs) < 2:
        raise ValueError(f"{len(inputs)} candidate takes make no pair. Generate at least 2.")
    i, j = torch.triu_indices(len(inputs), len(inputs), 1)
    mean, variance = head.difference(inputs[i], inputs[j])
    bits = information(mean, variance)
    best = int(bits.argmax())
    return int(i[best]), int(j[best]), float(bits[best])
