"""kill -9 of the whole program at random moments of ten generate/vote cycles."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from core.preference.store import PreferenceStore

ROUNDS = 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX systems only"),
]


class Visitor(threading.Thread):
    """Generates and votes through the page's endpoints until the connection breaks; notes what was acknowledged."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.acknowledged: dict[str, str] = {}
        self.first_pair, self.first_vote = threading.Event(), threading.Event()

    def run(self) -> None:
        from gradio_client import Client

        try:
            client = Client(self.url, verbose=False)
            while True:
                pair = client.predict("a person walks forward", 2.0, None, 2, api_name="/generate")
                self.first_pair.set()
                vote = client.predict(pair["pair_id"], "left", "ada", api_name="/vote")
                self.acknowledged[vote["pair_id"]] = vote["verdict"]
                self.first_vote.set()
        except Exception:  # the server was killed: whatever the client makes of it
            self.first_pair.set()
            self.first_vote.set()


def test_no_acknowledged_vote_is_lost_and_the_next_start_is_clean(
    launch_app, tiny_checkpoints: Path, tmp_path: Path
) -> None:
    """Prevents lost votes, dangling rows and files that break the next start."""
    rng = random.Random(11)
    acknowledged: dict[str, str] = {}
    for round_ in range(ROUNDS):
        app = launch_app(tmp_path, tiny_checkpoints)
        visitor = Visitor(app.url)
        visitor.start()
        assert visitor.first_pair.wait(600.0), app.log.read_text()[-3000:]
        if round_ % 2:  # the others are killed around their first vote, wherever that is on this machine
            assert visitor.first_vote.wait(600.0), app.log.read_text()[-3000:]
        time.sleep(rng.uniform(0.0, 0.5))
        app.kill()
        visitor.join(60.0)
        acknowledged |= visitor.acknowledged
    store = PreferenceStore(tmp_path)
    stored = {vote.pair_id: vote.verdict for vote in store.votes()}
    assert len(acknowledged) >= ROUNDS // 2, "the kills came before any vote"
    assert acknowledged.items() <= stored.items()
    for record in store.recent(limit=100_000):
        store.load_motion(record.pair.left)
        store.load_motion(record.pair.right)
    assert not list(tmp_path.rglob("*.part"))
    assert "Traceback" not in (tmp_path / "app.log").read_text()
