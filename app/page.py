"""The page: header, tabs, endpoints, and how it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import library, texts
from app.api import Api
from app.compare import Compare
from app.handlers import QUIET
from app.learn import Learn
from app.theme import arena_theme
from core.engine import Engine
from core.settings import Settings

_STATUS_EVERY_S = 0.7
_CACHE = (3600, 86400)  # seconds: look every hour for copies of downloads older than a day
_STYLES = [Path(__file__).with_name(name) for name in ("style.css", "learn.css", "library.css")]
_QUEUE_LOOKS_EVERY_S = 0.01  # Gradio looks every millisecond, which keeps a tenth of a core busy for nothing
_STATISTICS_EVERY = 10_000  # events; Gradio sums up all of the past after each one, which nobody reads here
_SCRIPT = Path(__file__).with_name("page.js")
BRAND = '<h1 class="brand">EasyTune <span>Arena</span></h1>'


@dataclass(frozen=True)
class Page:
    """The built page and the engine behind it."""

    blocks: gr.Blocks
    engine: Engine
    styles: tuple[Path, ...] = ()  # style sheets beside the common one

    def launch(self) -> None:
        """Answer at once, load the models meanwhile, serve until interrupted. ValueError if the port can't be had."""
        settings = self.engine.settings
        try:
            self.blocks.launch(
                server_name=settings.host,
                server_port=settings.port or None,
                share=settings.share,
                theme=arena_theme(),
                css_paths=[*_STYLES, *self.styles],
                head=f"<script>{_SCRIPT.read_text(encoding='utf-8')}</script>",
                footer_links=[],
                allowed_paths=[str((settings.data_dir / "exports").resolve())],
                ssr_mode=False,  # no second server
                prevent_thread_lock=True,
                _frontend=False,  # no self-test: it gives up after 3 s, and a busy machine would not get a page at all
            )
        except OSError as error:
            raise ValueError(
                f"The page can't listen on {settings.host}:{settings.port} (in use, or not allowed). "
                "Choose another --port, or 0 for a free one."
            ) from error
        self.blocks._queue.sleep_when_free = _QUEUE_LOOKS_EVERY_S
        self.blocks._queue.ANAYLTICS_CACHE_FREQUENCY = _STATISTICS_EVERY  # the name is Gradio's
        self.engine.start_loading()
        self.blocks.block_thread()


def build(settings: Settings) -> Page:
    """Lay out the page over a fresh engine; loads no model, opens no port. ValueError for a database it can't use."""
    engine = Engine(settings)
    with gr.Blocks(title="EasyTune Arena", fill_width=True, analytics_enabled=False, delete_cache=_CACHE) as blocks:
        with gr.Row(elem_id="header"):
            gr.HTML(BRAND, elem_id="brand")
            pill = gr.HTML(texts.status_pill(engine.status()), elem_id="status")
        alert = gr.HTML(elem_id="alert")
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Compare"):
                compare = Compare(engine)
            with gr.Tab("Learn") as learn_tab:
                Learn(engine, learn_tab, compare.ask.annotator)
            with gr.Tab("Library", id=library.TAB) as library_tab:
                library.Library(engine, tabs, library_tab, compare.ask.annotator)
        blocks.load(lambda: texts.status_pill(engine.status()), None, pill, **QUIET)
        timer = gr.Timer(_STATUS_EVERY_S)
        timer.tick(lambda: _loading_state(engine), None, [pill, alert, timer], concurrency_limit=None, **QUIET)
        Api(engine)
    return Page(blocks, engine)


def _loading_state(engine: Engine) -> tuple[str, str, Any]:
    """The header's pill, an alert if loading failed, and whether to keep asking."""
    status = engine.status()
    settled = status.ready or status.error is not None
    alert = texts.notice(status.error, "error") if status.error else ""
    return texts.status_pill(status), alert, gr.Timer(active=not settled)
