"""Arrays and key listings made by running the published modules (tests/fixtures/*)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

FIXTURES = Path(__file__).parents[1] / "fixtures"
DTYPES = {"": (torch.float32, 1e-5), ".f64": (torch.float64, 1e-10)}  # array suffix -> precision, tolerance


def exp_as_published() -> bool:
    """Whether float32 exp has the last bits of the machine that made the fixtures; MKL's differ between processors.

    The published time and position tables are float32 whatever the module's precision, so those bits reach float64.
    """
    frequencies = torch.exp(torch.arange(0, 64, 2).float() * (-math.log(10000.0) / 64))
    with np.load(FIXTURES / "mdm_small.npz") as file:
        sines = torch.from_numpy(file["pe_first_1000_rows"])[:, 0::2]
    angles = torch.arange(1000.0)[:, None] * frequencies
    return bool((angles.double().sin() - sines).abs().max() < 2e-6)


class Published:
    """One fixture file: inputs, weights by published key, and comparison against the published result."""

    def __init__(self, name: str, suffix: str) -> None:
        with np.load(FIXTURES / f"{name}.npz") as file:
            self.arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files if key != "config_json"}
        self.suffix = suffix
        self.dtype, self.tolerance = DTYPES[suffix]
        self.same_exp = exp_as_published()
        self.with_time = self.tolerance if self.same_exp else max(self.tolerance, 2e-6)

    @property
    def weights(self) -> dict[str, Tensor]:
        return {key[2:]: value.to(self.dtype) for key, value in self.arrays.items() if key.startswith("w/")}

    def load(self, model: nn.Module) -> nn.Module:
        """All published weights into the model, no key missing and none left over."""
        model.to(self.dtype).load_state_dict(self.weights, strict=True)
        return model.eval().requires_grad_(False)

    def __getitem__(self, key: str) -> Tensor:
        value = self.arrays[key]
        return value.to(self.dtype) if value.is_floating_point() else value

    def check(self, actual: Tensor, key: str, of_time: bool = False) -> None:
        """Fails where `actual` is further from the published array than allowed; of_time: it depends on a timestep."""
        tolerance = self.with_time if of_time else self.tolerance
        expected = self.arrays[key + self.suffix]
        assert actual.dtype == self.dtype and actual.shape == expected.shape
        error = (actual - expected).abs().max().item()
        print(f"{key}{self.suffix}: max error {error:.1e}")
        assert error <= tolerance, f"{key}{self.suffix} is off by {error:.2e}"


@pytest.fixture(params=DTYPES, ids=["float32", "float64"])
def published(request: pytest.FixtureRequest) -> Callable[[str], Published]:
    """Opens a fixture file by name; every test using it runs in float32 and float64."""
    return lambda name: Published(name, request.param)


@pytest.fixture
def published_keys() -> Callable[[str], dict[str, list[int]]]:
    """Key -> shape of a published full-size checkpoint."""

    def read(name: str) -> dict[str, list[int]]:
        return {row["key"]: row["shape"] for row in json.loads((FIXTURES / f"{name}.json").read_text())["state_dict"]}

    return read


@pytest.fixture
def keys_of() -> Callable[[nn.Module], dict[str, list[int]]]:
    return lambda model: {key: list(value.shape) for key, value in model.state_dict().items()}
