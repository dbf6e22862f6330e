"""Where reward and judge part: from which policy on they please the reward only. Reports only, no training.

Policies lie along the updates of a run, or along the change that an average makes to the base, from none to twice it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from core.metrics.intervals import LEVEL, paired_difference


@dataclass(frozen=True)
class Look:
    """A policy on fixed prompts: mean rewards by name, the judge's distance of each prompt."""

    place: float  # updates it has seen, or multiple of the shipped change that it makes; 0 is the base
    reward: float  # what was trained on
    unseen: dict[str, float]  # rewards that were not
    distances: list[float]  # (N,)

    @property
    def mm_dist(self) -> float:
        """Mean distance of texts and motions."""
        return float(np.mean(self.distances))


def parting(looks: Sequence[Look]) -> float | None:
    """Place of the best policy that a later one with a higher reward falls behind in MM-Dist; None where none does.

    Distances are paired by prompt, looks in the order of their places. Every pair of looks is asked and the best of
    them is picked afterwards, so each interval has the level that makes 95 % of all together (Bonferroni).
    """
    pairs = list(combinations(looks, 2))
    level = 1 - (1 - LEVEL) / max(1, len(pairs))
    left = [before for before, after in pairs if after.reward > before.reward and _worse(before, after, level)]
    return min(left, key=lambda look: look.mm_dist).place if left else None


def _worse(before: Look, after: Look, level: float) -> bool:
    return paired_difference(np.array(before.distances), np.array(after.distances), level).low > 0


def sentence(looks: Sequence[Look], averaged: bool = False) -> str:
    """What the card says. averaged: places are multiples of the change that ships, not updates."""
    at, last, base = parting(looks), looks[-1], looks[0]
    change, end = ("{:g} times the change that ships" if averaged else "{:g} updates").format, last.place
    shipped = next((look for look in looks if averaged and look.place == 1.0), None)
    told = f"What ships: {_beside(shipped, base)}. " if shipped else ""
    if at is None:
        return f"{told}No parting of reward and judge is shown up to {change(end)} ({_beside(last, base)} there)."
    best = next(look for look in looks if look.place == at)
    return (
        f"{told}Reward and judge part after {change(at)} ({_beside(best, base)}): after {change(end)} "
        f"{_beside(last, base)}."
    )


def _beside(look: Look, base: Look) -> str:
    return f"reward {look.reward - base.reward:+.4f}, MM-Dist {look.mm_dist - base.mm_dist:+.4f}"


def picture(looks: Sequence[Look], averaged: bool = False) -> bytes:
    """PNG: rewards (left axis) and the judge's MM-Dist (right axis) against places, a line where they part."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    right, places = left.twinx(), [look.place for look in looks]
    left.plot(places, [look.reward for look in looks], "C0o-", label="reward, trained on")
    for i, name in enumerate(looks[0].unseen):
        left.plot(places, [look.unseen[name] for look in looks], f"C{i + 2}o--", label=f"{name}, never trained on")
    right.plot(places, [look.mm_dist for look in looks], "C1s-", label="judge: MM-Dist, lower is better")
    right.invert_yaxis()
    if (at := parting(looks)) is not None:
        left.axvline(at, color="gray", linestyle=":", label="they part")
    left.set_xlabel("multiple of the change that ships" if averaged else "updates")
    left.set_ylabel("reward")
    right.set_ylabel("MM-Dist (downwards)")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
