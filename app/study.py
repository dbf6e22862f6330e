"""A study's page: who is asked, the pair with its answers, and the end. Nothing on it tells which model is which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import study_texts, texts
from app.handlers import QUIET, sentence_of
from app.player import MotionPlayer
from app.votes import ANSWER_JS, Details, Watched, vote_buttons
from core.preference.types import MAX_ANNOTATOR_LETTERS, check_annotator
from core.study import Answer, Screen, StudyDesk


@dataclass(frozen=True)
class Asked:
    """Who sits before one browser tab, and which pair it shows."""

    annotator: str
    pair_id: str | None = None
    nonce: str | None = None  # of the pair's pack


class StudyPage:
    """Components of the study and what they do. Build inside a gr.Blocks context."""

    def __init__(self, desk: StudyDesk, blocks: gr.Blocks) -> None:
        self.desk = desk
        self.asked = gr.State(None)
        self.watched = gr.JSON(visible=False)
        self.phase = gr.HTML(study_texts.phase("welcome"), elem_id="study-phase")
        self._build_welcome()
        self._build_stage()
        with gr.Column(elem_id="study-end"):
            self.end = gr.HTML()
            self.back = gr.Button("Back to the last pair", size="sm", elem_id="study-back")
        self._wire(blocks)

    def _build_welcome(self) -> None:
        with gr.Column(elem_id="study-welcome"):
            gr.HTML(study_texts.instructions(self.desk.study))
            self.name = gr.Textbox(
                label="Your name or number",
                info="Answers are stored under it. Use the same one to go on later.",
                max_length=MAX_ANNOTATOR_LETTERS,
                elem_id="study-annotator",
            )
            self.begin = gr.Button("Start", variant="primary", elem_id="study-begin")
            self.refused = gr.HTML(elem_id="study-refused")

    def _build_stage(self) -> None:
        settings = self.desk.engine.settings
        with gr.Column(elem_id="stage"):
            with gr.Row(elem_id="study-head"):
                self.prompt = gr.HTML(elem_id="study-prompt")
                self.progress = gr.HTML(elem_id="study-progress")
            self.player = MotionPlayer(
                body=self.desk.engine.body(), cache=settings.data_dir / "player", elem_id="player"
            )
            self.details = Details(self.desk.study.criteria, self.desk.study.comment)
            self.votes = vote_buttons(interactive=True)
            with gr.Row(elem_id="after"):
                self.notice = gr.HTML(study_texts.KEYS, elem_id="reveal")
                self.undo = gr.Button("Back", size="sm", min_width=60, scale=0, elem_id="undo")

    def _wire(self, blocks: gr.Blocks) -> None:
        """Connect clicks to handlers; a handler returns {component: new value} for what changes."""
        shows = [self.asked, self.phase, self.prompt, self.progress, self.player, self.notice, self.undo, self.end]
        shows += [*self.details.inputs, self.refused]
        open_: dict[str, Any] = {**QUIET, "concurrency_limit": None}
        blocks.load(self.on_open, None, [self.name, *shows], **open_)
        gr.on([self.begin.click, self.name.submit], self.on_begin, self.name, shows, **open_)
        answered = [self.asked, *self.details.inputs, self.watched]
        for verdict, button in self.votes.items():
            button.click(partial(self.on_answer, verdict), answered, shows, js=ANSWER_JS, **open_)
        gr.on([self.undo.click, self.back.click], self.on_undo, self.asked, shows, **open_)

    def on_open(self, visitor: gr.Request) -> dict[Any, Any]:
        """Take the annotator's name from the link; who has begun before goes on where they left."""
        name = str(visitor.query_params.get("annotator", "")).strip()
        if not name:
            return {self.refused: gr.skip()}  # which may speak already of a name that was quicker
        known = {self.name: gr.update(value=name, interactive=False)}
        try:
            begun = self.desk.queue.progress(name).answered > 0
        except ValueError as error:
            return {self.refused: texts.notice(sentence_of(error), "error")}
        return {**known, **(self.on_begin(name) if begun else {})}

    def on_begin(self, name: str) -> dict[Any, Any]:
        """Show the first pair that is open for this annotator."""
        try:
            annotator = check_annotator(name or "")
            return self._show(annotator, self.desk.screen(annotator))
        except Exception as error:
            return {self.refused: texts.notice(sentence_of(error), "error")}

    def on_answer(self, verdict: str, asked: Asked | None, *values: Any) -> dict[Any, Any]:
        """Store the answer and show the next pair; an answer meant for an earlier pair is dropped."""
        *details, sent = values
        watched = Watched.of(sent)
        if asked is None or asked.pair_id is None or watched.of_another(asked.nonce):
            return {self.refused: ""}
        criteria, comment = self.details.read(details)
        answer = Answer(verdict, criteria, comment, watched.response_s, watched.plays)
        try:
            return self._show(asked.annotator, self.desk.answer(asked.annotator, asked.pair_id, answer))
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}

    def on_undo(self, asked: Asked | None) -> dict[Any, Any]:
        """Take the newest answer back and show its pair again."""
        if asked is None:
            return {self.refused: ""}
        try:
            return self._show(asked.annotator, self.desk.undo(asked.annotator))
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}

    def _show(self, annotator: str, screen: Screen) -> dict[Any, Any]:
        """What changes on the page with a screen."""
        first = screen.progress.answered == 0
        if screen.pair_id is None:
            shown = {self.phase: study_texts.phase("end"), self.end: study_texts.thanks(screen.progress)}
            return {**shown, self.asked: Asked(annotator)}
        return {
            self.asked: Asked(annotator, screen.pair_id, screen.pack["nonce"]),
            self.phase: study_texts.phase("watch"),
            self.prompt: study_texts.sentence(screen.prompt),
            self.progress: study_texts.progress(screen.progress),
            self.player: screen.pack,
            self.notice: study_texts.KEYS,
            self.undo: gr.update(interactive=not first),
            **self.details.cleared(),
        }
