"""Expected information of a pair against numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.preference.active import information


@pytest.mark.parametrize("mean", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("variance", [0.1, 1.0, 9.0])
def test_information_is_the_integral(mean: float, variance: float) -> None:
    u = np.random.default_rng(0).normal(mean, variance**0.5, 200_000)
    p = 1.0 / (1.0 + np.exp(-u))
    entropies = [-(q * np.log2(q) + (1 - q) * np.log2(1 - q)) for q in (p.mean(), np.clip(p, 1e-12, 1 - 1e-12))]
    expected = entropies[0] - np.mean(entropies[1])
    found = float(information(torch.tensor(mean), torch.tensor(variance)))
    assert found == pytest.approx(expected, abs=0.005)
