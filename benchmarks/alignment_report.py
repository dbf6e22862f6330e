"""What the measurements say: derived figures, one Markdown table a stage, one figure; all from the results alone.

results: {"cost": {row: figures}, "base": {"val": figures, "test": {seed: figures}}, "curves": {row: {seed: cell}}},
as benchmarks.alignment stores them; seeds are strings, as in JSON.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.metrics.intervals import Interval, PairedDifference, paired_difference, t_interval

Points = Sequence[Mapping[str, Any]]
OURS, RIVAL = "easytune", "draft-50"  # what the headlines compare: every row of EasyTune, with the rival
TITLES = {"seconds": "wall-clock", "cpu_seconds": "processor"}
MEGABYTE = 1e6
LATE = 1.1  # a look is made after the update in which it falls due: up to a tenth later it counts for its time
_TEST = {"r_precision_3": "R@3", "near_miss_1": "near-miss R@1", "fid": "FID", "skating": "skating, m/s"}


def gain_at(points: Points, base: float, seconds: float, clock: str) -> float:
    """By how much MM-Dist is below the base at the last point not after LATE x `seconds` of training; NaN before."""
    reached = [point["mm_dist"] for point in points if point[clock] <= LATE * seconds + 1e-9]
    return base - reached[-1] if reached else float("nan")


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean with interval over all seeds; NaN where a seed was not looked at yet: the others alone tell another mean."""
    return t_interval(values if not np.isnan(values).any() else [])


def best(points: Points, clock: str) -> tuple[float, float]:
    """(lowest MM-Dist, training seconds when it was first met)."""
    low = min(point["mm_dist"] for point in points)
    return low, next(point[clock] for point in points if point["mm_dist"] == low)


def seconds_to_reach(points: Points, mm_dist: float, clock: str) -> float | None:
    """Training seconds of the first point at or below `mm_dist`, None if there is none; nothing is interpolated."""
    return next((point[clock] for point in points if point["mm_dist"] <= mm_dist), None)


def equal_time(curves: Mapping[str, Mapping[str, Any]], clock: str) -> float:
    """The longest training time that every curve has reached, s."""
    return min(cell["points"][-1][clock] for seeds in curves.values() for cell in seeds.values())


def headlines(results: Mapping[str, Any], clock: str) -> dict[str, dict[str, Any]]:
    """Row -> figures of each row of EasyTune that was measured beside DRaFT-50."""
    rows = sorted({name for part in ("cost", "curves") for name in results[part] if name.startswith(OURS)})
    found = {row: cost_headline(results["cost"], row) | curve_headline(results, clock, row) for row in rows}
    return {row: figures for row, figures in found.items() if figures}


def cost_headline(cost: Mapping[str, Mapping[str, Any]], row: str = OURS) -> dict[str, float]:
    """Ratios of a row to DRaFT-50: memory as shares, time as factors; {} unless both were measured."""
    ours, rival = cost.get(row, {}), cost.get(RIVAL, {})
    if "saved_bytes" not in ours or "saved_bytes" not in rival:
        return {}
    short, long = sorted(ours["saved_bytes"], key=int)
    found = {
        f"memory saved for backward, T = {long} over T = {short}": ours["saved_bytes"][long]
        / ours["saved_bytes"][short],
        f"memory saved for backward over {RIVAL}'s": ours["saved_bytes"][long] / rival["saved_bytes"][long],
    }
    for kind in ("process", "cuda"):
        if rival.get(f"{kind}_bytes"):
            found[f"additional {kind} peak over {RIVAL}'s"] = ours[f"{kind}_bytes"] / rival[f"{kind}_bytes"]
    for kind in ("wall", "cpu"):
        (update, whole), (other, other_whole) = (update_s(figures, kind) for figures in (ours, rival))
        found[f"update cheaper than {RIVAL}'s by, {kind}"] = other / update
        found[f"... with the rollout's share, {kind}"] = other_whole / whole
    return found


def update_s(cost: Mapping[str, Any], kind: str) -> tuple[float, float]:
    """Median seconds of an optimiser update: by itself, and with its share of the rollout before the first one."""
    trajectory, rollout = (statistics.median(cost[f"{what}_{kind}_s"]) for what in ("trajectory", "rollout"))
    updates = max(1, cost["updates"])
    return (trajectory - rollout) / updates, trajectory / updates


def curve_headline(results: Mapping[str, Any], clock: str, row: str = OURS) -> dict[str, Any]:
    """How much sooner a row is where DRaFT-50 is best, and what both gain in equal time, over common seeds.

    Where a seed is never there, there is no mean: one of the others alone would flatter the row.
    """
    ours, rival = results["curves"].get(row, {}), results["curves"].get(RIVAL, {})
    seeds = sorted(set(ours) & set(rival))
    if not seeds:
        return {}
    base, speed, gains = results["base"]["val"]["mm_dist"], [], []
    shared = equal_time({name: {s: cells[s] for s in seeds} for name, cells in ((row, ours), (RIVAL, rival))}, clock)
    for seed in seeds:
        target, when = best(rival[seed]["points"], clock)
        reached = seconds_to_reach(ours[seed]["points"], target, clock)
        speed.append(when / reached if reached else None)
        gains.append([gain_at(cells[seed]["points"], base, shared, clock) for cells in (ours, rival)])
    mean_gain, sooner = np.mean(gains, axis=0), f"sooner at {RIVAL}'s best MM-Dist by"
    found: dict[str, Any] = {} if None in speed else {sooner: t_interval(speed)}
    found |= {
        f"{sooner}, seeds {', '.join(seeds)}": ", ".join(f"{x:.1f}" if x else "never" for x in speed),
        "equal training time, s": shared,
        "gain in MM-Dist in equal time": over_seeds([a for a, _ in gains]),
        f"... of {RIVAL}": over_seeds([b for _, b in gains]),
        f"... more than {RIVAL}": over_seeds([a - b for a, b in gains]),
    }
    if mean_gain[1] > 0:
        found[f"... more than {RIVAL}, as a share"] = float(mean_gain[0] / mean_gain[1] - 1)
    return found


def over_time(results: Mapping[str, Any], clock: str, row: str) -> str:
    """Gain in MM-Dist over the base by a row and by DRaFT-50 at each look at the row, as a table; "" without both.

    Where DRaFT-50 has not been looked at by then on every seed there is nothing to compare with.
    """
    ours, rival = results["curves"].get(row, {}), results["curves"].get(RIVAL, {})
    seeds, base = sorted(set(ours) & set(rival)), results["base"].get("val", {}).get("mm_dist", 0.0)
    looks = min((len(ours[seed]["points"]) for seed in seeds), default=0)
    lines = [f"| {TITLES[clock]} s | {row} | {RIVAL} | difference |", "| ---: |" + " ---: |" * 3]
    for i in range(looks):
        looks_at = [ours[seed]["points"][i] for seed in seeds]
        own = [base - look["mm_dist"] for look in looks_at]
        times = [look[clock] for look in looks_at]
        other = [gain_at(rival[seed]["points"], base, at, clock) for seed, at in zip(seeds, times, strict=True)]
        cells = (own, other, [a - b for a, b in zip(own, other, strict=True)])
        shown = " | ".join(_signed(over_seeds(values)) for values in cells)
        lines.append(f"| {np.mean(times):.0f} | {shown} |")
    return "\n".join(lines) + "\n" if looks else ""


def paired_on_test(seeds: Mapping[str, Any], base: Mapping[str, Any]) -> PairedDifference:
    """MM-Dist of a row less the base's on the test prompts: same prompt, same noise; a prompt is the mean of seeds."""
    common = [seed for seed in seeds if seed in base]
    a = np.mean([base[seed]["distances"] for seed in common], axis=0)
    b = np.mean([seeds[seed]["test"]["distances"] for seed in common], axis=0)
    return paired_difference(a, b)


def cost_table(cost: Mapping[str, Mapping[str, Any]]) -> str:
    """Memory in MB and seconds, a row a method."""
    measured = [figures for figures in cost.values() if "saved_bytes" in figures]
    if not measured:
        return ""
    short, long = sorted(measured[0]["saved_bytes"], key=int)
    head = f"| method | saved T={short}, MB | saved T={long}, MB | process, MB | CUDA, MB | updates"
    head += " | s / update (with rollout) | CPU s / update (with rollout) | s / trajectory |"
    lines = [head, "| --- |" + " ---: |" * 8]
    for name, figures in cost.items():
        if "saved_bytes" not in figures:
            lines.append(f"| {name} | {figures['failed']} |" + " |" * 7)
            continue
        saved = [figures["saved_bytes"][steps] for steps in (short, long)]
        memory = [*saved, figures.get("process_bytes"), figures.get("cuda_bytes")]
        cells = ["–" if value is None else f"{value / MEGABYTE:.1f}" for value in memory]
        seconds = ["{:.3f} ({:.3f})".format(*update_s(figures, kind)) for kind in ("wall", "cpu")]
        cells += [str(figures["updates"]), *seconds, f"{statistics.median(figures['trajectory_wall_s']):.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def curve_table(results: Mapping[str, Any], clock: str) -> str:
    """What each row gained over the base, validation while learning and test at the end; means over its seeds."""
    curves = {name: seeds for name, seeds in results["curves"].items() if seeds}
    if not curves:
        return ""
    base, shared = results["base"], equal_time(curves, clock)
    titles = " | ".join(_TEST.values())
    head = f"| method | seeds | updates | MM-Dist after {shared:.0f} s | best MM-Dist | at, s | reward"
    lines = [f"{head} | test MM-Dist, paired | {titles} |", "| --- |" + " ---: |" * (7 + len(_TEST))]
    reference = [f"{np.mean([t[k] for t in base['test'].values()]):.4f}" if _has(base, k) else "–" for k in _TEST]
    value, reward = base["val"]["mm_dist"], base["val"]["reward"]
    test = np.mean([t["mm_dist"] for t in base["test"].values()])
    lines.append(f"| base | | | {value:.4f} | {value:.4f} | | {reward:.4f} | {test:.4f} | {' | '.join(reference)} |")
    lines += [_curve_row(name, seeds, base, shared, clock) for name, seeds in curves.items()]
    return "\n".join(lines) + "\n"


def _has(base: Mapping[str, Any], figure: str) -> bool:
    return all(figure in figures for figures in base["test"].values())


def _curve_row(name: str, seeds: Mapping[str, Any], base: Mapping[str, Any], shared: float, clock: str) -> str:
    points = [cell["points"] for cell in seeds.values()]
    bests = [best(p, clock) for p in points]
    reward = t_interval([p[-1]["reward"] - base["val"]["reward"] for p in points])
    cells = [
        str(len(seeds)),
        f"{np.mean([p[-1]['steps'] for p in points]):.0f}",
        _signed(over_seeds([-gain_at(p, base["val"]["mm_dist"], shared, clock) for p in points])),
        _signed(t_interval([low - base["val"]["mm_dist"] for low, _ in bests])),
        f"{np.mean([when for _, when in bests]):.0f}",
        _signed(reward),
    ]
    tested = {seed: cell for seed, cell in seeds.items() if "test" in cell}
    if not tested:
        return f"| {name} | {' | '.join(cells)} |" + " |" * (1 + len(_TEST))
    paired = paired_on_test(tested, base["test"])
    cells.append(f"{paired.mean:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}] ({paired.relative:+.1%})")
    for figure in _TEST:
        changes = (
            [cell["test"][figure] - base["test"][seed][figure] for seed, cell in tested.items()]
            if _has(base, figure)
            else []
        )
        cells.append(_signed(t_interval(changes)) if changes else "–")
    return f"| {name} | {' | '.join(cells)} |"


def _signed(value: Interval) -> str:
    if np.isnan(value.mean):
        return "–"
    half = "" if np.isnan(value.half) else f" ± {value.half:.4f}"
    return f"{value.mean:+.4f}{half}"


def _bullets(figures: Mapping[str, Any]) -> str:
    shown = {name: f"{v:.4g}" if isinstance(v, int | float) else v for name, v in figures.items()}
    return "\n".join(f"- {name}: {_signed(v) if isinstance(v, Interval) else v}" for name, v in shown.items())


def markdown(results: Mapping[str, Any], clock: str) -> str:
    """The whole report."""
    title, here = TITLES[clock], results["machine"]
    where = f"{here['cpu']}, {here['cores']} cores, load {here['load']}, PyTorch {here['torch']}"
    parts = [
        f"# Reward fine-tuners side by side\n\n{where}\n",
        *(
            f"## {row} against {RIVAL}\n\n{_bullets(figures)}\n\n{over_time(results, clock, row)}"
            for row, figures in headlines(results, clock).items()
        ),
        f"## Memory and time\n\n{cost_table(results['cost'])}" if results["cost"] else "",
        f"## Learning\n\nDifferences from the base; time is {title} training time without evaluation; ± is the 95 % "
        f"interval over seeds, [ ] over prompts.\n\n{curve_table(results, clock)}"
        if any(results["curves"].values())
        else "",
    ]
    return "\n".join(part for part in parts if part)


def picture(results: Mapping[str, Any], clock: str) -> bytes:
    """PNG: MM-Dist above, reward below; against training time on the left, optimiser updates on the right.

    Seeds are thin lines, their mean is a thick one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2, sharey="row", sharex="col")
    for row, what in enumerate(("mm_dist", "reward")):
        for column, axis in enumerate((clock, "steps")):
            axes = grid[row][column]
            axes.axhline(results["base"]["val"][what], color="gray", linestyle=":", linewidth=1, label="base")
            for number, (name, seeds) in enumerate(results["curves"].items()):
                style = {"color": f"C{number % 10}", "linestyle": ("-", "--")[number // 10 % 2]}
                lines = [[[point[key] for point in cell["points"]] for key in (axis, what)] for cell in seeds.values()]
                for line in lines:
                    axes.plot(*line, **style, linewidth=0.8, alpha=0.3 if len(lines) > 1 else 1.0)
                looks = min(len(x) for x, _ in lines)
                mean = np.mean([[values[:looks] for values in line] for line in lines], axis=0)
                axes.plot(*mean, **style, linewidth=1.8, label=name)
            axes.set_xscale("log")
            axes.grid(alpha=0.25)
            axes.set_ylabel({"mm_dist": "judge: MM-Dist, lower is better", "reward": "reward"}[what])
            label = "optimiser updates" if column else f"training, {TITLES[clock]} s"
            axes.set_xlabel(label if row else "")
    figure.legend(*grid[0][1].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
