"""History: search and filter what was shown, watch any pair again, answer it or change one's mind, share it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import texts
from app.downloads import Downloads
from app.gallery import NOTHING_FOUND, NOTHING_YET, Gallery, own_vote
from app.handlers import QUIET, sentence_of
from app.player import MotionPlayer
from core.engine import Engine
from core.preference.history import UNANSWERED, History, Search
from core.preference.store import PairRecord
from core.preference.types import Vote
from core.render.player_pack import pack_pair, relabel

_PER_PAGE = 12
_ANY = ""
_LETTERS = ("A", "B")
_VOTES = (("left", "A is better"), ("tie", "Tie"), ("both_bad", "Both bad"), ("skip", "Skip"), ("right", "B is better"))
_ANSWERS = [("Any answer", _ANY), *((word, verdict) for verdict, word in texts.VERDICT_WORDS.items())]
_ANSWERS += [("Not voted yet", UNANSWERED)]
# A link carries the pair's id; the cards open it as soon as they are there.
_CARDS_JS = """
const asked = new URL(location.href).searchParams.get('pair');
if (asked) trigger('click', { pair_id: asked });
element.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-pair]');
  if (!button) return;
  const link = new URL(location.href);
  link.searchParams.set('pair', button.dataset.pair);
  if (button.dataset.act === 'replay') return trigger('click', { pair_id: button.dataset.pair });
  try {
    await navigator.clipboard.writeText(link.href);
    button.firstChild.data = 'Copied';
  } catch {
    prompt('Copy this link:', link.href);
  }
});
"""
_SHOWN_JS = """() => {
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  document.querySelector('#replay')?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
  document.querySelector('#replay .mp-stage')?.focus({ preventScroll: true });
}"""


@dataclass(frozen=True)
class Replayed:
    """The pair that one visitor watches again."""

    pair_id: str
    pack: dict[str, Any]  # the player's value
    shown_at: float  # time.monotonic()


class HistoryPanel:
    """Components of the history and what they do. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine, annotator: gr.Textbox) -> None:
        """annotator: the name that the visitor's votes are signed with."""
        self.engine = engine
        self.history = History(engine.store)
        self.gallery = Gallery(engine.store)
        self.offset = gr.State(0)
        self.replayed = gr.State(None)
        self._build_search()
        self._build_replay()
        # The cards are made in Python: Gradio runs ${...} in anything that a Handlebars template inserts.
        self.table = gr.HTML("", js_on_load=_CARDS_JS, elem_id="history")
        with gr.Row(elem_id="pager"):
            self.newer = gr.Button("← Newer", size="sm", min_width=90, scale=0, interactive=False)
            self.place = gr.HTML(elem_id="library-summary")
            self.older = gr.Button("Older →", size="sm", min_width=90, scale=0, interactive=False)
        self.filters = [self.text, self.verdict, self.version, self.by, self.names, annotator]
        self.listed = [self.offset, self.table, self.newer, self.place, self.older]
        self.shown = [self.player, self.replayed, self.told, self.undo, *self.votes.values()]
        self.shown += self.downloads.buttons
        self._wire(annotator)

    def _build_search(self) -> None:
        with gr.Row(elem_id="library-head"):
            self.text = gr.Textbox(label="Search prompts", placeholder="waves", max_lines=1, min_width=180, scale=2)
            self.verdict = gr.Dropdown(_ANSWERS, value=_ANY, label="Answer", min_width=130)
            self.version = gr.Dropdown([("Any version", _ANY)], value=_ANY, label="Version", min_width=130)
            self.by = gr.Dropdown([("Anyone", _ANY)], value=_ANY, label="Annotator", min_width=130)
            self.names = gr.Checkbox(
                False, label="Show all names", info="no first vote on these", min_width=150, scale=0, elem_id="names"
            )

    def _build_replay(self) -> None:
        # Hidden by style.css until told: what Gradio hides it mounts too late for the first value of a player.
        with gr.Column(elem_id="replay"):
            self.player = MotionPlayer(
                body=self.engine.body(), cache=self.engine.settings.data_dir / "player", elem_id="replay-player"
            )
            with gr.Row(elem_id="again"):
                self.votes = {
                    verdict: gr.Button(label, size="sm", min_width=60, elem_id=f"again-{verdict}")
                    for verdict, label in _VOTES
                }
                self.undo = gr.Button("Take back", size="sm", min_width=90, elem_id="again-undo")
            self.told = gr.HTML(elem_id="replay-told")
            self.downloads = Downloads(self.engine, "again-download")

    def _wire(self, annotator: gr.Textbox) -> None:
        listing: dict[str, Any] = {"inputs": [*self.filters, self.offset], "outputs": self.listed, **QUIET}
        changed = [self.text.change, self.verdict.input, self.version.input, self.by.input, self.names.input]
        gr.on(changed, partial(self.on_list, 0), trigger_mode="always_last", **listing)
        self.newer.click(partial(self.on_list, -_PER_PAGE), **listing)
        self.older.click(partial(self.on_list, _PER_PAGE), **listing)
        opened = self.table.click(self.on_replay, [self.names, annotator], self.shown, **QUIET)
        opened.then(None, js=_SHOWN_JS, **QUIET)
        signed = [self.replayed, annotator]
        after = [self.player, self.told, self.undo, *self.votes.values()]
        for verdict, button in self.votes.items():
            voted = button.click(partial(self.on_vote, verdict), signed, after, concurrency_limit=None, **QUIET)
            voted.then(self.on_again, **listing)
        self.undo.click(self.on_undo, signed, after, concurrency_limit=None, **QUIET).then(self.on_again, **listing)
        self.downloads.wire(self.replayed)

    def search(self, text: str, verdict: str, version: str, by: str) -> Search:
        """What the filters ask for."""
        return Search(text or "", version or _ANY, verdict or _ANY, by or _ANY)

    def on_open(self, *asked: Any) -> dict[Any, Any]:
        """The newest pairs, and what can be filtered by now."""
        versions, annotators = self.history.choices()
        named = [(texts.version_words(version), version) for version in versions]
        return {
            **self.on_again(*asked),
            self.version: gr.update(choices=[("Any version", _ANY), *named]),
            self.by: gr.update(choices=[("Anyone", _ANY), *((name, name) for name in annotators)]),
        }

    def on_again(self, *asked: Any) -> dict[Any, Any]:
        """The same page of the list, as it is now."""
        return self._list(asked[-1], *asked[:-1])

    def on_list(self, step: int, *asked: Any) -> dict[Any, Any]:
        """Another page of the list; step 0 is the first one."""
        return self._list(max(0, asked[-1] + step) if step else 0, *asked[:-1])

    def _list(
        self, offset: int, text: str, verdict: str, version: str, by: str, names: bool, annotator: str
    ) -> dict[Any, Any]:
        try:
            search = self.search(text, verdict, version, by)
            records, found = self.history.page(search, _PER_PAGE, offset)
        except Exception as error:
            return {self.place: texts.notice(sentence_of(error), "error")}
        empty = NOTHING_YET if search == Search() else NOTHING_FOUND
        last = min(offset + _PER_PAGE, found)
        return {
            self.offset: offset,
            self.table: self.gallery.cards(records, annotator, names, empty),
            self.place: texts.notice(f"{offset + 1}-{last} of {texts.count(found, 'pair')}" if records else ""),
            self.newer: gr.update(interactive=offset > 0),
            self.older: gr.update(interactive=last < found),
        }

    def on_replay(self, names: bool, annotator: str, event: gr.EventData) -> dict[Any, Any]:
        """A stored pair in the player; its names only if the annotator has voted on it, or asked for all names."""
        try:
            record = self.history.record(event.pair_id)
            pair, vote = record.pair, own_vote(record, annotator)
            labels = texts.side_labels(pair) if vote or names else _LETTERS
            pack = pack_pair(*self.engine.poses(pair.left), *self.engine.poses(pair.right), labels=labels)
        except Exception as error:
            return {self.told: texts.notice(sentence_of(error), "error")}
        return {
            self.player: pack,
            self.replayed: Replayed(pair.id, pack, time.monotonic()),
            **self._answer_row(record, vote, seen=names),
            **self.downloads.enabled(),
        }

    def on_vote(self, verdict: str, replayed: Replayed | None, annotator: str) -> dict[Any, Any]:
        """Store the answer, as a change where there was one, and show the names."""
        try:
            if replayed is None:
                raise ValueError("There is no pair to vote on yet. Press Replay first.")
            self.engine.vote(replayed.pair_id, verdict, annotator, time.monotonic() - replayed.shown_at)
            record = self.history.record(replayed.pair_id)
        except Exception as error:
            return {self.told: texts.notice(sentence_of(error), "error")}
        labels = texts.side_labels(record.pair)
        return {
            self.player: relabel(replayed.pack, labels),
            **self._answer_row(record, own_vote(record, annotator), seen=True),
        }

    def on_undo(self, replayed: Replayed | None, annotator: str) -> dict[Any, Any]:
        """Take the answer back; the names were seen, so a new one is stored as not blind."""
        try:
            self.engine.undo_vote(replayed.pair_id if replayed else "", annotator)
            record = self.history.record(replayed.pair_id if replayed else "")
        except Exception as error:
            return {self.told: texts.notice(sentence_of(error), "error")}
        return self._answer_row(record, None, seen=False) | {self.told: texts.notice("Vote taken back.")}

    def _answer_row(self, record: PairRecord, vote: Vote | None, seen: bool) -> dict[Any, Any]:
        """The buttons and the line below them. Who has seen the names without having voted gives no first vote."""
        allowed = vote is not None or not seen
        line = texts.replayed(record.pair, vote, allowed)
        return {
            **{
                button: gr.update(
                    interactive=allowed, variant="primary" if vote and vote.verdict == name else "secondary"
                )
                for name, button in self.votes.items()
            },
            self.undo: gr.update(interactive=vote is not None),
            self.told: line,
        }
