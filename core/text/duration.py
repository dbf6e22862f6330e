"""How long a clip should last, read from its text: typical lengths of known verbs, added up over the sequence.

No parser: the text is cut at words of sequence ("then", "before", a full stop ...), each piece lasts as long as its
longest known verb. Lengths are the medians of the training clips, shortened where the clips repeat one gesture.
"""

from __future__ import annotations

import re

MIN_DURATION_S = 2.0  # 40 frames at 20 fps
MAX_DURATION_S = 9.8  # 196 frames at 20 fps
DEFAULT_PIECE_S = 4.0  # a piece without a known verb
SLOW_FACTOR = 1.25  # "slowly" and the like stretch a piece
FAST_FACTOR = 0.8

_SEQUENCE = re.compile(
    r"\b(?:and then|then|before|after that|after which|afterwards?|followed by|and finally|finally|next)\b"
    r"|\band (?:stops?|stopping|stopped) and\b|, (?:stops?|stopping|stopped) and\b|[.;!?]"
)
_VERB_LENGTHS_S = (  # stem, seconds
    (r"turn|corner|curv", 5.0),
    (r"walk|stroll|step|pac(?:e|ing)\b|march|strut|trudg|shuffl|wander|stomp|swagger|creep|tiptoe|hobbl|plod", 4.5),
    (r"\brun|\bran\b|jog", 3.5),
    (r"sprint|dash|\brac(?:e|ing)|rush|full speed|as fast as", 2.8),
    (r"wav(?:e|ing)|goodbye|\bbye|farewell|greet", 4.0),
    (r"rais|lift|put|hold|reach|stretch", 2.6),
    (r"\bbow|\bbend|bent", 4.5),
    (r"danc", 8.0),
    (r"punch|kick|box|slash|sword|fight|karate|jab", 4.0),
    (r"guid|show|point|call|shout|respon|answer", 4.0),
)
_SLOW = re.compile(r"\b(slow(?:ly)?|unhurried(?:ly)?|in no hurry|tired(?:ly)?|exhausted|old|elderly|wear(?:y|ily))\b")
_FAST = re.compile(r"\b(fast|quick(?:ly)?|rapid(?:ly)?|swift(?:ly)?|in a hurry|briefly)\b")


def suggest_duration_s(prompt: str) -> float:
    """Length in seconds for a prompt, in [2.0, 9.8], a multiple of 0.1; any text gets an answer."""
    pieces = [piece for piece in _SEQUENCE.split(prompt.lower()) if re.search(r"\w", piece)]
    # "after walking, a person bows": the comma ends the first piece
    pieces = [part for piece in pieces for part in (piece.split(",", 1) if _opens_with_clause(piece) else [piece])]
    total = sum(_piece_length_s(piece) for piece in pieces) or DEFAULT_PIECE_S
    return round(min(max(total, MIN_DURATION_S), MAX_DURATION_S), 1)


def _opens_with_clause(piece: str) -> bool:
    return bool(re.match(r"\s*(after|once|having)\b[^,]*,", piece))


def _piece_length_s(piece: str) -> float:
    lengths = [length for stem, length in _VERB_LENGTHS_S if re.search(stem, piece)]
    if not lengths and len(piece.split()) < 2:
        return 0.0  # "finally", "slowly": a word of its own lasts no time
    base = max(lengths, default=DEFAULT_PIECE_S)
    if _FAST.search(piece):
        return base * FAST_FACTOR
    return base * SLOW_FACTOR if _SLOW.search(piece) else base
