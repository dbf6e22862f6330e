"""What each guard of EasyTune is worth: the default ones, all but one, one more, none, after as many updates.

    python -m benchmarks.guards              # an hour or two on two cores; run again after a kill
    python -m benchmarks.guards --smoke      # does it run? needs the checkpoints, not the archive

Reward, judge, skating and acceleration of fixed validation prompts beside the base. Writes report.md and rows.json to
--out. "keep 0.4" is a share of the first row's change and needs no other training. The reward shown is the first of the
ensemble, which "no ensemble" and "none" are trained on alone, so that theirs rises further than the others' could.
Stop rules and the alarm, for which the other rewards are watched, change no update, they end a run: they are added to
"none", and the last column tells where they stopped it and what shipped then.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from benchmarks.alignment_curves import Exam, make_exam
from benchmarks.alignment_setup import Benchmark, World, lasting, load_world, motions_of, refuse_others
from core.align.config import AlignConfig
from core.align.guards import EnsembleReward
from core.align.run import align
from core.commands.align import held_out_batch, recommended
from core.commands.console import ProgressLine, exit_code
from core.diffusion.ddim import from_diffusers
from core.diffusion.rollout import SamplerConfig, make_scheduler
from core.metrics.intervals import paired_difference
from core.models.checkpoint import add_adapters
from core.motion.files import atomic_write


@dataclass(frozen=True)
class Row:
    """What differs from the default settings: fields of GuardConfig and AlignConfig, rewards, the kept share."""

    guards: Mapping[str, float] = field(default_factory=dict)
    align: Mapping[str, float] = field(default_factory=dict)
    ensemble: bool = True
    watched: bool = False  # the rewards that are not trained on, by the alarm
    saturates: bool = False  # at the mean reward of real motions
    keep: float = 1.0


WHOLE = "default settings"
_NONE = {"realism_weight": 0.0, "anchor_weight": 0.0, "ema": 0.0}
_WATCHED = {**_NONE, "monitor_every": 6}
ROWS = {
    WHOLE: Row(),
    "no realism term": Row({"realism_weight": 0.0}),
    "no anchor": Row({"anchor_weight": 0.0}),
    "no EMA": Row({"ema": 0.0}),
    "no ensemble": Row(ensemble=False),
    "no alpha_bar weight": Row(align={"noise_power": 0.0}),
    "with saturation": Row(saturates=True),
    "with physical term": Row({"physical_weight": 0.1}),
    "keep 0.4": Row(keep=0.4),
    "none": Row(_NONE, {"noise_power": 0.0}, ensemble=False),
    "only stop rules": Row(_WATCHED, {"noise_power": 0.0}, ensemble=False),
    "only alarm": Row(_WATCHED, {"noise_power": 0.0}, ensemble=False, watched=True),
}
FIGURES = {
    "reward": "first reward",
    "mm_dist": "MM-Dist",
    "fid": "FID",
    "skating": "skating, m/s",
    "acceleration": "m/s²",
    "diversity": "Diversity",
}


HELD_OUT = 48  # prompts of the monitors, as `core align` has them


def _unwatched() -> AlignConfig:
    """The default settings without monitors: every row is to make the same number of updates."""
    align = recommended()
    return replace(align, keep_every=0, guards=replace(align.guards, monitor_every=0))


@dataclass(frozen=True)
class Ablation:
    """EasyTune with the guards of `core align`, with one less or more, and with none."""

    rows: tuple[str, ...] = tuple(ROWS)  # of the table
    rewards: tuple[str, ...] = ("reward", "reward-b", "reward-spl")  # of the ensemble; without it the first
    prompts: int = 128  # of the validation split
    train_items: int = 6000  # composed items that training prompts are drawn from
    archive: Path = Path("data/bandai-namco.npz")  # made by `python -m core prepare`
    checkpoints: Path = Path("checkpoints")  # folder of the models
    out: Path = Path("outputs/benchmark-guards")  # folder of the report and of every finished row
    device: str = "auto"  # cpu, cuda or mps; auto takes what is there
    threads: int = 0  # CPU threads; 0 leaves PyTorch's choice
    smoke: bool = False  # tiny settings, motions of the base in place of the archive
    align: AlignConfig = field(default_factory=_unwatched)  # of the first row

    def __post_init__(self) -> None:
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown:
            raise ValueError(f"rows={unknown} are unknown. Choose from {', '.join(ROWS)}.")
        if self.align.lora_rank < 1:
            raise ValueError(f"align.lora_rank={self.align.lora_rank}: rows are kept as adapters. Set it to 1 or more.")

    def world(self) -> Benchmark:
        """The models and prompts of the alignment benchmark."""
        sampler = SamplerConfig(2 if self.smoke else 12, solver="dpm++")
        return Benchmark(
            rewards=self.rewards[:1], ensemble=self.rewards, prompts=self.prompts, train_items=self.train_items,
            archive=self.archive, checkpoints=self.checkpoints, device=self.device, threads=self.threads,
            smoke=self.smoke, sampler=sampler, align=self.align,
        )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""

    def work() -> None:
        config = tyro.cli(Ablation, args=arguments, prog="python -m benchmarks.guards")
        print(run(tiny(config) if config.smoke else config))

    return exit_code(work)


def tiny(config: Ablation) -> Ablation:
    """The settings of --smoke: every row, almost no work."""
    return replace(
        config, prompts=8, align=replace(config.align, steps=2, last_k=1, trained_stride=1, batch=2, updates=1)
    )


def run(config: Ablation) -> str:
    """The table; rows already in --out are not made again. ValueError where --out holds other settings."""
    store, settings = config.out / "rows.json", lasting_of(config)
    found = json.loads(store.read_text()) if store.exists() else {"settings": settings, "rows": {}}
    refuse_others(found["settings"], settings, config.out)
    missing = [name for name in ("base", *config.rows) if name not in found["rows"]]
    world = load_world(config.world(), prompts=True) if missing else None
    exam = make_exam(world, "val", config.prompts) if world else None
    for name in missing:
        assert world is not None and exam is not None
        found["rows"][name] = measure(config, name, world, exam)
        text = json.dumps(found)
        atomic_write(store, lambda file, text=text: file.write(text.encode()))
    report = table(found["rows"], config.align.updates)
    atomic_write(config.out / "report.md", lambda file: file.write(report.encode()))
    return report


def lasting_of(config: Ablation) -> dict[str, Any]:
    """What the rows of one folder share, the ensemble too: the first row and most others learn from it."""
    return lasting(config.world(), config.rewards) | {"ensemble": list(config.rewards)}


def measure(config: Ablation, name: str, world: World, exam: Exam) -> dict[str, Any]:
    """The exam of the base, or of one row after its updates."""
    if name == "base":
        return exam.mark(world.model)
    row = ROWS[name]
    settings = settings_of(config, row, world.ceilings)
    watched = HELD_OUT if settings.guards.monitor_every else 0
    first, *others = (world.rewards[each] for each in config.rewards)
    folder = config.out / "runs" / (WHOLE if row.keep < 1 else name).replace(" ", "-")
    result = align(
        copy.deepcopy(world.model),
        EnsembleReward([first], others) if row.watched else world.reward(row.ensemble),
        from_diffusers(make_scheduler(SamplerConfig(settings.steps)), settings.eta),
        world.batches(settings, row.ensemble),
        settings,
        folder,
        held_out_batch(motions_of(world, "val", 300, 0), world.encoder, watched, world.device),
        ProgressLine(name),
    )
    model = copy.deepcopy(world.model)
    add_adapters(model.denoiser, result.adapters, row.keep * settings.lora_alpha / settings.lora_rank)
    ended = f"update {result.updates}: {result.stopped}" if result.stopped else "no"
    return {**exam.mark(model), "ended": ended if watched else ""}


def settings_of(config: Ablation, row: Row, ceilings: Mapping[bool, float]) -> AlignConfig:
    """The alignment of a row; ceilings: mean reward of real motions, by the ensemble or by its first reward."""
    saturation = ceilings[row.ensemble] if row.saturates else None
    guards = replace(config.align.guards, **{"saturation": saturation, **row.guards})  # type: ignore[arg-type]
    return replace(config.align, guards=guards, **row.align)  # type: ignore[arg-type]


def table(rows: Mapping[str, Mapping[str, Any]], updates: int) -> str:
    """Markdown: the base, then each row's change from it; MM-Dist with its 95 % interval, paired by prompt."""
    base = rows["base"]
    lines = [
        f"EasyTune after {updates} batches of prompts; changes from the base on the same prompts and noise.\n",
        f"| guards | {' | '.join(FIGURES.values())} | stopped |",
        "| --- |" + " ---: |" * len(FIGURES) + " --- |",
        f"| base | {' | '.join(f'{base[figure]:.4f}' for figure in FIGURES)} | |",
    ]
    for name in (name for name in ROWS if name in rows):
        figures = rows[name]
        paired = paired_difference(base["distances"], figures["distances"])
        cells = {figure: f"{figures[figure] - base[figure]:+.4f}" for figure in FIGURES}
        cells["mm_dist"] += f" [{paired.low:+.4f}, {paired.high:+.4f}]"
        lines.append(f"| {name} | {' | '.join(cells.values())} | {figures.get('ended', '')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
