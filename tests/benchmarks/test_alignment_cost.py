"""The processes that the alignment benchmark measures in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTER = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from benchmarks.alignment_cost import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_a_killed_benchmark_leaves_no_measurement_behind(tmp_path: Path) -> None:
    """Prevents workers of a killed run from slowing, and so falsifying, all that is measured after it."""
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    starter = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    assert starter.stdout is not None
    worker = Path("/proc") / starter.stdout.readline().strip()
    assert alive(worker)
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 30
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)


def alive(process: Path) -> bool:
    """Whether a folder of /proc is that of a process that has not ended; one nobody has waited for has."""
    try:
        return (process / "stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
