"""A process killed at any moment loses no acknowledged vote and leaves nothing that breaks the next start."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.preference.store import PreferenceStore

ROUNDS = 4
ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import sys
import numpy as np
from pathlib import Path
from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take, new_pair_id, now

store = PreferenceStore(Path(sys.argv[1]), sys.argv[2])
rng = np.random.default_rng()
fields = dict(prompt="p", seed=1, frames=40, steps=50, guidance_scale=2.5, solver="ddim", weights_sha256="0",
              text_encoder="minilm", device="cpu", code_version="0", torch_version="0")
while True:
    left, right = (
        Take(model_version=version, motion_sha256=store.save_motion(rng.standard_normal((40, 263))), **fields)
        for version in ("base", "aligned")
    )
    pair = Pair(new_pair_id(), left, right, now())
    store.add_pair(pair)
    store.record_vote(pair.id, "left", "ada", "0")
    print(pair.id, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX systems only")
def test_sigkill_loses_no_acknowledged_vote(tmp_path: Path, database: str) -> None:
    """Prevents lost and doubled votes, dangling rows and broken starts after kill -9, at random moments."""
    rng = random.Random(3)
    acknowledged: set[str] = set()
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", WORKER, str(tmp_path), database]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(rng.randint(1, 3))]  # whole cycles, then a part of one
        time.sleep(rng.uniform(0.0, 0.03))
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].splitlines(keepends=True)
        acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
        store = PreferenceStore(tmp_path, database)
        voted = [vote.pair_id for vote in store.votes()]
        assert acknowledged <= set(voted) and len(voted) == len(set(voted))
        assert not list(tmp_path.rglob("*.part"))
        store.close()
    store = PreferenceStore(tmp_path, database)
    for record in store.recent(limit=100_000):
        store.load_motion(record.pair.left)
        store.load_motion(record.pair.right)
