"""Learning curves as a picture, drawn from metrics.jsonl alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.motion.files import atomic_write


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of metrics.jsonl; a cut last line, as a kill leaves it, is passed over."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def cut_metrics(path: Path, step: int) -> None:
    """Leave the whole rows up to `step`: what a killed run logged beyond its saved state is logged again."""
    if path.exists():
        kept = "".join(json.dumps(row) + "\n" for row in _rows(path) if row["step"] <= step)
        atomic_write(path, lambda file: file.write(kept.encode()))


def read_metrics(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """metrics.jsonl -> name: (steps, values), nested figures included; a cut last line is passed over.

    The x-axis is an alignment's "update" where there is one, else the training "step".
    """
    series: dict[str, tuple[list[int], list[float]]] = {}
    for row in _rows(path):
        at = row.get("update", row.get("step", 0))
        for name, value in {**row, **row.get("monitors", {})}.items():
            if name not in ("step", "seconds", "update") and isinstance(value, int | float):
                steps, values = series.setdefault(name, ([], []))
                steps.append(at)
                values.append(value)
    return series


def plot_curves(metrics: Path, picture: Path) -> None:
    """One small plot per logged quantity, side by side, written to `picture` (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = read_metrics(metrics)
    columns = 4
    rows = max(1, -(-len(series) // columns))
    figure = Figure(figsize=(3.2 * columns, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i, (name, (steps, values)) in enumerate(sorted(series.items())):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.plot(steps, values, linewidth=1.2, marker="o" if len(steps) < 30 else "", markersize=2.5)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_yscale("log")
    atomic_write(picture, lambda file: figure.savefig(file, format="png", dpi=110))
