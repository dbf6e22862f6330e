"""The form: what to act out, how long, from which noise, by which sampler."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from app import texts
from app.handlers import QUIET, sentence_of
from core.engine import Engine
from core.request import MAX_DURATION_S, MIN_DURATION_S, SAMPLERS, Request, random_seed, usual_steps
from core.settings import ROOT

_N_EXAMPLES = 3
_TAKES = [("Same noise", False), ("Most telling of my taste", True)]


class Ask:
    """Components of the form, and the request they stand for. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._build_prompt()
        self._build_length_and_seed()
        choices = [(sampler.label, solver) for solver, sampler in SAMPLERS.items()]
        self.solver = gr.Radio(choices, value=Request.solver, label="Sampler", elem_id="solver")
        with gr.Row(elem_id="go-row"):
            self.go = gr.Button("Generate", variant="primary", elem_id="generate")
            self.working = gr.HTML(elem_id="working")  # Gradio draws the progress of a run over it
            self.cancel = gr.Button("Cancel", scale=0, min_width=92, elem_id="cancel")
        self.notice = gr.HTML(texts.notice(texts.WELCOME), elem_id="notice")
        # Not an accordion: Gradio mounts what one holds when it opens, and a moment later resets what was typed there.
        gr.Checkbox(False, label="Advanced settings", container=False, elem_id="advanced-switch")
        with gr.Column(elem_id="advanced"):
            with gr.Row():
                self.steps = gr.Number(Request.steps, precision=0, label="Steps", min_width=70, elem_id="steps")
                self.guidance = gr.Number(Request.guidance_scale, label="Guidance", min_width=70, elem_id="guidance")
            self.telling = gr.Radio(
                _TAKES, value=False, label="Takes", info="other noise on each side teaches more", elem_id="telling"
            )
            self.annotator = gr.Textbox("anonymous", label="Sign votes as", max_length=80, elem_id="annotator")
        self.inputs = {self.prompt, self.automatic, self.duration, self.seed, self.fresh, self.steps, self.guidance}
        self.inputs |= {self.solver, self.telling, self.annotator}
        self._wire()

    def _build_prompt(self) -> None:
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

    def _build_length_and_seed(self) -> None:
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
            self.seed = gr.Number(precision=0, label="Seed", min_width=90, elem_id="seed")
            self.dice = gr.Button("⚄", size="sm", min_width=40, scale=0, elem_id="dice")
            self.fresh = gr.Checkbox(
                True, label="New seed", info="for each pair", scale=0, min_width=110, elem_id="fresh"
            )

    def _wire(self) -> None:
        """Connect what stays within the form."""
        for chip in self.chips:
            chip.click(None, None, self.prompt, js=f"() => {json.dumps(chip.value)}", **QUIET)
        self.surprise.click(self.on_surprise, None, [self.prompt, self.notice], **QUIET)
        self.automatic.change(lambda auto: gr.update(interactive=not auto), self.automatic, self.duration, **QUIET)
        self.solver.input(usual_steps, self.solver, self.steps, **QUIET)
        gr.on(None, random_seed, None, self.seed, **QUIET)  # without triggers: when the page opens
        self.dice.click(random_seed, None, self.seed, **QUIET)
        self.seed.input(lambda: False, None, self.fresh, **QUIET)

    def on_surprise(self) -> dict[Any, Any]:
        """A random prompt of the kind that the models know."""
        try:
            return {self.prompt: self.engine.surprise()}
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}

    def request(self, asked: dict[Any, Any], fresh: bool = False) -> Request:
        """The request that the form stands for; `fresh` draws a seed whatever the form says.

        asked: the value of each of `inputs`. ValueError, as one sentence, for what is out of range.
        """
        solver = asked[self.solver]
        chosen = {"steps": asked[self.steps], "guidance_scale": asked[self.guidance]}
        given = {name: value for name, value in chosen.items() if value is not None}  # an emptied field: the default
        draw = fresh or asked[self.fresh] or asked[self.seed] is None
        return Request(
            prompt=asked[self.prompt],
            duration_s=None if asked[self.automatic] else asked[self.duration],
            seed=random_seed() if draw else asked[self.seed],
            **{"steps": usual_steps(solver), **given},
            solver=solver,
            annotator=asked[self.annotator].strip(),
            telling=asked[self.telling],
        )
