"""What is shipped: the trained models under checkpoints/ and, where it has been prepared, the archive of real clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.settings import ROOT

CHECKPOINTS = ROOT / "checkpoints"
ARCHIVE = ROOT / "data" / "bandai-namco.npz"


def _need(path: Path, command: str) -> None:
    if not path.exists():
        pytest.skip(f"{path.relative_to(ROOT)} is missing; make it with `python -m core {command}`")


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The folder of the shipped model versions."""
    for name, command in (("vae", "train vae"), ("base", "train base"), ("aligned", "align")):
        _need(CHECKPOINTS / name / "model.safetensors", command)
    return CHECKPOINTS


@pytest.fixture(scope="session")
def shipped_vae() -> Path:
    """The same folder where at least the VAE is there."""
    _need(CHECKPOINTS / "vae" / "model.safetensors", "train vae")
    return CHECKPOINTS


@pytest.fixture(scope="session")
def archive() -> Path:
    """The archive of real clips; not part of the repository, since its licence is not the code's."""
    _need(ARCHIVE, "prepare bandai-namco PATH")
    return ARCHIVE
