"""Where reward and judge part: the update after which a policy pleases its reward only. Reports only, no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from core.metrics.intervals import LEVEL, paired_difference


@dataclass(frozen=True)
class Look:
    """A policy after `update` updates on fixed prompts: mean rewards by name, the judge's distance of each prompt."""

    update: int
    reward: float  # what was trained on
    unseen: dict[str, float]  # rewards that were not
    distances: list[float]  # (N,)

    @property
    def mm_dist(self) -> float:
        """Mean distance of texts and motions."""
        return float(np.mean(self.distances))


def parting(looks: Sequence[Look]) -> int | None:
    """Update of the best policy that a later one with a higher reward falls behind in MM-Dist; None where none does.

    Distances are paired by prompt, looks in the order of their updates. Every pair of looks is asked and the best of
    them is picked afterwards, so each interval has the level that makes 95 % of all together (Bonferroni).
    """
    pairs = list(combinations(looks, 2))
    level = 1 - (1 - LEVEL) / max(1, len(pairs))
    left = [before for before, after in pairs if after.reward > before.reward and _worse(before, after, level)]
    return min(left, key=lambda look: look.mm_dist).update if left else None


def _worse(before: Look, after: Look, level: float) -> bool:
    return paired_difference(np.array(before.distances), np.array(after.distances), level).low > 0


def sentence(looks: Sequence[Look]) -> str:
    """What the card says."""
    at, last = parting(looks), looks[-1]
    changes = f"reward {last.reward - looks[0].reward:+.4f}, MM-Dist {last.mm_dist - looks[0].mm_dist:+.4f}"
    if at is None:
        return f"No parting of reward and judge is shown within {last.update} updates ({changes} at the end)."
    best = next(look for look in looks if look.update == at)
    return (
        f"Reward and judge part after update {at}, where MM-Dist is {best.mm_dist - looks[0].mm_dist:+.4f} beside the "
        f"base; update {last.update} has {changes}."
    )


def picture(looks: Sequence[Look]) -> bytes:
    """PNG: rewards (left axis) and the judge's MM-Dist (right axis) against updates, a line where they part."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    right, updates = left.twinx(), [look.update for look in looks]
    left.plot(updates, [look.reward for look in looks], "C0o-", label="reward, trained on")
    for i, name in enumerate(looks[0].unseen):
        left.plot(updates, [look.unseen[name] for look in looks], f"C{i + 2}o--", label=f"{name}, never trained on")
    right.plot(updates, [look.mm_dist for look in looks], "C1s-", label="judge: MM-Dist, lower is better")
    right.invert_yaxis()
    if (at := parting(looks)) is not None:
        left.axvline(at, color="gray", linestyle=":", label="they part")
    left.set_xlabel("updates")
    left.set_ylabel("reward")
    right.set_ylabel("MM-Dist (downwards)")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
