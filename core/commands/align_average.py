"""`python -m core align-average aligned-a aligned-b`: one model out of several alignments of one base.

Alignments gain alike and err each in its own way, so the mean of their weights keeps the gain and sheds part of the
errors, reward hacking among them (Wortsman et al. 2022; Rame et al. 2024, WARP). It costs no network call more.

An average among them stands for the alignments it is the mean of: `align-average aligned aligned-c --name better` is
the mean of all of them alike, so that more may join when those before are no longer at hand.

A mean changes less than its members do, for their errors cancel; `--scale` goes further along it.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from core.align.adapters import summed
from core.models.card import write_card
from core.models.checkpoint import averaged, fingerprint, read_adapters, save_adapters
from core.models.lineage import lineage
from core.train.run_record import check_target, set_aside

_KEPT = ("command", "updates", "note", "minutes", "parting", "training")  # of each alignment's config.json


@dataclass(frozen=True)
class AlignAverage:
    """Average the adapters of several alignments of one base."""

    of: Annotated[tuple[str, ...], tyro.conf.Positional]  # folders below checkpoints
    name: str = "aligned"  # folder below checkpoints that is written
    checkpoints: Path = Path("checkpoints")
    rank: int | None = None  # of the mean: the nearest of that rank, a smaller file; None = the sum of the ranks
    scale: float = 1.0  # times the mean change; above 1 goes beyond the mean, below 1 stays nearer to the base

    def __post_init__(self) -> None:
        if len(set(self.of)) < max(2, len(self.of)) or self.name in self.of:
            raise ValueError(f"of={self.of} must name two or more different alignments, none of them {self.name!r}.")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank={self.rank} must be at least 1, or None to keep all.")
        if not 0.0 < self.scale <= 3.0:
            raise ValueError(f"scale={self.scale} is outside (0, 3]. Use 1 for the mean itself.")


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(AlignAverage, args=arguments, prog="python -m core align-average")
    run(config, shlex.join(["python", "-m", "core", "align-average", *arguments]))
    times = "" if config.scale == 1 else f", times {config.scale:g}"
    print(f"{config.checkpoints / config.name} is the mean of {', '.join(config.of)}{times}.")


def run(config: AlignAverage, command: str = "python -m core align-average") -> None:
    """Write checkpoints/<name> with a card that tells of each alignment.

    FileNotFoundError or ValueError, as a sentence, for folders that hold no adapters, or adapters of different bases.
    """
    folders = [config.checkpoints / name for name in config.of]
    found = [read_adapters(folder) for folder in folders]
    described = [each for each, _ in found]
    if len({each["config"]["base"] for each in described}) > 1:
        raise ValueError(f"{', '.join(config.of)} were aligned from different bases. Average alignments of one base.")
    base = described[0]["config"].get("from", "base")
    check_target(config.name, (*lineage(config.checkpoints, base), "vae", "judge"))
    if described[0]["config"]["base"] != fingerprint(config.checkpoints / base):
        raise ValueError(f"{', '.join(config.of)} were aligned from another base than {config.checkpoints / base}.")
    members = _members(config.of, described)
    counts = [len(each.get("averaged", {"": each})) for each in described]
    scales = [1.0 if "averaged" in each else float(each["config"]["scale"]) for each in described]
    shares = [scale * n / sum(counts) for scale, n in zip(scales, counts, strict=True)]
    adapters = summed([(tensors, share) for (_, tensors), share in zip(found, shares, strict=True)], config.rank)
    means = {}
    for name, each in zip(config.of, described, strict=True):
        means |= {**each.get("means", {}), name: each["command"]} if "averaged" in each else {}
    meta: dict[str, Any] = {"command": command, "averaged": members, "means": means}
    target = config.checkpoints / config.name
    set_aside(target, made_here=averaged(target) == tuple(members))
    save_adapters(target, adapters, config.scale, meta, base)
    for name, folder in zip(config.of, folders, strict=True):
        for curve in folder.glob("curve-*.png" if averaged(folder) else "curve.png"):
            shutil.copyfile(curve, target / (f"curve-{name}.png" if curve.stem == "curve" else curve.name))
    write_card(target, command)


def _members(names: Sequence[str], described: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is kept of every alignment, of those behind an average too, by its name; ValueError for one named twice."""
    members: dict[str, dict[str, Any]] = {}
    for name, each in zip(names, described, strict=True):
        for member, one in each.get("averaged", {name: each}).items():
            if member in members:
                raise ValueError(f"{member} is in the mean twice. Name every alignment once, alone or by its average.")
            members[member] = {k: one[k] for k in _KEPT if k in one}
    return members
