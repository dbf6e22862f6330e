"""An alignment that is really killed (SIGKILL) in another process goes on to the weights of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from core.align.config import AlignConfig
from core.align.run import align

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time; sys.path[:0] = ["tests/align"]
import conftest as tiny
from core.align.config import AlignConfig
from core.align.run import align
config = AlignConfig(steps=4, last_k=2, updates=12, batch=4, lr=3e-3, lora_rank=2, save_every=3, guards=tiny.NO_GUARDS)
align(tiny.TinyDiffusion(), tiny.TinyReward(), tiny.tiny_schedule(4), lambda i: tiny.tiny_batch(4, seed=100 + i),
      config, sys.argv[1], callback=lambda now, total, info: time.sleep(60 if now == 8 else 0))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on Windows")
def test_sigkill_costs_time_only(tiny, tmp_path) -> None:
    """Prevents state that only an orderly exit would write."""
    config = AlignConfig(
        steps=4, last_k=2, updates=12, batch=4, lr=3e-3, lora_rank=2, save_every=3, guards=tiny.no_guards
    )

    def finish(folder: Path) -> dict:
        model = tiny.Diffusion()
        schedule, batches = tiny.schedule(4), lambda i: tiny.batch(4, seed=100 + i)
        assert align(model, tiny.Reward(), schedule, batches, config, folder).updates == 12
        return model.denoiser.state_dict()

    log = tmp_path / "killed" / "metrics.jsonl"
    victim = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(log.parent)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and '"update": 8' in log.read_text()):
        time.sleep(0.1)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    assert '"update": 8' in log.read_text() and '"update": 9' not in log.read_text()
    assert torch.load(log.parent / "state.pt", weights_only=True)["update"] == 6  # two updates are lost and made again
    resumed, whole = finish(log.parent), finish(tmp_path / "whole")
    assert max(float((resumed[k] - whole[k]).abs().max()) for k in whole) < 1e-6
