"""What the latents can hold: real motions of the test split through the VAE and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.commands.evaluate import Evaluate
from core.data.dataset import SetConfig, load_set
from core.models.checkpoint import load_vae
from core.train.tasks import reconstruction_error

ROOT_RELATIVE_MM, ABSOLUTE_MM = 20.0, 100.0


@pytest.mark.slow
def test_reconstruction_of_the_test_split(shipped_vae: Path, archive: Path) -> None:
    """Prevents a VAE that blurs hands and feet, or a root path that drifts; the set of `python -m core evaluate`."""
    motions = load_set(archive, SetConfig("test", Evaluate().items))
    error = reconstruction_error(load_vae(shipped_vae), motions)
    assert error["root_relative_mm"] <= ROOT_RELATIVE_MM and error["absolute_mm"] <= ABSOLUTE_MM, error
