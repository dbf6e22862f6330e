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
        self.tabs = tabs
        with gr.Tabs(elem_id="library-tabs"):
            with gr.Tab("History"):
                self.history = HistoryPanel(engine, annotator)
            with gr.Tab("Statistics") as statistics:
                StatisticsPanel(engine, statistics)
            with gr.Tab("Export and import"):
                TransferPanel(engine, self.history)
        history = self.history
        opened = [*history.listed, history.version, history.by]
        tab.select(history.on_open, [*history.filters, history.offset], opened, **QUIET)
        self.linked = gr.State(None)
        loaded = gr.on(None, self.on_link, None, [tabs, self.linked], **QUIET)  # without triggers: when the page opens
        loaded.then(self.on_linked, [self.linked, annotator], [self.linked, *history.shown], **QUIET)

    def on_link(self, visitor: gr.Request) -> dict[Any, Any]:
        """Turn to the pair that the page's address names: ?pair=ID."""
        pair_id = visitor.query_params.get("pair")
        return {self.linked: pair_id, self.tabs: gr.Tabs(selected=TAB) if pair_id else gr.update()}

    def on_linked(self, pair_id: str | None, annotator: str) -> dict[Any, Any]:
        """Show that pair."""
        return {self.linked: None, **(self.history.replay_of(pair_id, False, annotator) if pair_id else {})}
