"""Small line charts as SVG text. They take their colours from the page, so light and dark follow, and never jump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _PAD = 300, 92, 6  # units of the view box; the page scales it


@dataclass(frozen=True)
class Panel:
    """One chart: the figure of a job's rows that it shows, and what it is called."""

    figure: str
    title: str
    hint: str  # what a reader should make of it


PANELS = (
    Panel("accuracy", "Agreement with held-out votes", "how often the reward picks what you picked"),
    Panel("held_out_reward_0", "Reward", "of prompts that are not trained on; should rise"),
    Panel("held_out_distance", "Distance to base", "in units of its variance; small is safe"),
    Panel("held_out_diversity", "Diversity", "distance between motions; should stay"),
)


def charts(rows: Sequence[dict[str, Any]]) -> str:
    """The panels of a job's rows so far (core.learning.progress); the right end is where its phase is done."""
    return f'<div class="charts">{"".join(_chart(panel, rows) for panel in PANELS)}</div>'


def _chart(panel: Panel, rows: Sequence[dict[str, Any]]) -> str:
    found = [(float(row["done"]), float(row[panel.figure])) for row in rows if row.get(panel.figure) is not None]
    latest = f"{found[-1][1]:.3g}" if found else "–"
    label = escape(f"{panel.title}: {latest}")
    head = f"<figcaption><b>{escape(panel.title)}</b><output>{latest}</output></figcaption>"
    drawing = _line(found) if len(found) > 1 else _level(found)
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{drawing}</svg>'
    return f"<figure>{head}{svg}<small>{escape(panel.hint)}</small></figure>"


def _line(points: Sequence[tuple[float, float]]) -> str:
    """A polyline over the whole range of its values, with a dot at the newest."""
    values = [value for _, value in points]
    low, spread = min(values), (max(values) - min(values)) or 1.0
    placed = [
        (_PAD + x * (_WIDTH - 2 * _PAD), _HEIGHT - _PAD - (value - low) / spread * (_HEIGHT - 2 * _PAD))
        for x, value in points
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return f'<polyline points="{path}"/><circle cx="{placed[-1][0]:.1f}" cy="{placed[-1][1]:.1f}" r="3"/>'


def _level(points: Sequence[tuple[float, float]]) -> str:
    """A single figure between 0 and 1 as a level line; nothing for none."""
    if not points:
        return ""
    y = _HEIGHT - _PAD - min(max(points[0][1], 0.0), 1.0) * (_HEIGHT - 2 * _PAD)
    return f'<line x1="{_PAD}" x2="{_WIDTH - _PAD}" y1="{y:.1f}" y2="{y:.1f}"/>'
