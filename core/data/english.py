"""The little English that the caption grammar needs: inflecting verbs, articles, spacing."""

from __future__ import annotations

import re
from typing import Literal

Form = Literal["s", "base", "ing", "past"]  # walks, walk, walking, walked

IRREGULAR_PAST = {
    "run": "ran", "make": "made", "take": "took", "go": "went", "give": "gave", "swing": "swung", "throw": "threw",
    "hold": "held", "bend": "bent", "put": "put", "say": "said", "bid": "bade", "hit": "hit", "strike": "struck",
    "stick": "stuck", "bring": "brought", "break": "broke", "do": "did", "cut": "cut",
    "fight": "fought", "keep": "kept",
}  # fmt: skip
DOUBLING_VERBS = frozenset({"run", "jog", "step", "put", "bid", "hit", "cut", "strut", "plod", "skip", "stop"})


def inflect(verb: str, form: Form) -> str:
    """Third person ("s"), "base", "ing" or "past" of an English verb of the vocabulary."""
    if form == "base":
        return verb
    if form == "s":
        if re.search(r"(s|sh|ch|x|o)$", verb):
            return verb + "es"
        return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"
    stem = verb + verb[-1] if verb in DOUBLING_VERBS else verb
    if form == "ing":
        return (stem[:-1] if stem.endswith("e") and not stem.endswith("ee") else stem) + "ing"
    if verb in IRREGULAR_PAST:
        return IRREGULAR_PAST[verb]
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    return stem + ("d" if stem.endswith("e") else "ed")


def with_article(noun_phrase: str) -> str:
    """ "old man" -> "an old man"."""
    return f"{'an' if noun_phrase[0] in 'aeiou' else 'a'} {noun_phrase}"


def tidy(text: str) -> str:
    """Single spaces, none before a comma."""
    return re.sub(r"\s+", " ", text).replace(" ,", ",").strip()
