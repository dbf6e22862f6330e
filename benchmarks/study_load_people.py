"""Simulated annotators of a study, over real HTTP, and the server they talk to, which may be killed under them."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.live import App, start_app

CALL_TIMEOUT_S = 60.0  # an answer that takes longer counts as a broken connection and is sent again
_RETRY_S = 0.3
_PATIENCE_S = 300.0  # without any server


@dataclass
class Server:
    """app.py --study in a process of its own; `restart` kills it with -9 and starts it again."""

    data_dir: Path
    study_file: Path
    checkpoints: Path
    database: str | None = None
    app: App = field(init=False)

    def __post_init__(self) -> None:
        self.app = self._start()

    def restart(self) -> None:
        self.app.kill()
        self.app = self._start()

    def stop(self) -> None:
        self.app.kill()

    def resident_mb(self) -> float:
        """Memory of the process in MB (Linux)."""
        status = Path(f"/proc/{self.app.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_s(self) -> float:
        """Processor seconds that the process has used, over all threads (Linux)."""
        stat = Path(f"/proc/{self.app.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / 100.0

    def _start(self) -> App:
        options = ["--study", str(self.study_file)]
        options += ["--database", self.database] if self.database else []
        return start_app(self.data_dir, self.checkpoints, *options)


@dataclass
class Acknowledged:
    """An answer that the server has confirmed."""

    pair_id: str
    verdict: str
    seconds: float | None  # from the answer to the next pair; None where the connection broke meanwhile


class Person(threading.Thread):
    """Looks for a while, answers, and so on until nothing is left; sends an unconfirmed answer again."""

    def __init__(self, name: str, server: Server, think_s: float, criteria: tuple[str, ...], seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.server, self.think_s, self.criteria = server, think_s, criteria
        self.answers: list[Acknowledged] = []
        self.total = 0
        self.failure: Exception | None = None
        self._rng = random.Random(seed)
        self._client: Any = None

    def run(self) -> None:
        try:
            screen, _ = self._call("/study_next")
            while screen["pair_id"] is not None:
                time.sleep(self.think_s * self._rng.uniform(0.5, 1.5))
                verdict = self._rng.choice(("left", "right", "tie", "both_bad"))
                criteria = {name: self._rng.choice(("left", "tie", "right")) for name in self.criteria}
                pair_id = screen["pair_id"]
                screen, seconds = self._call("/study_answer", pair_id, verdict, criteria, "", self.think_s, 1)
                self.answers.append(Acknowledged(pair_id, verdict, seconds))
            self.total = screen["total"]
        except Exception as error:
            self.failure = error

    def _call(self, endpoint: str, *values: Any) -> tuple[dict[str, Any], float | None]:
        """The endpoint's answer, and how long it took; asks again, without a time, as long as the server is away."""
        from gradio_client import Client

        broken, deadline = False, time.monotonic() + _PATIENCE_S
        while True:
            try:
                # no TLS here: httpx would read the list of authorities at every call
                self._client = self._client or Client(self.server.app.url, ssl_verify=False, verbose=False)
                started = time.monotonic()
                answer = self._client.submit(self.name, *values, api_name=endpoint).result(timeout=CALL_TIMEOUT_S)
                return answer, None if broken else time.monotonic() - started
            except Exception:  # the server was killed: whatever the client makes of it
                if time.monotonic() > deadline:
                    raise
                broken, self._client = True, None
                time.sleep(_RETRY_S)
