"""Two processes that measure into one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.alignment import claimed, measure_costs
from benchmarks.alignment_setup import Benchmark, tiny

ROOT = Path(__file__).resolve().parents[2]
OTHER = """
import sys, time
from pathlib import Path
from benchmarks.alignment import claimed

with claimed(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_measurement_is_made_by_one_process_and_free_when_that_is_killed(tmp_path: Path) -> None:
    """Prevents two terminals from making the same curve, and a killed one from keeping it from all others."""
    config = tiny(Benchmark(methods=("draft-1", "refl"), checkpoints=ROOT / "checkpoints", smoke=True))
    cell = tmp_path / "cost" / "refl.json"
    with measuring(cell):
        measure_costs(config, tmp_path)
        assert [path.name for path in cell.parent.glob("*.json")] == ["draft-1.json"]
    measure_costs(config, tmp_path)
    assert cell.exists()


@contextmanager
def measuring(cell: Path) -> Iterator[None]:
    """While another process has claimed a cell; it is killed at the end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    other = subprocess.Popen([sys.executable, "-c", OTHER, cell], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        yield
    finally:
        other.kill()
        other.wait()


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    """Prevents a process from keeping what it has finished, and an error inside from keeping what it has not."""
    for error in (None, ValueError("no memory"), None):
        try:
            with claimed(tmp_path / "cell.json") as mine:
                assert mine
                with claimed(tmp_path / "cell.json") as again:
                    assert not again
                if error:
                    raise error
        except ValueError as raised:
            assert raised is error
