"""Learn: what the votes say, "Refine & align" in the background with live curves, and every version made so far."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import learn_html, texts
from app.curves import charts
from app.handlers import QUIET, sentence_of
from app.worker import Automatic, JobStatus, Worker
from core.engine import Engine
from core.learning.progress import MIN_VOTES
from core.preference.types import Vote

_TICK_S = 0.5
_EVERYONE = ("Everyone", "")  # label, annotator
_AUTOMATIC = [("Off", 0), ("10", 10), ("25", 25), ("50 votes", 50)]
_ROWS_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-use], button[data-compare]');
  if (button) trigger('click', { use: button.dataset.use, compare: button.dataset.compare });
});
"""


class Learn:
    """Components of the Learn tab and what they do. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine, tab: gr.Tab) -> None:
        self.engine = engine
        self.worker = Worker(engine.settings, engine.versions)
        self.automatic = Automatic(self.worker, engine.versions)
        engine.vote_listeners.append(self.after_vote)
        with gr.Row(elem_id="learn", equal_height=False):
            with gr.Column(scale=0, min_width=330, elem_id="learn-ask"):
                self._build_ask()
            with gr.Column(scale=1, min_width=320, elem_id="learn-stage"):
                self._build_stage()
        self.timer = gr.Timer(_TICK_S, active=False)
        self._wire(tab)

    def _build_ask(self) -> None:
        self.tally = gr.HTML(elem_id="tally")
        self.whose = gr.Dropdown([_EVERYONE], value="", label="Learn from the votes of", elem_id="whose")
        self.go = gr.Button("Refine & align", variant="primary", interactive=False, elem_id="refine")
        self.cancel = gr.Button("Cancel", visible=False, elem_id="stop-refine")
        self.progress = gr.HTML(elem_id="job")
        self.every = gr.Radio(_AUTOMATIC, value=0, label="Automatic, after every", elem_id="every")
        self.taste = gr.HTML(elem_id="taste")

    def _build_stage(self) -> None:
        self.curves = gr.HTML(charts([]), elem_id="curves")
        with gr.Row(elem_id="sides"):
            self.baseline = gr.Dropdown([], label="Compare", min_width=120, elem_id="baseline")
            self.candidate = gr.Dropdown([], label="with", min_width=120, elem_id="candidate")
        self.notice = gr.HTML(elem_id="learn-notice")
        self.table = gr.HTML("", js_on_load=_ROWS_JS, elem_id="versions")

    def _wire(self, tab: gr.Tab) -> None:
        """Connect clicks to handlers; a handler returns {component: new value} for what changes."""
        live = [self.go, self.cancel, self.progress, self.curves, self.timer]
        sides = [self.baseline, self.candidate]
        whole = [*live, *sides, self.tally, self.whose, self.taste, self.notice, self.table]
        free: dict[str, Any] = {"concurrency_limit": None, **QUIET}
        for trigger in (tab.select, self.whose.input):
            trigger(self.on_show, self.whose, whole, **free)
        self.go.click(self.on_start, self.whose, whole, **free)
        self.cancel.click(self.on_cancel, self.whose, whole, **free)
        self.timer.tick(self.on_tick, self.whose, whole, **free)
        self.every.input(self.on_every, [self.every, self.whose], None, **free)
        gr.on([side.input for side in sides], self.on_sides, [*sides, self.whose], whole, **free)
        self.table.click(self.on_row, self.whose, whole, **free)

    # Handlers

    def on_show(self, whose: str) -> dict[Any, Any]:
        """Everything as it is now."""
        try:
            return self._everything(whose)
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}

    def on_start(self, whose: str) -> dict[Any, Any]:
        """Start the job; the timer then shows how far it is."""
        return self._after(whose, lambda: self.worker.start(whose))

    def on_cancel(self, whose: str) -> dict[Any, Any]:
        """Stop the job; nothing of it stays."""
        return self._after(whose, self.worker.cancel)

    def on_sides(self, baseline: str, candidate: str, whose: str) -> dict[Any, Any]:
        """Compare the two versions chosen."""
        return self._after(whose, lambda: self.engine.versions.choose(baseline, candidate))

    def on_row(self, event: gr.EventData, whose: str) -> dict[Any, Any]:
        """Use a version, or compare it with its parent."""
        if event.use:
            return self._after(whose, lambda: self.engine.versions.use(event.use))
        return self._after(whose, lambda: self.engine.versions.compare_with_parent(event.compare))

    def on_every(self, every: int, whose: str) -> None:
        """Switch the automatic start on or off."""
        self.automatic.every, self.automatic.annotator = int(every), whose

    def on_tick(self, whose: str) -> dict[Any, Any]:
        """While a job runs only its bar and curves change; when it has ended, everything."""
        status = self.worker.status()
        return self._live(status) if status.state == "running" else self.on_show(whose)

    def after_vote(self, _vote: Vote) -> None:
        """Called by the engine after each vote."""
        if self.automatic.every:
            self.automatic.after_vote(self.engine.store.answers_by_annotator())

    # What is shown

    def _after(self, whose: str, action: Any) -> dict[Any, Any]:
        """Everything after an action, with its sentence if it was refused."""
        try:
            action()
        except Exception as error:
            return {**self.on_show(whose), self.notice: texts.notice(sentence_of(error), "error")}
        return self.on_show(whose)

    def _live(self, status: JobStatus) -> dict[Any, Any]:
        running = status.state == "running"
        return {
            self.go: gr.update(visible=not running),
            self.cancel: gr.update(visible=running),
            self.progress: learn_html.progress(status),
            self.curves: charts(status.rows),
            self.timer: gr.Timer(active=running),
        }

    def _everything(self, whose: str) -> dict[Any, Any]:
        versions, sides = self.engine.versions.versions(), self.engine.versions.sides()
        choices = [(texts.version_words(version.name), version.name) for version in versions]
        answers, status = self.engine.store.answers_by_annotator(), self.worker.status()
        whose = whose if whose in answers else ""
        votes = answers[whose] if whose else sum(answers.values())
        made = {version.name: version for version in versions if not version.shipped}
        live = self._live(status)
        if status.state != "running":
            live[self.go] = gr.update(visible=True, interactive=votes >= MIN_VOTES)
            live[self.progress] = learn_html.progress(status) or texts.notice(learn_html.reason(votes))
        newest = made.get(sides[1])
        return {
            **live,
            self.baseline: gr.update(choices=choices, value=sides[0]),
            self.candidate: gr.update(choices=choices, value=sides[1]),
            self.tally: learn_html.tally(votes, newest.votes if newest else 0),
            self.whose: gr.update(choices=[_EVERYONE, *((name, name) for name in answers)], value=whose),
            self.taste: learn_html.taste(newest),
            self.notice: "",
            self.table: learn_html.versions_table(versions, sides),
        }
