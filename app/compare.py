"""The arena: a prompt, two bodies moving side by side, and a vote that reveals which model was which."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import texts
from app.ask import Ask
from app.downloads import Downloads
from app.handlers import QUIET, sentence_of
from app.player import MotionPlayer
from app.runs import CancelledError, Run, Runs
from core.engine import Engine
from core.render.player_pack import pack_pair, relabel
from core.request import Request

_POLL_S = 0.3
_PROGRESS = gr.Progress()  # Gradio hands the real one to a handler with this default
_LETTERS = ("A", "B")
_VOTE_BUTTONS = (  # verdict, label, class; A's button stands under A, B's under B
    ("left", "A is better", "vote-a"),
    ("tie", "Tie", "vote-mid"),
    ("both_bad", "Both bad", "vote-mid"),
    ("skip", "Skip", "vote-skip"),
    ("right", "B is better", "vote-b"),
)
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
        self.shown = gr.State(None)
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
        with gr.Row(elem_id="votes"):
            self.votes = {
                verdict: gr.Button(
                    label, interactive=False, min_width=60, elem_classes=style, elem_id=f"vote-{verdict}"
                )
                for verdict, label, style in _VOTE_BUTTONS
            }
        with gr.Row(elem_id="after"):
            self.reveal = gr.HTML(texts.KEYS, elem_id="reveal")
            self.undo = gr.Button("Undo", size="sm", min_width=60, scale=0, visible=False, elem_id="undo")
            self.next = gr.Button("Re-roll", size="sm", min_width=104, scale=0, interactive=False, elem_id="next")
        self.downloads = Downloads(self.engine)

    def _wire(self) -> None:
        """Connect clicks to handlers; a handler returns {component: new value} for what changes."""
        ask, row = self.ask, [*self.votes.values(), self.reveal, self.undo, self.next]
        changed = [self.shown, self.player, ask.seed, ask.duration, ask.notice, *row, *self.downloads.buttons]
        slow: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
        slow |= {"show_progress_on": [ask.working], "js": _BEGIN_JS}
        for triggers, handler in (
            ([ask.go.click, ask.prompt.submit], self.on_generate),
            ([self.next.click], self.on_next),
        ):
            gr.on(triggers, handler, ask.inputs, changed, **slow).then(None, js=_END_JS, **QUIET)
        ask.cancel.click(self.on_cancel, None, None, concurrency_limit=None, **QUIET)

        signed, stage = [self.shown, ask.annotator], [self.shown, self.player, *row]
        for verdict, button in self.votes.items():
            button.click(partial(self.on_vote, verdict), signed, stage, concurrency_limit=None, **QUIET)
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
        try:
            request = self.ask.request(asked, fresh)
            with self.runs.start(str(visitor.session_hash)) as run:
                return self._make(request, run, progress)
        except CancelledError:
            return {self.ask.notice: texts.notice("Cancelled. Nothing was stored.")}
        except Exception as error:
            return {self.ask.notice: texts.notice(sentence_of(error), "error")}

    def _make(self, request: Request, run: Run, progress: gr.Progress) -> dict[Any, Any]:
        """Make a pair and show it; waits while the models load or work for another visitor."""

        def report(done: float, what: str) -> None:
            run.check()
            progress(done, desc=what)

        self._wait_for_models(report)
        with self.runs.turn(run):
            pair = self.engine.generate(request, report)
        pack = pack_pair(*self.engine.poses(pair.left), *self.engine.poses(pair.right), labels=_LETTERS)
        return {
            self.shown: Shown(pair.id, pack, time.monotonic()),
            self.player: pack,
            self.ask.seed: pair.left.seed,
            self.ask.duration: pair.left.duration_s,
            self.ask.notice: texts.notice(self.engine.familiarity_notice(pair.left.prompt)),
            **self._vote_row(open_for_votes=True),
            **self.downloads.enabled(),
        }

    def _wait_for_models(self, report: Any) -> None:
        status = self.engine.status()
        while not status.ready and status.error is None:
            report(0.0, status.message)
            status = self.engine.wait_until_ready(_POLL_S)

    def on_vote(self, verdict: str, shown: Shown | None, annotator: str) -> dict[Any, Any]:
        """Store the answer, then tell the names."""
        if shown is None:
            return {self.reveal: texts.notice("Generate a pair first, then vote.", "error")}
        try:
            vote = self.engine.vote(shown.pair_id, verdict, annotator, time.monotonic() - shown.shown_at)
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
