"""What the Learn tab says, from plain values."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from app import learn_html
from app.curves import charts
from app.worker import JobStatus
from core.learning.versions import Version

EVIL = "<img src=x onerror=alert(1)>"
V1 = Version(
    "v1",
    Path("v1"),
    "aligned",
    "job",
    datetime(2026, 1, 2, tzinfo=UTC),
    12,
    EVIL,
    0.75,
    ("calmer limbs",),
    {"distance": 0.1},
)
SHIPPED = [Version("base", Path("base"), None), Version("aligned", Path("aligned"), "base")]


def test_names_and_errors_are_shown_as_text() -> None:
    """Prevents a name that votes are signed with from running as a script in another visitor's browser."""
    failed = JobStatus("failed", error=EVIL)
    running = JobStatus("running", [{"phase": "align", "done": 0.5, "seconds": 3.0}], EVIL)
    table = learn_html.versions_table([*SHIPPED, V1], ("base", "v1"))
    for html in (table, learn_html.progress(failed), learn_html.progress(running), learn_html.tally(1, EVIL, 0)):
        assert "<img" not in html and "&lt;img" in html


def test_a_version_can_be_used_or_compared_but_not_as_it_is_already() -> None:
    """Prevents buttons that change nothing, and a version without its way back."""
    rows = learn_html.versions_table([*SHIPPED, V1], ("aligned", "v1")).split("<tr")[2:]
    v1, aligned, base = rows
    assert "in use" in v1 and "data-use" not in v1 and "data-compare" not in v1
    assert "compared with" in aligned and 'data-use="aligned"' in aligned and 'data-compare="aligned"' in aligned
    assert 'data-use="base"' in base and "data-compare" not in base


def test_how_a_job_ended_is_one_sentence() -> None:
    """Prevents a page that leaves open what has become of the click."""
    done = JobStatus("done", [{"phase": "save", "done": 1.0, "seconds": 41.2}], "", V1)
    assert "v1</b> was made in 41 s and is in use" in learn_html.progress(done)
    early = replace(done, version=replace(V1, stopped="distance left its limit."))
    assert "stopped early: distance left its limit." in learn_html.progress(early)
    assert "Nothing was changed" in learn_html.progress(JobStatus("cancelled"))
    assert learn_html.progress(JobStatus("idle")) == ""


def test_empty_states_say_what_to_do() -> None:
    """Prevents an empty tab that looks broken."""
    assert "4 more votes" in learn_html.reason(1) and learn_html.reason(5) == ""
    assert "Nothing is learnt yet" in learn_html.taste(None)
    assert "More votes help" in learn_html.taste(replace(V1, learnt=()))
    assert "<li>calmer limbs</li>" in learn_html.taste(V1)
    assert charts([]).count("<figure>") == 4 and "polyline" not in charts([])


def test_curves_grow_with_the_rows_beside_what_was_before() -> None:
    """Prevents curves that stand still, and noise that looks like a collapse."""
    rows = [{"phase": "align", "done": i / 4, "held_out_diversity": 10 + 0.01 * i} for i in range(5)]
    drawn = [re.search(r'points="([^"]+)"', charts(rows[:n])) for n in (3, 5)]
    short, whole = (found[1].split() for found in drawn if found)
    assert len(short) == 3 and len(whole) == 5
    heights = [float(point.split(",")[1]) for point in whole]
    assert max(heights) - min(heights) < 2.0, "a change of 0.4 % fills the chart"
    told = charts([{"phase": "refine", "done": 1.0, "learnt_from": 1.0, "accuracy": 0.8, "base_accuracy": 0.6}])
    assert "<line" in told and "0.8" in told
