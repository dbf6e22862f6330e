"""An evaluation as Markdown, JSON and a picture, all drawn from one table {row: {metric: Interval}}."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.metrics.intervals import Interval, PairedDifference
from core.motion.files import atomic_write

REAL = "real"  # the row of real motions
Table = Mapping[str, Mapping[str, Interval]]

# metric -> (title, +1 higher is better, -1 lower is better, 0 nearest to the real row is better)
METRICS: dict[str, tuple[str, int]] = {
    "r_precision_1": ("R@1", 1),
    "r_precision_2": ("R@2", 1),
    "r_precision_3": ("R@3", 1),
    "near_miss_1": ("Near-miss R@1", 1),
    "mm_dist": ("MM-Dist", -1),
    "fid": ("FID", -1),
    "diversity": ("Diversity", 0),
    "multimodality": ("MultiModality", 0),
    "skating": ("Foot skating, m/s", -1),
    "acceleration": ("Acceleration, m/s²", 0),
    "jerk": ("Jerk, m/s³", 0),
    "penetration": ("Floor penetration, m", -1),
    "bone_stretch": ("Bone stretch", -1),
}
# relative changes that EasyTune reports for MLD on HumanML3D (Tan et al. 2026), to read ours beside
PUBLISHED = {"mm_dist": -0.136, "r_precision_1": 0.153, "fid": -0.707}
ARROWS = {1: "↑", -1: "↓", 0: "→ real"}


@dataclass(frozen=True)
class EvaluationReport:
    """rows: {model: {metric: mean with 95 % interval}}; differences: {"aligned - base": {metric: by prompt}}."""

    rows: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, PairedDifference]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """JSON text; undefined figures become null."""
        return json.dumps(_without_nan(asdict(self)), indent=2, ensure_ascii=False)

    def to_markdown(self) -> str:
        """A table a metric a row, models as columns; below, what each compared model changes."""
        return markdown_table(self.rows) + "".join(
            f"\n{difference_table(name, changes, self.rows)}" for name, changes in self.differences.items()
        )

    def save(self, folder: str | Path, name: str = "evaluation") -> list[Path]:
        """Write name.json, name.md and name.png into `folder` (made if missing) and return their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        json_path, md_path, png_path = (folder / f"{name}.{suffix}" for suffix in ("json", "md", "png"))
        atomic_write(json_path, lambda file: file.write(self.to_json().encode()))
        atomic_write(md_path, lambda file: file.write((self.to_markdown() + "\n").encode()))
        plot(self.rows, png_path)
        return [json_path, md_path, png_path]


def load_report(path: str | Path) -> EvaluationReport:
    """Read what EvaluationReport.save wrote as JSON."""
    data = _with_nan(json.loads(Path(path).read_text(encoding="utf-8")))
    rows = {row: {metric: Interval(**value) for metric, value in cells.items()} for row, cells in data["rows"].items()}
    differences = {
        name: {metric: PairedDifference(**value) for metric, value in changes.items()}
        for name, changes in data["differences"].items()
    }
    return EvaluationReport(rows, differences, data["settings"])


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _with_nan(v) for k, v in value.items()}
    return float("nan") if value is None else value


def _present(rows: Table) -> list[str]:
    used = {metric for cells in rows.values() for metric in cells}
    return [m for m in METRICS if m in used] + sorted(used - METRICS.keys())


def format_interval(value: Interval | None) -> str:
    """`0.581 ± 0.003`, `0.581` where there is no spread, `–` where there is no figure."""
    if value is None or math.isnan(value.mean):
        return "–"
    digits = 4 if abs(value.mean) < 0.1 else 3 if abs(value.mean) < 10 else 2
    spread = "" if math.isnan(value.half) else f" ± {value.half:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def markdown_table(rows: Table) -> str:
    """Markdown table with a metric a row, since there are more metrics than models."""
    lines = [f"| metric | {' | '.join(rows)} |", f"| --- |{' --- |' * len(rows)}"]
    for metric in _present(rows):
        title, direction = METRICS.get(metric, (metric, 0))
        cells = " | ".join(format_interval(cells.get(metric)) for cells in rows.values())
        lines.append(f"| {title} {ARROWS[direction]} | {cells} |")
    return "\n".join(lines) + "\n"


def verdict(metric: str, change: PairedDifference, before: float, real: float) -> str:
    """better, worse, "changed" or "no difference shown".

    Metrics without a direction are better nearer to the real motions, and "changed" where that is not shown: the
    interval leaves out zero, but one end of it is nearer and the other is not, or `real` is NaN.
    """
    if not change.conclusive:
        return "no difference shown"
    direction = METRICS.get(metric, (metric, 0))[1]
    if direction == 0:
        nearer = [abs(before + end - real) < abs(before - real) for end in (change.low, change.high)]
        if math.isnan(real) or any(nearer) != all(nearer):
            return "changed"
        return "better" if all(nearer) else "worse"
    return "better" if change.mean * direction > 0 else "worse"


def difference_table(name: str, changes: Mapping[str, PairedDifference], rows: Table) -> str:
    """Markdown: every figure's change over the same prompts and noise, a line on Diversity beside real motion."""
    prompts = max(change.n for change in changes.values())
    after, _, before = name.partition(" - ")
    lines = [
        f"**{name}**, {prompts} prompts with the same lengths and noise; intervals 95 %\n",
        "| metric | change | interval | relative | | EasyTune on MLD |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for metric in [m for m in METRICS if m in changes]:
        change, (title, direction) = changes[metric], METRICS[metric]
        real = rows[REAL].get(metric)  # None for MultiModality: a prompt has one real motion
        word = verdict(metric, change, rows[before][metric].mean, real.mean if real else math.nan)
        published = f"{PUBLISHED[metric]:+.1%}" if metric in PUBLISHED else ""
        relative = "–" if math.isnan(change.relative) else f"{change.relative:+.1%}"
        figures = f"{change.mean:+.4f} | [{change.low:+.4f}, {change.high:+.4f}] | {relative}"
        lines.append(f"| {title} {ARROWS[direction]} | {figures} | {word} | {published} |")
    beside = [f"{row} {rows[row]['diversity'].mean / rows[REAL]['diversity'].mean - 1:+.1%}" for row in (before, after)]
    return "\n".join(lines) + f"\n\nDiversity beside that of real motions: {', '.join(beside)}.\n"


def plot(rows: Table, path: str | Path) -> None:
    """One small bar chart a metric with its 95 % whiskers, written as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = _present(rows)
    columns = min(4, max(1, len(metrics)))
    n_lines = max(1, math.ceil(len(metrics) / columns))
    figure = Figure(figsize=(3.2 * columns, 2.6 * n_lines), layout="constrained")
    FigureCanvasAgg(figure)
    for i, metric in enumerate(metrics):
        axes = figure.add_subplot(n_lines, columns, i + 1)
        values = [(row, cells[metric]) for row, cells in rows.items() if metric in cells]
        means = [v.mean for _, v in values]
        halves = [0.0 if math.isnan(v.half) else v.half for _, v in values]
        colors = [f"C{list(rows).index(row)}" for row, _ in values]
        axes.bar(range(len(values)), means, yerr=halves, capsize=3, color=colors)
        axes.set_xticks(range(len(values)), [row for row, _ in values], rotation=20, fontsize=8)
        title, direction = METRICS.get(metric, (metric, 0))
        axes.set_title(f"{title} {ARROWS[direction]}", fontsize=9)
    atomic_write(path, lambda file: figure.savefig(file, dpi=110, format="png"))
