"""An engine over tiny models, loaded once a module."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.engine import Engine
from core.settings import Settings


@pytest.fixture(scope="module")
def engine(tiny_checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    settings = Settings(device="cpu", data_dir=tmp_path_factory.mktemp("data"), checkpoints=tiny_checkpoints)
    engine = Engine(settings)
    engine.start_loading()
    assert engine.wait_until_ready(900.0).ready
    return engine
