"""SPL's preference loss, EasyTune eq. (2): KL(Q || P), P = softmax([R(chosen), R(rejected)] / temperature).

Written with log-softmax, temperature applied once: finite for any rewards, where the published exponentials overflow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def spl_loss(chosen: Tensor, rejected: Tensor, temperature: float, undecided: Tensor | None = None) -> Tensor:
    """KL divergence (B,) of rewards chosen (B,), rejected (B,); rows where undecided (B,) bool have Q = (1/2, 1/2).

    The others have Q = (1, 0). ValueError for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be positive. 0.1 is the published value.")
    log_p = F.log_softmax(torch.stack([chosen, rejected], -1) / temperature, -1)  # (B, 2)
    q = log_p.new_tensor([1.0, 0.0]).expand_as(log_p)
    if undecided is not None:
        q = torch.where(undecided[:, None], torch.full_like(log_p, 0.5), q)
    return (torch.xlogy(q, q) - q * log_p).sum(-1)
