"""The arena: a prompt, two bodies moving side by side, and a vote that reveals which model was which."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import texts
from app.ask import Ask
from app.body import BodyPanel
from app.downloads import Downloads
from app.handlers import QUIET, sentence_of
from app.player import MotionPlayer
from app.prefetch import Prefetch
from app.runs import CancelledError, Run, Runs
from app.votes import ANSWER_JS, CRITERIA, Details, Watched, vote_buttons
from core.engine import Engine
from core.preference.details import DetailStore, VoteDetails
from core.preference.types import check_annotator
from core.render.player_pack import pack_pair, relabel
from core.request import Request

_POLL_S = 0.3
_PROGRESS = gr.Progress()  # Gradio hands the real one to a handler with this default
_LETTERS = ("A", "B")
_BEGIN_JS = "(...asked) => { arena.begin(); return asked; }"  # app/page.js
_END_JS = "() => arena.end()"


@dataclass(frozen=True)
class Shown:
    """The pair on one visitor's screen."""

    pair_id: str
    pack: dict[str, Any]  # the player's value, without names
    shown_at: float  # time.monotonic()


class Compare:
    """Components of the Compare tab and what they do. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.runs = Runs()
        self.prefetch = Prefetch(engine, self.runs)
        self.details_store = DetailStore(engine.store.database)
        self.shown = gr.State(None)
        self.watched = gr.JSON(visible=False)
        with gr.Row(elem_id="arena", equal_height=False):
            with gr.Column(scale=0, min_width=330, elem_id="ask"):
                self.ask = Ask(engine)
            with gr.Column(scale=1, min_width=320, elem_id="stage"):
                self._build_stage()
        self._wire()

    def _build_stage(self) -> None:
        self.player = MotionPlayer(
            body=self.engine.body(), cache=self.engine.settings.data_dir / "player", elem_id="player"
        )
        self.votes = vote_buttons()
        with gr.Row(elem_id="after"):
            self.reveal = gr.HTML(texts.KEYS, elem_id="reveal")
            gr.Checkbox(False, label="Say more", container=False, scale=0, min_width=96, elem_id="say-more")
            self.undo = gr.Button("Undo", size="sm", min_width=60, scale=0, visible=False, elem_id="undo")
            self.next = gr.Button("Re-roll", size="sm", min_width=104, scale=0, interactive=False, elem_id="next")
        self.details = Details(CRITERIA, comment=True)  # style.css shows it when "Say more" is on
        BodyPanel(self.engine)
        self.downloads = Downloads(self.engine)

    def _wire(self) -> None:
        """Connect clicks to handlers; a handler returns {component: new value} for what changes."""
        ask, row = self.ask, [*self.votes.values(), self.reveal, self.undo, self.next]
        changed = [self.shown, self.player, ask.seed, ask.duration, ask.notice, *row, *self.details.inputs]
        changed += self.downloads.buttons
        slow: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
        slow |= {"show_progress_on": [ask.working], "js": _BEGIN_JS}
        for triggers, handler in (
            ([ask.go.click, ask.prompt.submit], self.on_generate),
            ([self.next.click], self.on_next),
        ):
            gr.on(triggers, handler, ask.inputs, changed, **slow).then(None, js=_END_JS, **QUIET)
        ask.cancel.click(self.on_cancel, None, None, concurrency_limit=None, **QUIET)

        signed, stage = [self.shown, ask.annotator], [self.shown, self.player, *row]
        said = [*signed, *self.details.inputs, self.watched]
        for verdict, button in self.votes.items():
            vote = partial(self.on_vote, verdict)
            button.click(vote, said, stage, js=ANSWER_JS, concurrency_limit=None, **QUIET)
        self.undo.click(self.on_undo, signed, stage, concurrency_limit=None, **QUIET)
        self.downloads.wire(self.shown)

    def on_generate(
        self, asked: dict[Any, Any], visitor: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> dict[Any, Any]:
        """Make the pair that the form asks for and show it."""
        return self._answer(asked, False, visitor, progress)

    def on_next(self, asked: dict[Any, Any], visitor: gr.Request, progress: gr.Progress = _PROGRESS) -> dict[Any, Any]:
        """The same once more from other noise."""
        return self._answer(asked, True, visitor, progress)

    def on_cancel(self, visitor: gr.Request) -> None:
        """Ask the visitor's run to stop; its handler then frees the page."""
        self.runs.cancel(str(visitor.session_hash))

    def _answer(self, asked: dict[Any, Any], fresh: bool, visitor: gr.Request, progress: gr.Progress) -> dict[Any, Any]:
        """What changes on the page once the pair is made, refused or cancelled."""
        name = str(visitor.session_hash)
        try:
            request = self.ask.request(asked, fresh)
            with self.runs.start(name) as run:
                shown = self._make(request, run, progress, name if fresh else None)
        except CancelledError:
            return {self.ask.notice: texts.notice("Cancelled. Nothing was stored.")}
        except Exception as error:
            return {self.ask.notice: texts.notice(sentence_of(error), "error")}
        self.prefetch.begin(name, request)
        return shown

    def _make(self, request: Request, run: Run, progress: gr.Progress, ahead_of: str | None) -> dict[Any, Any]:
        """Make a pair, or take the one made ahead of this visitor, and show it; waits while the models are not free."""

        def report(done: float, what: str) -> None:
            run.check()
            progress(done, desc=what)

        self._wait_for_models(report)
        prepared = self.prefetch.take(ahead_of, request, run) if ahead_of else None
        if prepared is None:
            with self.runs.turn(run):
                prepared = self.engine.prepare(request, report)
        pair = self.engine.keep(prepared)
        pack = pack_pair(*self.engine.poses(pair.left), *self.engine.poses(pair.right), labels=_LETTERS)
        return {
            self.shown: Shown(pair.id, pack, time.monotonic()),
            self.player: pack,
            self.ask.seed: pair.left.seed,
            self.ask.duration: pair.left.duration_s,
            self.ask.notice: texts.notice(self.engine.familiarity_notice(pair.left.prompt)),
            **self._vote_row(open_for_votes=True),
            **self.details.cleared(),
            **self.downloads.enabled(),
        }

    def _wait_for_models(self, report: Any) -> None:
        status = self.engine.status()
        while not status.ready and status.error is None:
            report(0.0, status.message)
            status = self.engine.wait_until_ready(_POLL_S)

    def on_vote(self, verdict: str, shown: Shown | None, annotator: str, *values: Any) -> dict[Any, Any]:
        """Store the answer with what was said beyond it, then tell the names."""
        if shown is None:
            return {self.reveal: texts.notice("Generate a pair first, then vote.", "error")}
        *said, sent = values
        watched = Watched.of(sent)
        if watched.of_another(shown.pack["nonce"]):
            return {self.shown: shown}
        criteria, comment = self.details.read(said)
        seconds = time.monotonic() - shown.shown_at if watched.response_s is None else watched.response_s
        try:
            details = VoteDetails(shown.pair_id, check_annotator(annotator), criteria, comment, watched.plays)
            self.details_store.record(details)  # first, so that a vote is never without them
            vote = self.engine.vote(shown.pair_id, verdict, annotator, seconds)
        except Exception as error:
            return {self.reveal: texts.notice(sentence_of(error), "error")}
        return {
            self.player: relabel(shown.pack, texts.revealed_labels(vote)),
            **self._vote_row(open_for_votes=False, chosen=verdict),
            self.reveal: texts.reveal(vote),
        }

    def on_undo(self, shown: Shown | None, annotator: str) -> dict[Any, Any]:
        """Take the vote back and hide the names; they were seen, so the next vote is stored as not blind."""
        try:
            self.engine.undo_vote(shown.pair_id if shown else "", annotator)
        except Exception as error:
            return {self.reveal: texts.notice(sentence_of(error), "error")}
        return {
            **({self.player: relabel(shown.pack, _LETTERS)} if shown else {}),
            **self._vote_row(open_for_votes=True),
            self.reveal: texts.notice("Vote taken back. Vote again, or go on."),
        }

    def _vote_row(self, open_for_votes: bool, chosen: str | None = None) -> dict[Any, Any]:
        """The vote buttons and what stands below them, before or after the vote."""
        voted = not open_for_votes
        return {
            **{
                button: gr.update(interactive=open_for_votes, variant="primary" if verdict == chosen else "secondary")
                for verdict, button in self.votes.items()
            },
            self.reveal: texts.KEYS,
            self.undo: gr.update(visible=voted),
            self.next: gr.update(
                value="Next pair →" if voted else "Re-roll",
                variant="primary" if voted else "secondary",
                interactive=True,
            ),
        }
