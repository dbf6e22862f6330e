"""The row of downloads under a pair: whatever core.exports can write, and the player as a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app import texts
from app.handlers import QUIET, sentence_of
from app.player import standalone_html
from core.engine import Engine
from core.exports import KINDS, LETTERS, Kind, Source, write_export
from core.motion.files import atomic_write
from core.render.player_pack import pack_pair


def _write_player(source: Source, path: Path) -> None:
    engine, pair = source.engine, source.pair
    pack = pack_pair(*engine.poses(pair.left), *engine.poses(pair.right))
    html = standalone_html(pack, engine.body(), pair.left.prompt)
    atomic_write(path, lambda file: file.write(html.encode()))


_KINDS = [KINDS["mp4"], Kind("3D page", ".html", _write_player, both=True)]
_KINDS += [kind for kind in KINDS.values() if kind not in _KINDS]


class FileDrop:
    """A download that the browser starts by itself once a handler has put a file in. Build inside a gr.Blocks."""

    def __init__(self, name: str) -> None:
        """name: of its element, one a page."""
        self.file = gr.DownloadButton("File", elem_id=name, visible="hidden")
        self.start_js = f"() => setTimeout(() => document.querySelector('#{name}')?.click(), 50)"


class Downloads:
    """One button for each kind, or for each kind and side. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine, name: str = "download") -> None:
        """name: the beginning of its elements' names, one a page."""
        self.engine = engine
        self.offers = [("left", "", kind) for kind in _KINDS if kind.both]
        self.offers += [
            (side, f"{letter} ", kind) for side, letter in LETTERS.items() for kind in _KINDS if not kind.both
        ]
        with gr.Row(elem_id=f"{name}s", elem_classes="downloads"):
            self.buttons = [
                gr.Button(
                    letter + kind.label,
                    size="sm",
                    min_width=44,
                    scale=0,
                    interactive=False,
                    elem_classes=f"download {side if letter else ''}",
                )
                for side, letter, kind in self.offers
            ]
            self.notice = gr.HTML(elem_id=f"{name}-notice", elem_classes="download-notice")
            self.drop = FileDrop(f"{name}-file")

    def wire(self, shown: gr.State) -> None:
        """Let the buttons write files of the pair in `shown`: None, or a value with a pair_id."""
        for button, (side, _, kind) in zip(self.buttons, self.offers, strict=True):
            make = partial(self.on_download, button, side, kind)
            made = button.click(make, shown, [button, self.drop.file, self.notice], **QUIET)
            made.success(None, js=self.drop.start_js, **QUIET)

    def enabled(self) -> dict[Any, Any]:
        """Updates that let the buttons be pressed."""
        return {button: gr.update(interactive=True) for button in self.buttons}

    def on_download(self, button: gr.Button, side: str, kind: Kind, shown: Any) -> Iterator[dict[Any, Any]]:
        """Make the file where it is missing, and hand it to the hidden download button."""
        if shown is None:
            return
        yield {button: gr.update(interactive=False), self.notice: texts.notice(f"Making the {kind.label} ...")}
        enabled = {button: gr.update(interactive=True)}
        try:
            pair = self.engine.store.pair(shown.pair_id)
            made = str(write_export(Source(self.engine, pair, side), kind))
            yield {**enabled, self.drop.file: made, self.notice: ""}
        except Exception as error:
            yield {**enabled, self.drop.file: None, self.notice: texts.notice(sentence_of(error), "error")}
