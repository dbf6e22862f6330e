"""History: the newest pairs with their votes, and a second look at any of them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import texts
from app.handlers import QUIET, sentence_of
from app.player import MotionPlayer
from core.engine import Engine
from core.render.player_pack import pack_pair

_N_ROWS = 60
_ROWS_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-pair]');
  if (button) trigger('click', { pair_id: button.dataset.pair });
});
"""


class Library:
    """Components of the Library tab and what they do. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine, tab: gr.Tab) -> None:
        self.engine = engine
        with gr.Row(elem_id="library-head"):
            self.summary = gr.HTML(elem_id="library-summary")
            self.refresh = gr.Button("Refresh", size="sm", scale=0, min_width=80)
        with gr.Column(visible=False, elem_id="replay") as self.replay:
            self.player = MotionPlayer(body=engine.body(), cache=engine.settings.data_dir / "player")
        # The table is made in Python: Gradio runs ${...} in anything that a Handlebars template inserts.
        self.table = gr.HTML("", js_on_load=_ROWS_JS, elem_id="history")
        outputs = [self.table, self.summary]
        tab.select(self.on_show, None, outputs, **QUIET)
        self.refresh.click(self.on_show, None, outputs, **QUIET)
        self.table.click(self.on_replay, None, [self.replay, self.player, self.summary], **QUIET)

    def on_show(self) -> dict[Any, Any]:
        """Read the newest pairs."""
        try:
            records, (pairs, votes) = self.engine.store.recent(_N_ROWS), self.engine.store.counts()
        except Exception as error:
            return {self.summary: texts.notice(sentence_of(error), "error")}
        shown = f"; the newest {_N_ROWS} are shown" if pairs > _N_ROWS else ""
        counted = f"{texts.count(pairs, 'pair')}, {texts.count(votes, 'vote')}{shown}."
        return {self.table: texts.history_table(records), self.summary: texts.notice(counted)}

    def on_replay(self, event: gr.EventData) -> dict[Any, Any]:
        """Show a stored pair again; its names only if it has been voted on."""
        try:
            pair = self.engine.store.pair(event.pair_id)
            votes = self.engine.store.votes(pair.id)
            labels = texts.revealed_labels(votes[-1]) if votes else ("A", "B")
            pack = pack_pair(*self.engine.poses(pair.left), *self.engine.poses(pair.right), labels=labels)
        except Exception as error:
            return {self.summary: texts.notice(sentence_of(error), "error")}
        return {
            self.replay: gr.update(visible=True),
            self.player: pack,
            self.summary: texts.notice(pair.left.prompt),
        }
