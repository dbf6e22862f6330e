"""The Library tab: history, statistics, export and import; and links to single pairs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.handlers import QUIET
from app.library_history import HistoryPanel
from app.library_statistics import StatisticsPanel
from app.library_transfer import TransferPanel
from core.engine import Engine

TAB = "library"  # the tab's id


class Library:
    """Components of the Library tab. Build inside `tab`, a gr.Tab of `tabs` with the id TAB."""

    def __init__(self, engine: Engine, tabs: gr.Tabs, tab: gr.Tab, annotator: gr.Textbox) -> None:
        """annotator: the name that the visitor's votes are signed with."""
        with gr.Tabs(elem_id="library-tabs"):
            with gr.Tab("History"):
                history = HistoryPanel(engine, annotator)
            with gr.Tab("Statistics") as statistics:
                StatisticsPanel(engine, statistics)
            with gr.Tab("Export and import"):
                TransferPanel(engine, history)
        opened = [*history.listed, history.version, history.by]
        tab.select(history.on_open, [*history.filters, history.offset], opened, **QUIET)
        gr.on(None, self.on_link, None, tabs, **QUIET)  # without triggers: when the page opens

    @staticmethod
    def on_link(visitor: gr.Request) -> Any:
        """Turn to the Library where the page's address names a pair, ?pair=ID; the history then opens it."""
        return gr.Tabs(selected=TAB) if visitor.query_params.get("pair") else gr.skip()
