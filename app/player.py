"""The 3D player: two bodies moving in step, in the page (MotionPlayer) or in one file of its own (standalone_html).

The browser's part lies beside this file: player.html and player.css (its look), player_math.js (decoding, kinematics),
player_gl.js (drawing), player_camera.js (orbit camera), player_clock.js (time), player.js (the player and its controls)
and player_page.js (mounting, the page's handle). The scripts are joined here and need no build step, no network and no
library.

In the page, `element.dataset.state` is "empty", "loading", "ready" or "error", `element.dataset.plays` counts how often
the motions were watched to the end, and `window.__motionPlayers` holds a handle for each player (see playerHandle).
"""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gradio as gr

from core.body.smpl_files import load_body
from core.render.player_pack import body_bytes, pack_body
from core.settings import ROOT

if TYPE_CHECKING:
    from core.body.smpl_files import Body

FOLDER = Path(__file__).resolve().parent
SCRIPTS = ("player_math.js", "player_gl.js", "player_camera.js", "player_clock.js", "player.js", "player_page.js")
CACHE = ROOT / "data" / "player"  # where the body file for the browser lies, as core.settings.Settings.data_dir

_IN_PAGE = """
element.parentElement.style.setProperty("--block-padding", "0px");
const player = mountMotionPlayer(element, () => fetchBody(props.body_url));
player.setValue(props.value);
watch("value", () => player.setValue(props.value));
"""
_STANDALONE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
html, body {{ margin: 0; min-height: 100%; background: #f2f4f7; }}
html.dark, html.dark body {{ background: #0d1117; }}
main {{ box-sizing: border-box; max-width: 1200px; margin: 0 auto; padding: clamp(10px, 3vw, 32px); }}
h1 {{ margin: 0 0 16px; font: 600 18px/1.4 system-ui, sans-serif; color: #1d2430; overflow-wrap: anywhere; }}
html.dark h1 {{ color: #eef1f6; }}
{css}
main .mp .mp-stage {{ height: max(300px, calc(100vh - 190px)); }}
</style>
</head>
<body>
<main id="player">
<h1>{title}</h1>
{markup}
</main>
<script>
(() => {{
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
dark.addEventListener("change", follow);
follow();
{script}
const body = bytesFromBase64("{body}");
mountMotionPlayer(document.getElementById("player"), async () => body).setValue({pack});
}})();
</script>
</body>
</html>
"""


class MotionPlayer(gr.HTML):
    """Two synchronised bodies in WebGL 2; its value is the dict of core.render.player_pack.pack_pair, or None."""

    def __init__(
        self, value: dict[str, Any] | None = None, *, body: Body | None = None, cache: Path = CACHE, **kwargs: Any
    ) -> None:
        """body: core.body's body, default load_body(). cache: folder for the file that the browser loads the body from.

        Side effect: writes that file once and lets Gradio serve it, and nothing beside it.
        """
        path = pack_body(body or load_body(), cache).resolve()
        gr.set_static_paths([path])
        super().__init__(
            value,
            html_template=_read("player.html"),
            css_template=_read("player.css"),
            js_on_load=script() + _IN_PAGE,
            apply_default_css=False,
            body_url=f"gradio_api/file={quote(path.as_posix())}",
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        """The value is an object, not a string as in gr.HTML."""
        return {"type": "object"}


def standalone_html(pack: dict[str, Any], body: Body, title: str = "Two motions, side by side") -> str:
    """The player, the body and a value of pack_pair as one HTML page that loads nothing from anywhere."""
    return _STANDALONE.format(
        title=escape(title),
        css=_read("player.css"),
        markup=_read("player.html"),
        script=script(),
        body=base64.b64encode(body_bytes(body)).decode(),
        pack=json.dumps(pack).replace("<", "\\u003c"),  # a label must not close the script
    )


def script() -> str:
    """All of the player's JavaScript, in order; it defines mountMotionPlayer and starts nothing."""
    return "\n".join(_read(name) for name in SCRIPTS)


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
