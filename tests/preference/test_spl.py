"""SPL's loss against the published implementation, and where that one overflows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from core.preference.spl import spl_loss

FIXTURE = np.load(Path(__file__).parents[1] / "fixtures" / "spl_loss.npz")


def fixture_loss(motion: Tensor, text: Tensor, temperature: float, undecided: np.ndarray) -> Tensor:
    """The published batch: each text's own motion against the nearest; the temperature enters there twice."""
    cosine = F.normalize(text, dim=-1) @ F.normalize(motion, dim=-1).T
    return spl_loss(cosine.diagonal(), cosine.amax(1), temperature**2, torch.from_numpy(undecided)).mean()


@pytest.mark.parametrize("case", ["main", "overflow"])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_equals_the_published_loss_and_its_gradients(case: str, temperature: float) -> None:
    motion, text = (torch.tensor(FIXTURE[f"{case}/{n}_latent"]).double().requires_grad_() for n in ("motion", "text"))
    loss = fixture_loss(motion, text, temperature, FIXTURE[f"{case}/in_top10"])
    loss.backward()
    assert float(loss) == pytest.approx(float(FIXTURE[f"{case}/loss_T{temperature}.f64"]), abs=1e-8)
    for name, latent in (("motion", motion), ("text", text)):
        assert latent.grad is not None
        expected = FIXTURE[f"{case}/grad_{name}_T{temperature}.f64"]
        np.testing.assert_allclose(latent.grad.numpy(), expected, atol=1e-8 * np.abs(expected).max())


def test_stays_finite_in_float32_where_the_published_one_overflows() -> None:
    assert not np.isfinite(FIXTURE["overflow/loss_T0.1"])
    motion, text = (torch.tensor(FIXTURE[f"overflow/{n}_latent"]) for n in ("motion", "text"))
    assert torch.isfinite(fixture_loss(motion, text, 0.1, FIXTURE["overflow/in_top10"]))


def test_a_tie_costs_least_at_equal_rewards() -> None:
    rewards = torch.tensor([0.3, 0.3]), torch.tensor([0.3, 0.1])
    loss = spl_loss(*rewards, 0.1, torch.tensor([True, True]))
    assert loss[0] == pytest.approx(0.0, abs=1e-6) and loss[1] > 0.1


def test_refuses_a_temperature_of_zero() -> None:
    with pytest.raises(ValueError, match="temperature=0"):
        spl_loss(torch.zeros(1), torch.zeros(1), 0)
