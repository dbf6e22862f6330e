"""How much is learnt from how many votes, by simulated annotators with one hidden rule each.

    python -m benchmarks.live_loop                 # accuracy on held-out pairs; minutes, most of it the pool of takes
    python -m benchmarks.live_loop --align         # and one live step a rule: does the hidden statistic move?
    python -m benchmarks.live_loop --smoke         # does it run?

Takes are made once (base and aligned, other noise each), prompts are split into those voted on and those held out. A
vote is on a take by either version, as on the page: drawn at random, or the most telling of all such pairs.
Accuracy is the share of all pairs of held-out takes that are put in the rule's order; votes are noisy, those pairs are
not. Prints a table, writes live-loop.json and live-loop.png; what is done already is not done again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.generation import deliver, machine
from benchmarks.live_align import AlignPart, shifts_table
from benchmarks.takes import Pool, PoolConfig, load_pool
from core.commands.console import ProgressLine, exit_code
from core.diffusion.rollout import SamplerConfig
from core.models.checkpoint import fingerprint, load_judge, load_reward
from core.models.reward import RewardModel
from core.motion.files import atomic_write
from core.preference.active import most_telling
from core.preference.annotators import RULES, Annotator, judge_matching
from core.preference.head import PreferenceReward
from core.preference.pairs import PreferencePair
from core.preference.refine import RefineConfig, embed_motions, embed_prompts, learn_head
from core.text.encoder import load_text_encoder

log = logging.getLogger(__name__)
WAYS = ("random", "active")
_RELEARN = 10  # votes between two heads while pairs are chosen actively


@dataclass(frozen=True)
class LiveLoop:
    """Simulate annotators."""

    checkpoints: Path = Path("checkpoints")
    reward: str = "reward-spl"  # folder below checkpoints that the votes build on
    out: Path = Path("outputs/live-loop")
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(prompts=80))
    skip: int = 0  # first prompts of the pool that are left alone, such as those that settings were chosen on
    held_out: float = 0.4  # share of the prompts that nobody votes on
    rules: tuple[str, ...] = tuple(RULES)
    votes: tuple[int, ...] = (5, 10, 20, 30, 50, 100)
    seeds: tuple[int, ...] = (0, 1, 2)
    noise: float = 0.1  # share of votes that are flipped
    threads: int = 1
    align: bool = False  # one live step for each rule, of the first seed and `align_votes` votes
    align_votes: int = 50
    align_prompts: int = 128  # not voted on, that the hidden statistic and the judge look at
    smoke: bool = False  # a few takes of a few steps

    def __post_init__(self) -> None:
        if unknown := set(self.rules) - set(RULES):
            raise ValueError(f"rules={sorted(unknown)} are unknown. Choose from {', '.join(RULES)}.")
        if not 0.0 < self.held_out < 1.0:
            raise ValueError(f"held_out={self.held_out} is outside 0-1. It is a share of the prompts.")
        if len(self.pool.versions) < 2:
            raise ValueError(f"pool.versions={self.pool.versions} must be two or more: people compare takes by two.")


@dataclass(frozen=True)
class Stage:
    """What all annotators share. statistics: rule -> (P, T); names of takes are "<prompt>/<take>"."""

    pool: Pool
    base: RewardModel
    vectors: dict[str, Tensor]
    words: dict[str, Tensor]
    statistics: dict[str, np.ndarray]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""

    def work() -> None:
        config = tyro.cli(LiveLoop, args=arguments, prog="python -m benchmarks.live_loop")
        report = run(tiny(config) if config.smoke else config)
        image = picture(report)
        atomic_write(config.out / "live-loop.png", lambda file: file.write(image))
        deliver(report, markdown(report), config.out / "live-loop.json")

    return exit_code(work)


def tiny(config: LiveLoop) -> LiveLoop:
    """The same at the least size that runs."""
    pool = PoolConfig(6, 3, config.pool.versions, sampler=SamplerConfig(2, solver="dpm++"))
    return replace(config, pool=pool, votes=(3, 6), seeds=(0,), align_votes=6, align_prompts=6)


def run(config: LiveLoop) -> dict[str, Any]:
    """Accuracies and, where asked for, shifts. Side effect: sets PyTorch's threads. Raises as load_pool does."""
    torch.set_num_threads(config.threads)
    stage = set_stage(config)
    accuracy: dict[str, dict[str, Any]] = {}
    bar = ProgressLine("annotators")
    for done, (seed, rule) in enumerate([(s, r) for s in config.seeds for r in config.rules], start=1):
        cell = config.out / "cells" / f"{_key(config)}-{rule.replace(' ', '-')}-{seed}.json"
        if not cell.exists():
            _store(cell, learn_curve(config, stage, rule, seed))
        accuracy.setdefault(rule, {})[str(seed)] = json.loads(cell.read_text())
        bar(done, len(config.seeds) * len(config.rules), rule)
    report = {"config": asdict(config), "machine": machine(), "accuracy": accuracy}
    return report | ({"align": align_part(config, stage)} if config.align else {})


def _key(config: LiveLoop) -> str:
    """What the accuracies depend on beside code: other settings get other cells."""
    weights = [fingerprint(config.checkpoints / name) for name in (config.reward, *config.pool.versions)]
    parts = (weights, asdict(config.pool), config.skip, config.held_out, config.votes, config.noise, "either version")
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _store(path: Path, value: Any) -> None:
    atomic_write(path, lambda file: file.write(json.dumps(value, indent=1).encode()))


def set_stage(config: LiveLoop) -> Stage:
    """The pool, embedded once, and every rule's statistic of every take."""
    pool = load_pool(config.checkpoints, config.out, config.pool, ProgressLine("takes"))
    base, encoder = load_reward(config.checkpoints, name=config.reward), load_text_encoder()
    takes = {f"{p}/{t}": motion for p, row in enumerate(pool.motions) for t, motion in enumerate(row)}
    matching = judge_matching(load_judge(config.checkpoints))
    statistics = {}
    for rule in config.rules:
        annotator = Annotator(rule, matching=matching)
        rows = zip(pool.prompts, pool.motions, strict=True)
        statistics[rule] = np.array([[annotator.statistic(motion, text) for motion in row] for text, row in rows])
    words = embed_prompts(base, pool.prompts, encoder)
    return Stage(pool, base, embed_motions(base, list(takes), takes.__getitem__), words, statistics)


def split_prompts(config: LiveLoop, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts voted on, and held-out ones."""
    order = np.random.default_rng((seed, 0)).permutation(np.arange(config.skip, config.pool.prompts))
    held = max(1, round(config.held_out * len(order)))
    return order[held:], order[:held]


def learn_curve(config: LiveLoop, stage: Stage, rule: str, seed: int) -> dict[str, Any]:
    """Accuracy at every number of votes for both ways to choose pairs, and of the un-refined reward."""
    voted, held = split_prompts(config, seed)
    result: dict[str, Any] = {"base": order_accuracy(None, stage, rule, held)}
    for way in WAYS:
        pairs: list[PreferencePair] = []
        result[way] = []
        for votes in config.votes:
            cast_votes(pairs, votes, way, config, stage, rule, seed, voted)
            head, _ = learn_head(stage.base, pairs, stage.vectors, stage.words, RefineConfig())
            result[way].append(order_accuracy(head, stage, rule, held))
    log.info("%s, seed %d: %s", rule, seed, {k: np.round(v, 3).tolist() for k, v in result.items()})
    return result


def cast_votes(
    pairs: list[PreferencePair],
    total: int,
    way: str,
    config: LiveLoop,
    stage: Stage,
    rule: str,
    seed: int,
    voted: np.ndarray,
) -> None:
    """Append votes until there are `total`; the prompts take turns, a pair is drawn or the most informative one."""
    head = None
    while len(pairs) < total:
        n = len(pairs)
        rng = np.random.default_rng((seed, 1, n))
        prompt = int(np.random.default_rng((seed, 2, n // len(voted))).permutation(voted)[n % len(voted)])
        if way == "active" and n >= config.votes[0] and (head is None or n % _RELEARN == 0):
            head, _ = learn_head(stage.base, pairs, stage.vectors, stage.words, RefineConfig())
        left, right = shown_pairs(config.pool)
        pick = rng.integers(len(left))
        if head is not None:
            inputs = inputs_of(head, stage, prompt)
            pick, _ = most_telling(head, inputs[left], inputs[right])
        i, j = left[pick], right[pick]
        values = stage.statistics[rule][prompt]
        annotator = Annotator(rule, config.noise, seed=_slip(rule, seed, n), matching=_no_judge)
        verdict, moment = annotator.verdict(values[i], values[j]), datetime.fromtimestamp(n, UTC)
        chosen, rejected = (i, j) if verdict == "left" else (j, i)
        names = f"{prompt}/{chosen}", f"{prompt}/{rejected}"
        pairs.append(PreferencePair(stage.pool.prompts[prompt], *names, "human", verdict == "tie", 1.0, rule, moment))


def shown_pairs(pool: PoolConfig) -> tuple[np.ndarray, np.ndarray]:
    """Takes (N,) and (N,) of all pairs that are by different versions; a pool's takes are by the versions in turn."""
    i, j = np.triu_indices(pool.takes, 1)
    different = (j - i) % len(pool.versions) != 0
    return i[different], j[different]


def _slip(rule: str, seed: int, vote: int) -> int:
    """Seed of what decides whether a vote is flipped: whatever pair is shown."""
    return 1_000_000 * tuple(RULES).index(rule) + 1000 * seed + vote


def _no_judge(_features: np.ndarray, _prompt: str) -> float:
    raise AssertionError("the statistics are known already")


def inputs_of(head: PreferenceReward, stage: Stage, prompt: int) -> Tensor:
    """Inputs (T, D) of all takes of a prompt."""
    takes = len(stage.pool.motions[prompt])
    words = stage.words[stage.pool.prompts[prompt]].expand(takes, -1)
    return head.inputs(torch.stack([stage.vectors[f"{prompt}/{t}"] for t in range(takes)]), words)


@torch.no_grad()
def order_accuracy(head: PreferenceReward | None, stage: Stage, rule: str, prompts: np.ndarray) -> float:
    """Share of pairs of takes of one prompt that are in the rule's order; equal ones are half right. None: base."""
    right = []
    for prompt in prompts.tolist():
        if head is None:
            words = stage.words[stage.pool.prompts[prompt]]
            size = len(words)
            vectors = torch.stack([stage.vectors[f"{prompt}/{t}"] for t in range(len(stage.pool.motions[prompt]))])
            utility = (vectors[:, -size:] @ words).numpy()
        else:
            utility = (inputs_of(head, stage, prompt) @ head.weight).numpy()
        i, j = np.triu_indices(len(utility), 1)
        truth = stage.statistics[rule][prompt]
        right.append(0.5 + 0.5 * np.sign((utility[i] - utility[j]) * (truth[i] - truth[j])))
    return float(np.concatenate(right).mean())


def align_part(config: LiveLoop, stage: Stage) -> dict[str, Any]:
    """One live step for each rule; see benchmarks.live_align."""
    folder = config.out / f"align-{_key(config)}"
    part = AlignPart(config.checkpoints, config.reward, folder, config.align_prompts, config.pool.sampler)
    voted, _ = split_prompts(config, config.seeds[0])
    found = {}
    for rule in config.rules:
        pairs: list[PreferencePair] = []
        cast_votes(pairs, config.align_votes, "random", config, stage, rule, config.seeds[0], voted)
        found[rule] = part.run(rule, pairs, stage.pool)
    return found


def means(report: Mapping[str, Any], rules: Sequence[str]) -> dict[str, np.ndarray]:
    """Way -> accuracy (votes,) averaged over rules and seeds; "base" -> (1,)."""
    cells = [cell for rule in rules for cell in report["accuracy"][rule].values()]
    return {way: np.mean([np.atleast_1d(cell[way]) for cell in cells], axis=0) for way in ("base", *WAYS)}


def markdown(report: Mapping[str, Any]) -> str:
    """Accuracy against votes, a row a rule and a way, and the shifts."""
    votes, rules = report["config"]["votes"], list(report["accuracy"])
    seeds = len(next(iter(report["accuracy"].values())))
    lines = [
        f"Held-out pair accuracy, {seeds} seeds, {report['config']['noise']:.0%} of the votes flipped\n",
        f"| rule | pairs | un-refined | {' | '.join(map(str, votes))} |",
        "| --- | --- |" + " ---: |" * (1 + len(votes)),
    ]
    for label, group in [*((rule, [rule]) for rule in rules), ("**mean**", rules)]:
        found = means(report, group)
        for way in WAYS:
            cells = " | ".join(f"{value:.3f}" for value in found[way])
            lines.append(f"| {label} | {way} | {found['base'][0]:.3f} | {cells} |")
    return "\n".join(lines) + ("\n\n" + shifts_table(report["align"]) if "align" in report else "")


def picture(report: Mapping[str, Any]) -> bytes:
    """PNG: accuracy against votes, one small plot a rule, the mean last."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    votes, rules = report["config"]["votes"], list(report["accuracy"])
    panels = [*((rule, [rule]) for rule in rules), ("mean", rules)]
    figure = Figure(figsize=(3.0 * min(4, len(panels)), 2.6 * -(-len(panels) // 4)), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (label, group) in enumerate(panels):
        axes, found = figure.add_subplot(-(-len(panels) // 4), min(4, len(panels)), number + 1), means(report, group)
        axes.axhline(found["base"][0], color="gray", linestyle=":", label="un-refined")
        for way in WAYS:
            axes.plot(votes, found[way], marker="o", markersize=3, label=way)
        axes.set(title=label, ylim=(0.4, 1.0), xlabel="votes")
        axes.grid(alpha=0.25)
    figure.axes[0].legend(fontsize=7)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
