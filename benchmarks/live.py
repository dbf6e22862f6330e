"""The program as a user meets it: app.py in a process of its own, and a Chromium that draws in software."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from core.settings import ROOT

PATIENCE_S = 600.0  # machines may be busy; each wait ends as soon as it can
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@dataclass
class App:
    """A running app.py."""

    process: subprocess.Popen
    url: str
    log: Path
    started: float  # time.monotonic() before the process was made
    answered_after_s: float

    def kill(self) -> None:
        """kill -9, with all its children; returns when it is gone."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start_app(data_dir: Path, checkpoints: Path, *more: str) -> App:
    """Start the page on a free port and return once it answers; its output goes to data_dir/app.log.

    more: further options of app.py.

    RuntimeError, with the end of that log, if it does not answer within PATIENCE_S.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "app.log"
    options = [
        "--port",
        str(port),
        "--data-dir",
        str(data_dir),
        "--checkpoints",
        str(checkpoints),
        "--device",
        "cpu",
        *more,
    ]
    started = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "app.py", *options], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    app = App(process, f"http://127.0.0.1:{port}", log, started, 0.0)
    while time.monotonic() - started < PATIENCE_S and process.poll() is None:
        try:
            urllib.request.urlopen(app.url, timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            app.answered_after_s = time.monotonic() - started
            return app
    app.kill()
    raise RuntimeError(f"The page did not answer. Its log ends with:\n{log.read_text()[-3000:]}")
