"""Which body the players show: any SMPL, SMPL-H or SMPL-X file that is there, of any gender, and its shape (betas).

Only the picture changes: motions, votes and files are those of the body the arena was started with.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import gradio as gr

from app import texts
from app.handlers import QUIET, sentence_of
from core.body.smpl_files import bodies_beside, load_body, read_smpl_arrays
from core.engine import Engine
from core.render.player_pack import pack_body

_SHAPES = 3  # sliders; the first directions are the largest
_RANGE = 3  # standard deviations to either side, in whole steps: at most 343 body files of 0.6 MB
_SHOW_JS = "(address) => address && (window.__motionPlayers || []).forEach((player) => player.setBody(address))"


class BodyPanel:
    """A switch, and behind it the bodies and sliders. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        own = engine.body()
        self.files = bodies_beside(own.path)
        count = min(_SHAPES, read_smpl_arrays(own.path)["shapedirs"].shape[2])
        gr.Checkbox(False, label="Body", container=False, elem_id="body-switch")
        with gr.Row(elem_id="body-panel"):
            self.file = gr.Dropdown(
                list(self.files), value=own.path.stem, label="Body", min_width=140, visible=len(self.files) > 1
            )
            self.betas = [
                gr.Slider(-_RANGE, _RANGE, 0, step=1, label=f"Shape {i + 1}", min_width=110, elem_id=f"beta-{i + 1}")
                for i in range(count)
            ]
            self.address = gr.Textbox(visible="hidden", elem_id="body-address")
            self.notice = gr.HTML(elem_id="body-notice")
        outputs = [self.address, self.notice]
        changed = [self.file.change, *(slider.change for slider in self.betas)]
        made = gr.on(changed, self.on_change, [self.file, *self.betas], outputs, trigger_mode="always_last", **QUIET)
        made.then(None, self.address, None, js=_SHOW_JS, **QUIET)

    def on_change(self, name: str, *betas: float) -> dict[Any, Any]:
        """Write the body's file for the browser and tell its address."""
        try:
            if name not in self.files:
                raise ValueError(f"The body {name!r} is not there. Choose one of {', '.join(self.files)}.")
            body = load_body(self.files[name], [float(beta) for beta in betas])
            path = pack_body(body, self.engine.settings.data_dir / "player", self.engine.body()).resolve()
        except Exception as error:
            return {self.address: "", self.notice: texts.notice(sentence_of(error), "error")}
        gr.set_static_paths([path])
        return {self.address: f"gradio_api/file={quote(path.as_posix())}", self.notice: ""}
