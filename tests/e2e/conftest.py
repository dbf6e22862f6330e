"""The whole program as a user starts it: `python app.py`, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.settings import ROOT

PATIENCE_S = 600.0  # test machines may be busy; each wait ends as soon as it can


@dataclass
class App:
    """A running app.py."""

    process: subprocess.Popen
    url: str
    log: Path
    answered_after_s: float

    def kill(self) -> None:
        """kill -9, with all its children; returns when it is gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_app(data_dir: Path, checkpoints: Path) -> App:
    """Start the page on a free port and return once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "app.log"
    options = ["--port", str(port), "--data-dir", str(data_dir), "--checkpoints", str(checkpoints), "--device", "cpu"]
    started = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "app.py", *options], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    while time.monotonic() - started < PATIENCE_S:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return App(process, url, log, time.monotonic() - started)
        except OSError:
            time.sleep(0.1)
    App(process, url, log, 0.0).kill()
    raise AssertionError(f"the page did not answer:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def launch_app() -> Iterator[Callable[[Path, Path], App]]:
    """start_app whose processes end with the test session at the latest."""
    running: list[App] = []

    def launch(data_dir: Path, checkpoints: Path) -> App:
        running.append(start_app(data_dir, checkpoints))
        return running[-1]

    yield launch
    for app in running:
        app.kill()
