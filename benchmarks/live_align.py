"""One live step for an annotator, and what it did to takes of prompts that nobody voted on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.takes import Pool, PoolConfig, load_pool, seed_of
from core.diffusion.rollout import SamplerConfig, sample_motions
from core.learning.versions import VersionStore
from core.metrics.retrieval import POOL_SIZE, distinct_pools, r_precision
from core.models.checkpoint import load_judge
from core.motion.files import atomic_write
from core.preference.annotators import Annotator, judge_matching
from core.preference.pairs import PreferencePair
from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take, now
from core.settings import ROOT
from core.text.encoder import load_text_encoder

_OTHER_PROMPTS = 101  # seed of a pool whose prompts nobody votes on


@dataclass(frozen=True)
class AlignPart:
    """Where versions are made and how many prompts they are tried on."""

    checkpoints: Path
    reward: str  # folder below checkpoints that the votes build on
    folder: Path
    prompts: int
    sampler: SamplerConfig

    def run(self, rule: str, pairs: Sequence[PreferencePair], pool: Pool) -> dict[str, Any]:
        """Figures of one rule: made once, then read from the folder. {"failed": reason} where no version was made."""
        cell = self.folder / f"{rule.replace(' ', '-')}.json"
        if not cell.exists():
            found = self._step(rule, pairs, pool)
            atomic_write(cell, lambda file: file.write(json.dumps(found, indent=1).encode()))
        return json.loads(cell.read_text())

    def _step(self, rule: str, pairs: Sequence[PreferencePair], pool: Pool) -> dict[str, Any]:
        """Votes into a store, one step by the command that the page runs, and what came of it."""
        data, started = self.folder / f"data-{rule.replace(' ', '-')}", time.perf_counter()
        store_votes(data, pairs, pool)
        places = ["--data-dir", str(data.resolve()), "--checkpoints", str(self.checkpoints.resolve())]
        command = [sys.executable, "-m", "core", "live", "--reward", self.reward, *places]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1]}
        return {"live_step_s": time.perf_counter() - started} | self.measure(rule, data)

    def measure(self, rule: str, data: Path) -> dict[str, Any]:
        """The hidden statistic and the judge's R@3 of base takes, and of the version just made from the same noise."""
        config = PoolConfig(self.prompts, 2, ("base",), _OTHER_PROMPTS, self.sampler)
        takes = load_pool(self.checkpoints, self.folder.parent, config)
        versions, judge = VersionStore(self.checkpoints, data), load_judge(self.checkpoints)
        made, before = versions.versions()[-1], [row[0] for row in takes.motions]
        seeds = [seed_of(config, prompt, 0) for prompt in range(self.prompts)]
        frames, model = [len(motion) for motion in before], versions.load(made.name)
        after = sample_motions(model, load_text_encoder(), takes.prompts, frames, seeds, self.sampler, batch_size=32)
        annotator = Annotator(rule, matching=judge_matching(judge))
        columns = (before, [row[1] for row in takes.motions], after)
        values = np.array([[annotator.statistic(m, p) for m, p in zip(c, takes.prompts, strict=True)] for c in columns])
        shift = float((values[2] - values[0]).mean())
        return {
            "version": made.name,
            "learnt": list(made.learnt),
            "shift": shift,
            "in_sd": shift / float(values[:2].std()),
            "in_sd_within_prompts": shift / float(np.sqrt(((values[0] - values[1]) ** 2).mean() / 2)),
            "r_precision_3": [r_at_3(judge, takes.prompts, motions) for motions in (before, after)],
        }


@torch.no_grad()
def r_at_3(judge: Any, prompts: Sequence[str], motions: Sequence[np.ndarray]) -> float:
    """The judge's R@3 in pools of 32 prompts, or of all where there are fewer; mean of 20 draws."""
    rows = [judge.embed_motion(torch.from_numpy(m)[None], torch.tensor([len(m)]))[0].numpy() for m in motions]
    text, size = judge.embed_text(prompts).numpy(), min(POOL_SIZE, len(prompts))
    draws = [distinct_pools(list(prompts), np.random.default_rng(draw), size) for draw in range(20)]
    return float(np.mean([r_precision(text, np.array(rows), pools)[2] for pools in draws]))


def store_votes(data: Path, pairs: Sequence[PreferencePair], pool: Pool) -> None:
    """The pairs as an annotator's votes in a fresh store."""
    store = PreferenceStore(data)
    try:
        for pair in pairs[len(store.votes()) :]:
            names = (pair.chosen_sha256.split("/"), pair.rejected_sha256.split("/"))
            left, right = (_take(store, pair.prompt, pool.motions[int(p)][int(t)]) for p, t in names)
            shown = Pair(uuid.uuid4().hex, left, right, now())
            store.add_pair(shown)
            store.record_vote(shown.id, "tie" if pair.tie else "left", pair.annotator, "benchmark")
    finally:
        store.close()


def _take(store: PreferenceStore, prompt: str, motion: np.ndarray) -> Take:
    sha256 = store.save_motion(motion)
    return Take(prompt, 0, len(motion), 1, 1.0, "dpm++", "pool", "", "minilm", "cpu", "benchmark", "", sha256)


def shifts_table(shifts: Mapping[str, Mapping[str, Any]]) -> str:
    """One live step a rule, as Markdown."""
    lines = [
        "One live step, on prompts not voted on; standard deviations of base takes\n",
        "| rule | shift, sd | shift, sd within prompts | R@3 before | after | seconds | learnt |",
        "| --- |" + " ---: |" * 5 + " --- |",
    ]
    for rule, found in shifts.items():
        if "failed" in found:
            lines.append(f"| {rule} | | | | | | {found['failed']} |")
            continue
        before, after = found["r_precision_3"]
        figures = [found["in_sd"], found["in_sd_within_prompts"]]
        cells = [
            *(f"{value:+.2f}" for value in figures),
            f"{before:.3f}",
            f"{after:.3f}",
            f"{found['live_step_s']:.0f}",
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} | {', '.join(found['learnt'])} |")
    return "\n".join(lines)
