"""The history as cards: thumbnails of both motions, the prompt, the answers. Whatever a user typed is escaped here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from html import escape

from app import texts
from core.motion.features import recover_joints
from core.preference.store import PairRecord, PreferenceStore
from core.preference.types import Take, Vote
from core.render.thumbnail import pose_strip_svg

_N_CACHED = 2000  # thumbnails of some 3 kB
NOTHING_YET = "Nothing here yet. Generate a pair in Compare; it appears here with its votes."
NOTHING_FOUND = "No pair matches. Change the filters above."


def own_vote(record: PairRecord, annotator: str) -> Vote | None:
    """The annotator's standing vote on the pair."""
    return next((vote for vote in record.votes if vote.annotator == annotator.strip()), None)


class Gallery:
    """Draws cards; keeps the thumbnails it has drawn."""

    def __init__(self, store: PreferenceStore) -> None:
        self._store = store
        self._strip = lru_cache(_N_CACHED)(self._draw)

    def cards(self, records: Iterable[PairRecord], annotator: str, names: bool, empty: str) -> str:
        """A list of the pairs, each with buttons that carry its id in data-pair.

        Names and other people's answers stand where the annotator has voted, or where `names` says so.
        """
        cards = "".join(self._card(record, annotator, names) for record in records)
        return f'<ul class="cards">{cards}</ul>' if cards else f'<p class="empty">{empty}</p>'

    def _card(self, record: PairRecord, annotator: str, names: bool) -> str:
        pair, vote = record.pair, own_vote(record, annotator)
        strips = "".join(
            f'<span class="side-{letter}"><b>{letter.upper()}</b>{self._strip(take.motion_sha256)}</span>'
            for letter, take in (("a", pair.left), ("b", pair.right))
        )
        prompt = escape(pair.left.prompt)
        told = f"{pair.created:%Y-%m-%d %H:%M} UTC · {pair.left.duration_s:.1f} s · seed {pair.left.seed}"
        answers = _answers(record, vote, names) if vote or names else "Not voted by you yet; names are hidden"
        return (
            f'<li class="card"><div class="strips">{strips}</div>'
            f'<div class="what"><p class="prompt">{prompt}</p><p class="meta">{told}</p>'
            f'<p class="answers">{answers}</p></div><div class="acts">'
            f"{_button('replay', pair.id, 'Replay', prompt)}{_button('link', pair.id, 'Copy link', prompt)}</div></li>"
        )

    def _draw(self, sha256: str) -> str:
        """The thumbnail of a stored motion; empty where its file is missing or damaged, which a replay will tell."""
        try:
            return pose_strip_svg(recover_joints(self._store.motions.load(sha256)))
        except (FileNotFoundError, ValueError):
            return ""


def _answers(record: PairRecord, own: Vote | None, names: bool) -> str:
    """Who stands where, the annotator's own answer, and how often others gave each."""
    parts = [_sides(record.pair.left, record.pair.right)]
    if own:
        parts.append(f"you: <b>{texts.VERDICT_WORDS[own.verdict]}</b>")
    others = Counter(texts.VERDICT_WORDS[vote.verdict] for vote in record.votes if vote is not own)
    parts += [f"{count} × {word}" for word, count in others.most_common()]
    if names and not record.votes:
        parts.append("not voted yet")
    return " · ".join(parts)


def _sides(left: Take, right: Take) -> str:
    named = zip("AB", (left, right), strict=True)
    return ", ".join(f"{letter} {escape(texts.version_words(take.model_version))}" for letter, take in named)


def _button(act: str, pair_id: str, label: str, prompt: str) -> str:
    hidden = f'<span class="unseen">: {prompt}</span>'  # so that buttons differ for a screen reader
    return f'<button type="button" data-act="{act}" data-pair="{escape(pair_id)}">{label}{hidden}</button>'
