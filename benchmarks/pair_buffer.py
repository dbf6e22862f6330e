"""What a large buffer of votes costs: opening the store, reading the pairs, refining the reward.

    python -m benchmarks.pair_buffer               # 1,000, 10,000 and 100,000 pairs of two motions each
    python -m benchmarks.pair_buffer --smoke       # does it run?

The motions' vectors are known already, as after an earlier refinement; motion files are empty, only their names count.
Prints a table and writes JSON.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import torch
import tyro

from benchmarks.generation import deliver, machine
from core.models.checkpoint import load_reward
from core.models.reward import RewardModel
from core.preference.descriptors import N_DESCRIPTORS
from core.preference.pairs import vote_pairs
from core.preference.refine import refine
from core.preference.store import PreferenceStore
from core.preference.vectors import VectorFile
from core.text.encoder import load_text_encoder

PROMPTS = 200  # distinct ones
STAGES = ("open", "count", "pairs", "refine")


@dataclass(frozen=True)
class Buffer:
    """Measure the store and the refinement at several sizes."""

    checkpoints: Path = Path("checkpoints")
    out: Path = Path("outputs/pair-buffer.json")
    sizes: tuple[int, ...] = (1_000, 10_000, 100_000)  # pairs
    threads: int = 1
    smoke: bool = False  # 20 and 40 pairs


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = tyro.cli(Buffer, args=arguments, prog="python -m benchmarks.pair_buffer")
    if config.smoke:
        config = replace(config, sizes=(20, 40))
    try:
        torch.set_num_threads(config.threads)
        base = load_reward(config.checkpoints)
        seconds = {str(size): measure(size, base) for size in config.sizes}
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report = {"config": asdict(config), "machine": machine(), "seconds": seconds}
    return deliver(report, markdown(report), config.out)


def measure(pairs: int, base: RewardModel) -> dict[str, float]:
    """Seconds of each stage with so many pairs in a store of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = fill(folder, pairs)
        known = VectorFile(folder / "vectors", base)
        rng = np.random.default_rng(0)
        vectors = rng.standard_normal((len(names), N_DESCRIPTORS + base.config.embedding)).astype(np.float32)
        known.append(names, torch.from_numpy(vectors))
        clock = [time.perf_counter()]
        store = PreferenceStore(folder)
        clock.append(time.perf_counter())
        store.counts()
        clock.append(time.perf_counter())
        found = vote_pairs(store)
        clock.append(time.perf_counter())
        refine(base, found, store.motions.load, load_text_encoder(), known=known)
        clock.append(time.perf_counter())
        store.close()
    return dict(zip(STAGES, np.diff(clock).tolist(), strict=True))


def fill(folder: Path, pairs: int) -> list[str]:
    """A store with so many pairs and one vote on each, written in bulk; returns the names of the motions."""
    store = PreferenceStore(folder)
    names = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(2 * pairs)]
    for name in names:
        path = store.motions.path(name)
        path.parent.mkdir(exist_ok=True)
        os.close(os.open(path, os.O_CREAT))
    engine, tables = sa.create_engine(store.database), sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(tables.tables["takes"]), [_take(i, name) for i, name in enumerate(names)])
        rows = [{"id": f"{i:032x}", "left_take": 2 * i + 1, "right_take": 2 * i + 2} for i in range(pairs)]
        connection.execute(
            sa.insert(tables.tables["pairs"]), [{**row, "created": _moment(i)} for i, row in enumerate(rows)]
        )
    engine.dispose()
    store.add_events(_vote(i) for i in range(pairs))
    store.close()
    return names


def _moment(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)


def _take(number: int, name: str) -> dict[str, Any]:
    known = {"id": number + 1, "prompt": f"a person walks {number // 2 % PROMPTS} steps", "motion_sha256": name}
    numbers = {"seed": number, "frames": 100, "steps": 12, "guidance_scale": 2.5}
    words = dict.fromkeys(("weights_sha256", "code_version", "torch_version"), "0")
    return {
        **known,
        **numbers,
        **words,
        "solver": "dpm++",
        "model_version": "base",
        "text_encoder": "minilm",
        "device": "cpu",
    }


def _vote(number: int) -> dict[str, Any]:
    verdict = ("left", "right", "tie", "left")[number % 4]
    known = {"kind": "vote", "pair_id": f"{number:032x}", "annotator": f"person {number % 7}", "verdict": verdict}
    versions = {"left_version": "base", "right_version": "base", "code_version": "0"}
    return {**known, **versions, "created": _moment(number), "response_s": 1.0, "blind": True}


def markdown(report: dict[str, Any]) -> str:
    """The table: seconds, a row a size."""
    here = report["machine"]
    lines = [
        f"Seconds, {report['config']['threads']} thread of {here['cpu']}, load {here['load']}\n",
        "| pairs | open the store | count | read the pairs | refine |",
        "| ---: |" + " ---: |" * len(STAGES),
    ]
    for size, seconds in report["seconds"].items():
        lines.append(f"| {int(size):,} | " + " | ".join(f"{seconds[stage]:.2f}" for stage in STAGES) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
