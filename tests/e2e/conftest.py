"""The whole program as a user starts it: `python app.py`, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.live import CHROMIUM, CHROMIUM_FLAGS, App, start_app


@pytest.fixture(scope="session")
def launch_app() -> Iterator[Callable[..., App]]:
    """start_app whose processes end with the test session at the latest."""
    running: list[App] = []

    def launch(data_dir: Path, checkpoints: Path, *more: str) -> App:
        running.append(start_app(data_dir, checkpoints, *more))
        return running[-1]

    yield launch
    for app in running:
        app.kill()


@pytest.fixture(scope="module")
def browser():
    """A Chromium that draws in software; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()
