"""Small line charts as SVG text. They take their colours from the page, so light and dark follow, and never jump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _PAD = 300, 92, 6  # units of the view box; the page scales it
Row = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One chart: the figure of a job's rows that it shows, and what it is called."""

    figure: str
    title: str
    hint: str  # what a reader should make of it
    before: str = ""  # figure of the model or reward without votes, where it is not the first value
    span: float = 0.0  # least height of the chart, so that noise looks like noise ...
    relative: bool = False  # ... as a share of the first value
    across: str = "done"  # figure of the rows that goes from left to right, 0-1


PANELS = (
    Panel(
        "accuracy",
        "Agreement",
        "how often it picks what you picked, on votes held out, by votes learnt from",
        "base_accuracy",
        0.4,
        across="learnt_from",
    ),
    Panel("held_out_reward_0", "Reward", "of prompts that are not trained on; should rise", span=0.01),
    Panel("held_out_distance", "Distance to base", "in units of its variance; small is safe", span=0.1),
    Panel("held_out_diversity", "Diversity", "distance between motions; should stay", span=0.3, relative=True),
)


def charts(rows: Sequence[Row]) -> str:
    """The panels of a job's rows so far (core.learning.progress); the right end is where a phase or the votes end.

    A dashed line tells the same figure without votes: of the base model, or of the reward that has not learnt.
    """
    return f'<div class="charts">{"".join(_chart(panel, rows) for panel in PANELS)}</div>'


def _chart(panel: Panel, rows: Sequence[Row]) -> str:
    known = [row for row in rows if None not in (row.get(panel.figure), row.get(panel.across))]
    found = [(float(row[panel.across]), float(row[panel.figure])) for row in known]
    before = _before(panel, rows, found)
    if panel.before and found and before is not None:
        found = [(0.0, before), *found]  # learning starts at the reward without votes
    latest = f"{found[-1][1]:.3g}" if found else "–"
    label = escape(f"{panel.title}: {latest}")
    head = f"<figcaption><b>{escape(panel.title)}</b><output>{latest}</output></figcaption>"
    drawing = _drawing(panel, found, before) if found else ""
    svg = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{drawing}</svg>'
    return f"<figure>{head}{svg}<small>{escape(panel.hint)}</small></figure>"


def _before(panel: Panel, rows: Sequence[Row], found: Sequence[tuple[float, float]]) -> float | None:
    if not panel.before:
        return found[0][1] if found else None
    return next((float(row[panel.before]) for row in rows if row.get(panel.before) is not None), None)


def _drawing(panel: Panel, points: Sequence[tuple[float, float]], before: float | None) -> str:
    """A polyline with a dot at the newest value, and the dashed line; all of them in view."""
    values = [value for _, value in points] + ([] if before is None else [before])
    least = panel.span * (abs(points[0][1]) if panel.relative else 1.0)
    middle, spread = (min(values) + max(values)) / 2, max(max(values) - min(values), least, 1e-9)

    def height(value: float) -> float:
        return _HEIGHT / 2 - (value - middle) / spread * (_HEIGHT - 2 * _PAD)

    placed = [(_PAD + x * (_WIDTH - 2 * _PAD), height(value)) for x, value in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dashed = (
        ""
        if before is None
        else f'<line x1="{_PAD}" x2="{_WIDTH - _PAD}" y1="{height(before):.1f}" y2="{height(before):.1f}"/>'
    )
    return f'{dashed}<polyline points="{path}"/><circle cx="{placed[-1][0]:.1f}" cy="{placed[-1][1]:.1f}" r="3"/>'
