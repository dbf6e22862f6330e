"""The arena: a prompt, two bodies moving side by side, and a vote that reveals which model was which."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import texts
from app.handlers import sentence_of
from app.player import MotionPlayer
from core.engine import Engine
from core.render.player_pack import pack_pair, relabel
from core.request import MAX_DURATION_S, MIN_DURATION_S, Request, random_seed
from core.settings import ROOT

_POLL_S = 0.3
_PROGRESS = gr.Progress()  # Gradio hands the real one to a handler with this default
_N_EXAMPLES = 4
_SOLVERS = [("DDIM", "ddim"), ("DPM++ (fast)", "dpm++")]
_USUAL_STEPS = {"ddim": Request.steps, "dpm++": 12}
_VOTE_BUTTONS = (  # verdict, label, class; A's button stands under A, B's under B
    ("left", "A is better", "vote-a"),
    ("tie", "Tie", "vote-mid"),
    ("both_bad", "Both bad", "vote-mid"),
    ("skip", "Skip", "vote-skip"),
    ("right", "B is better", "vote-b"),
)
_DOWNLOADS = (  # label, side, kind
    ("Video of both", "left", "mp4"),
    ("A npz", "left", "npz"),
    ("A npy", "left", "npy"),
    ("B npz", "right", "npz"),
    ("B npy", "right", "npy"),
)
_SHOW_STAGE_JS = """(...asked) => {
  if (innerWidth < 760) document.querySelector("#stage").scrollIntoView({ behavior: "smooth" });
  return asked;
}"""  # on a phone the bodies lie below the form
_CLICK_DOWNLOAD_JS = "() => setTimeout(() => document.querySelector('#download-file')?.click(), 50)"


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
        self.shown = gr.State(None)
        with gr.Row(elem_id="arena", equal_height=False):
            with gr.Column(scale=0, min_width=330, elem_id="ask"):
                self._build_ask()
            with gr.Column(scale=1, min_width=320, elem_id="stage"):
                self._build_stage()
        self._wire()

    def _build_ask(self) -> None:
        self.prompt = gr.Textbox(
            label="Describe a movement",
            placeholder="a tired person walks forward, then waves with the right hand",
            lines=1,  # so that Enter generates; it grows with the text
            max_lines=5,
            elem_id="prompt",
        )
        with gr.Row(elem_id="chips"):
            self.chips = [
                gr.Button(text, size="sm", elem_classes="chip", min_width=40)
                for text in texts.example_prompts(ROOT / "assets" / "prompts.json", _N_EXAMPLES)
            ]
            self.surprise = gr.Button("✦ Surprise me", size="sm", elem_classes="chip surprise", min_width=40)
        with gr.Row(elem_id="length-row"):
            self.duration = gr.Slider(
                MIN_DURATION_S,
                MAX_DURATION_S,
                6.0,
                step=0.1,
                label="Length (s)",
                interactive=False,
                buttons=[],
                elem_id="duration",
            )
            self.automatic = gr.Checkbox(
                True, label="Automatic", info="from the text", scale=0, min_width=110, elem_id="automatic"
            )
        with gr.Row(elem_id="seed-row"):
            self.seed = gr.Number(random_seed, precision=0, label="Seed", min_width=90, elem_id="seed")
            self.dice = gr.Button("⚄", size="sm", min_width=40, scale=0, elem_id="dice")
            self.fresh = gr.Checkbox(
                True, label="New seed", info="for each pair", scale=0, min_width=110, elem_id="fresh"
            )
        self.go = gr.Button("Generate", variant="primary", elem_id="generate")
        self.notice = gr.HTML(texts.notice(texts.WELCOME), elem_id="notice")
        with gr.Accordion("Advanced", open=False, elem_id="advanced"):
            with gr.Row():
                self.steps = gr.Number(Request.steps, precision=0, label="Steps", min_width=70, elem_id="steps")
                self.guidance = gr.Number(Request.guidance_scale, label="Guidance", min_width=70, elem_id="guidance")
                self.solver = gr.Dropdown(_SOLVERS, value=Request.solver, label="Solver", min_width=90)
            self.annotator = gr.Textbox("anonymous", label="Sign votes as", max_length=80, elem_id="annotator")

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
            self.reveal = gr.HTML("", elem_id="reveal")
            self.undo = gr.Button("Undo", size="sm", min_width=60, scale=0, visible=False, elem_id="undo")
            self.next = gr.Button("Next pair →", size="sm", min_width=100, scale=0, visible=False, elem_id="next")
        with gr.Row(elem_id="downloads"):
            self.downloads = [
                gr.Button(label, size="sm", min_width=50, scale=0, interactive=False, elem_classes="download")
                for label, _, _ in _DOWNLOADS
            ]
            self.file = gr.DownloadButton("File", elem_id="download-file", visible="hidden")

    def _wire(self) -> None:
        """Connect clicks to handlers; a handler returns {component: new value} for what changes."""
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        for chip in self.chips:
            chip.click(None, None, self.prompt, js=f"() => {json.dumps(chip.value)}", **quiet)
        self.surprise.click(self.on_surprise, None, [self.prompt, self.notice], **quiet)
        self.automatic.change(lambda auto: gr.update(interactive=not auto), self.automatic, self.duration, **quiet)
        self.solver.input(lambda solver: _USUAL_STEPS[solver], self.solver, self.steps, **quiet)
        self.dice.click(random_seed, None, self.seed, **quiet)
        self.seed.input(lambda: False, None, self.fresh, **quiet)
        self._wire_generate()

        stage = [self.shown, self.player, *self.votes.values(), self.reveal, self.undo, self.next]
        signed = [self.shown, self.annotator]
        for verdict, button in self.votes.items():
            button.click(partial(self.on_vote, verdict), signed, stage, concurrency_limit=None, **quiet)
        self.undo.click(self.on_undo, signed, stage, **quiet)
        for button, (label, side, kind) in zip(self.downloads, _DOWNLOADS, strict=True):
            made = button.click(
                partial(self.on_download, button, label, side, kind),
                self.shown,
                [button, self.file, self.notice],
                **quiet,
            )
            made.success(None, js=_CLICK_DOWNLOAD_JS, **quiet)

    def _wire_generate(self) -> None:
        asked = [
            self.prompt,
            self.automatic,
            self.duration,
            self.seed,
            self.fresh,
            self.steps,
            self.guidance,
            self.solver,
        ]
        always_fresh = [gr.State(True) if component is self.fresh else component for component in asked]
        changed = [self.shown, self.player, self.seed, self.duration, self.notice, *self.votes.values()]
        changed += [self.reveal, self.undo, self.next, *self.downloads]
        shared: dict[str, Any] = {"show_progress_on": [self.player], "api_visibility": "private", "js": _SHOW_STAGE_JS}
        gr.on([self.go.click, self.prompt.submit], self.on_generate, asked, changed, **shared)
        self.next.click(self.on_generate, always_fresh, changed, **shared)

    def on_surprise(self) -> dict[Any, Any]:
        try:
            return {self.prompt: self.engine.surprise()}
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}

    def on_generate(
        self,
        prompt: str,
        automatic: bool,
        duration_s: float,
        seed: int | None,
        fresh: bool,
        steps: int | None,
        guidance_scale: float | None,
        solver: str,
        progress: gr.Progress = _PROGRESS,
    ) -> dict[Any, Any]:
        """Make a pair and show it; waits while the models are still loading."""
        try:
            request = Request(
                prompt=prompt,
                duration_s=None if automatic else duration_s,
                seed=random_seed() if fresh or seed is None else seed,
                **_given(steps=steps, guidance_scale=guidance_scale),
                solver=solver,
            )
            self._wait_for_models(progress)
            pair = self.engine.generate(request, lambda done, what: progress(done, desc=what))
            left, right = self.engine.poses(pair.left), self.engine.poses(pair.right)
            pack = pack_pair(*left, *right, labels=("A", "B"))
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}
        return {
            self.shown: Shown(pair.id, pack, time.monotonic()),
            self.player: pack,
            self.seed: pair.left.seed,
            self.duration: pair.left.duration_s,
            self.notice: texts.notice(self.engine.familiarity_notice(pair.left.prompt)),
            **self._vote_row(open_for_votes=True),
            **{button: gr.update(interactive=True) for button in self.downloads},
        }

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
        """Take the vote back; the names stay known, so the next vote on this pair is recorded as not blind."""
        try:
            self.engine.undo_vote(shown.pair_id if shown else "", annotator)
        except Exception as error:
            return {self.reveal: texts.notice(sentence_of(error), "error")}
        return {
            **self._vote_row(open_for_votes=True),
            self.reveal: texts.notice("Vote taken back. Vote again, or go on."),
        }

    def on_download(
        self, button: gr.Button, label: str, side: str, kind: str, shown: Shown | None
    ) -> Iterator[dict[Any, Any]]:
        """Make the file where it is missing, and hand it to the hidden download button."""
        if shown is None:
            return
        yield {button: gr.update(value="Drawing ..." if kind == "mp4" else label, interactive=False)}
        answer: dict[Any, Any] = {button: gr.update(value=label, interactive=True)}
        try:
            answer[self.file] = str(self.engine.export(shown.pair_id, side, kind))
        except Exception as error:
            answer[self.notice] = texts.notice(sentence_of(error), "error")
        yield answer

    def _wait_for_models(self, progress: gr.Progress) -> None:
        status = self.engine.status()
        while not status.ready and status.error is None:
            progress(0.0, desc=status.message)
            status = self.engine.wait_until_ready(_POLL_S)

    def _vote_row(self, open_for_votes: bool, chosen: str | None = None) -> dict[Any, Any]:
        """The vote buttons and what stands below them, before or after the vote."""
        return {
            **{
                button: gr.update(interactive=open_for_votes, variant="primary" if verdict == chosen else "secondary")
                for verdict, button in self.votes.items()
            },
            self.reveal: "",
            self.undo: gr.update(visible=not open_for_votes),
            self.next: gr.update(visible=not open_for_votes),
        }


def _given(**values: Any) -> dict[str, Any]:
    """The values that are not None: an emptied field means the default."""
    return {name: value for name, value in values.items() if value is not None}
