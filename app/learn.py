"""Learn: what the votes say, "Refine & align" in the background with live curves, and every version made so far."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app import learn_html, texts
from app.curves import charts
from app.handlers import QUIET, sentence_of
from app.worker import Automatic, JobStatus, Worker
from core.engine import Engine
from core.learning.choices import EVERY
from core.learning.progress import MIN_VOTES, read_rows
from core.learning.versions import Version

_TICK_S = 0.5
_TASTES = [("One for all", False), ("One each", True)]
_AUTOMATIC = [
    ("Off" if votes == 0 else f"{votes} votes" if votes == EVERY[-1] else str(votes), votes) for votes in EVERY
]
_ROWS_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-use], button[data-compare]');
  if (button) trigger('click', { use: button.dataset.use, compare: button.dataset.compare });
});
"""


class Learn:
    """Components of the Learn tab and what they do. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine, tab: gr.Tab, signature: gr.Textbox) -> None:
        """signature: the name that this visitor signs votes with; where tastes are apart, theirs is shown first."""
        self.engine, self.versions = engine, engine.versions
        self.worker = Worker(engine.settings, engine.versions)
        automatic = Automatic(self.worker, engine.versions, engine.store.answers_by_annotator)
        engine.vote_listeners.append(automatic.after_vote)
        with gr.Row(elem_id="learn", equal_height=False):
            with gr.Column(scale=0, min_width=330, elem_id="learn-ask"):
                self._build_ask()
            with gr.Column(scale=1, min_width=320, elem_id="learn-stage"):
                self._build_stage()
        self.timer = gr.Timer(_TICK_S, active=False)
        self._wire(tab, signature)

    def _build_ask(self) -> None:
        self.tally = gr.HTML(elem_id="tally")
        self.apart = gr.Radio(_TASTES, value=False, label="Tastes", elem_id="apart")
        self.whose = gr.Dropdown([], label="Whose taste", visible=False, elem_id="whose")
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

    def _wire(self, tab: gr.Tab, signature: gr.Textbox) -> None:
        """Connect clicks to handlers; a handler returns {component: new value} for what changes."""
        live = [self.go, self.cancel, self.progress, self.curves, self.timer]
        whole = [*live, self.tally, self.apart, self.whose, self.every, self.taste, self.notice, self.table]
        sides = [self.baseline, self.candidate]
        free: dict[str, Any] = {"outputs": [*whole, *sides], "concurrency_limit": None, **QUIET}
        tab.select(self.on_open, [self.whose, signature], **free)
        self.whose.input(self.on_show, self.whose, **free)
        self.apart.input(self.on_apart, [self.apart, signature], **free)
        self.every.input(self.on_every, [self.every, self.whose], **free)
        self.go.click(self.on_start, self.whose, **free)
        self.cancel.click(self.on_cancel, self.whose, **free)
        self.timer.tick(self.on_tick, self.whose, **free)
        gr.on([side.input for side in sides], self.on_sides, [*sides, self.whose], **free)
        self.table.click(self.on_row, self.whose, **free)

    # Handlers; `whose` is the annotator whose taste is shown, None or empty while all share one

    def on_open(self, whose: str | None, signature: str) -> dict[Any, Any]:
        """Everything as it is now, of the visitor's own taste first."""
        return self.on_show(whose or signature.strip())

    def on_show(self, whose: str | None) -> dict[Any, Any]:
        """Everything as it is now."""
        try:
            return self._everything(whose or "")
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}

    def on_apart(self, apart: bool, signature: str) -> dict[Any, Any]:
        """Switch between one taste for all and one for each annotator."""
        return self._after(signature.strip(), lambda: self.versions.keep_apart(apart))

    def on_every(self, every: int, whose: str | None) -> dict[Any, Any]:
        """Switch the automatic start on or off."""
        return self._after(whose, lambda: self.versions.learn_every(every))

    def on_start(self, whose: str | None) -> dict[Any, Any]:
        """Start the job; the timer then shows how far it is."""
        return self._after(whose, lambda: self.worker.start(self._annotator(whose)))

    def on_cancel(self, whose: str | None) -> dict[Any, Any]:
        """Stop the job; nothing of it stays."""
        return self._after(whose, self.worker.cancel)

    def on_sides(self, baseline: str, candidate: str, whose: str | None) -> dict[Any, Any]:
        """Compare the two versions chosen."""
        return self._after(whose, lambda: self.versions.choose(baseline, candidate, self._annotator(whose)))

    def on_row(self, event: gr.EventData, whose: str | None) -> dict[Any, Any]:
        """Use a version, or compare it with its parent."""
        act, name = (self.versions.use, event.use) if event.use else (self.versions.compare_with_parent, event.compare)
        return self._after(whose, lambda: act(name, self._annotator(whose)))

    def on_tick(self, whose: str | None) -> dict[Any, Any]:
        """While a job runs only its bar and curves change; when it has ended, everything."""
        status = self.worker.status()
        return self._live(status) if status.state == "running" else self.on_show(whose)

    # What is shown

    def _annotator(self, whose: str | None) -> str:
        """Whose head and versions are meant: nobody's own while all share one."""
        return whose or "" if self.versions.choices().apart else ""

    def _after(self, whose: str | None, action: Callable[[], object]) -> dict[Any, Any]:
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
        answers, choices = self.engine.store.answers_by_annotator(), self.versions.choices()
        annotator = (whose or next(iter(answers), "")) if choices.apart else ""
        votes = answers.get(annotator, 0) if annotator else sum(answers.values())
        newest = self.versions.newest(annotator)
        names = list(dict.fromkeys(filter(None, (*answers, annotator))))
        status = self.worker.status()
        live = self._live(status)
        if not status.rows and newest:  # nothing was made since the start of the program
            live[self.curves] = charts(read_rows(newest.folder))
        if status.state != "running":
            live[self.go] = gr.update(visible=True, interactive=votes >= MIN_VOTES)
            live[self.progress] = learn_html.progress(status) or texts.notice(learn_html.reason(votes))
        return {
            **live,
            **self._versions_shown(annotator),
            self.tally: learn_html.tally(votes, annotator, newest.votes if newest else 0),
            self.apart: choices.apart,
            self.whose: gr.update(choices=names, value=annotator or None, visible=choices.apart),
            self.every: choices.every,
            self.taste: learn_html.taste(newest),
            self.notice: "",
        }

    def _versions_shown(self, annotator: str) -> dict[Any, Any]:
        versions: list[Version] = self.versions.versions()
        sides = self.versions.sides(annotator)
        names = [(texts.version_words(version.name), version.name) for version in versions]
        return {
            self.baseline: gr.update(choices=names, value=sides[0]),
            self.candidate: gr.update(choices=names, value=sides[1]),
            self.table: learn_html.versions_table(versions, sides),
        }
