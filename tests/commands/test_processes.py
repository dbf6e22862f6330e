"""`torchrun -m core align`: two processes on a CPU write the checkpoint that one writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
COMMAND = """
import sys
import numpy as np
from core.__main__ import main
from core.commands import align
from core.data.motion_set import MotionSet

captions = tuple((f"a person walks {i} steps",) for i in range(12))
features = (0.1 * np.random.default_rng(0).normal(size=(480, 263))).astype(np.float32)
motions = MotionSet(features, np.arange(0, 481, 40), captions, ("",) * 12, ("",) * 12)
align.load_set = lambda *_: motions
sys.exit(main(sys.argv[1:]))
"""  # the command line as it is, a dozen motions in place of an archive
SMALL = "--steps 4 --last-k 2 --prefix-stride 1 --trained-stride 1 --updates 3 --batch 4 --lora-rank 1 --save-every 1"
LOOSE = "--monitor-every 1 --max-skating-gain 99 --max-acceleration-gain 99 --max-diversity-loss 99 --max-distance 1e9"


def aligned(folder: Path, checkpoints: Path, launcher: list[str]) -> Path:
    """The checkpoint that `core align` writes below a folder of its own."""
    shutil.copytree(checkpoints, folder / "checkpoints")
    (folder / "motions.npz").write_bytes(b"motions")
    (folder / "command.py").write_text(COMMAND, encoding="utf-8")
    places = ["--archive", folder / "motions.npz", "--checkpoints", folder / "checkpoints", "--runs", folder / "runs"]
    what = ["align", "--name", "mine", "--rewards", "reward-spl", "--device", "cpu", "--unseen-share", "0"]
    words = [
        *launcher,
        folder / "command.py",
        *what,
        "--held-out-prompts",
        "2",
        *places,
        *SMALL.split(),
        *LOOSE.split(),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(w) for w in words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "checkpoints" / "mine"


@pytest.mark.slow
def test_two_processes_write_what_one_writes(live_checkpoints: Path, tmp_path: Path) -> None:
    """Prevents launched processes that each run alone, and one that ends before the other has written its files."""
    one = aligned(tmp_path / "one", live_checkpoints, [sys.executable])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    two = aligned(tmp_path / "two", live_checkpoints, torchrun)
    alone, together = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert alone.keys() == together.keys()
    assert all(float((alone[name] - together[name]).abs().max()) < 1e-4 for name in alone)
    assert max(float(value.abs().max()) for name, value in together.items() if name.endswith(".b")) > 0
    assert (two / "card.md").is_file() and json.loads((two / "config.json").read_text())["updates"] == 3
    grown = (tmp_path / "two" / "runs" / "mine" / "metrics.jsonl").read_text()
    assert [json.loads(line)["update"] for line in grown.splitlines() if "reward" in line][-1] == 3
