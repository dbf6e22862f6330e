"""Sentences and small pieces of HTML for the page. Whatever a user typed is escaped here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from core.engine import Status
from core.preference.types import Pair, Vote

VERDICT_WORDS = {
    "left": "A is better",
    "right": "B is better",
    "tie": "Tie",
    "both_bad": "Both bad",
    "skip": "Skipped",
}
_KEYS = [("←", "A"), ("→", "B"), ("↓", "tie"), ("↑", "both bad"), ("S", "skip")]  # as app/page.js
_KEYS += [("Z", "undo"), ("R", "re-roll"), ("Space", "play")]
_CAPS = "".join(f"<span><kbd>{key}</kbd> {what}</span>" for key, what in _KEYS)
KEYS = f'<p class="keys"><b>Which one moved better?</b>{_CAPS}</p>'
WELCOME = "Describe a movement and press Generate. Two models answer; you say which one moved better."


def status_pill(status: Status) -> str:
    """The small line at the top right: loading, ready or failed."""
    kind = "error" if status.error else "ready" if status.ready else "loading"
    message = "Models not loaded" if status.error else status.message
    return f'<span class="pill {kind}" role="status"><i></i>{escape(message)}</span>'


def notice(text: str = "", kind: str = "info") -> str:
    """One inline sentence; kind is "info" or "error". An empty text gives an empty line."""
    role = "alert" if kind == "error" else "note"
    return f'<p class="notice {kind}" role="{role}">{escape(text)}</p>' if text else ""


def version_words(version: str) -> str:
    """A model version as a reader's word."""
    return {"base": "base", "aligned": "EasyTune-aligned"}.get(version, version)


def reveal(vote: Vote) -> str:
    """What the two sides were, after a vote."""
    sides = f"<b class='a'>A</b> was <b>{escape(version_words(vote.left_version))}</b>, "
    sides += f"<b class='b'>B</b> was <b>{escape(version_words(vote.right_version))}</b>."
    return f'<p class="reveal" role="status"><span>{VERDICT_WORDS[vote.verdict]}, saved.</span> {sides}</p>'


def revealed_labels(vote: Vote) -> tuple[str, str]:
    """The player's two labels once the names are known."""
    return f"A · {version_words(vote.left_version)}", f"B · {version_words(vote.right_version)}"


def side_labels(pair: Pair) -> tuple[str, str]:
    """The player's two labels with the names."""
    return f"A · {version_words(pair.left.model_version)}", f"B · {version_words(pair.right.model_version)}"


def replayed(pair: Pair, vote: Vote | None, allowed: bool) -> str:
    """The line below a pair that is watched again: prompt, own answer, and whether it can be answered."""
    if vote is not None:
        said = f"Your answer: {VERDICT_WORDS[vote.verdict]}. Another button changes it."
    elif allowed:
        said = "Which one moved better? The names come after your answer."
    else:
        said = "The names are shown, so this is no place for a first vote."
    prompt = f"<b>{escape(pair.left.prompt)}</b>"
    return f'<p class="reveal" role="status">{prompt} <span>{said}</span></p>'


def count(number: int, noun: str) -> str:
    """ "1 vote", "2 votes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def example_prompts(path: Path, count: int) -> Sequence[str]:
    """The first prompts of assets/prompts.json; none if the file is missing."""
    if not path.exists():
        return ()
    prompts = json.loads(path.read_text(encoding="utf-8"))
    return tuple(prompts)[:count]
