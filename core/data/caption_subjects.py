"""Who does it in a caption: "a person", "a man", "she" ..., in keeping with masculine and feminine styles."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Subject:
    """Subject of a sentence: noun (takes adjectives) or pronoun, its gender and grammatical number."""

    text: str
    gender: Literal["male", "female", "neutral"] = "neutral"
    plural: bool = False
    pronoun: bool = False


_NEUTRAL = (
    [Subject("a person")] * 8
    + [Subject("the person")] * 3
    + [Subject("someone", pronoun=True)] * 2
    + [Subject("the figure"), Subject("a figure"), Subject("this person"), Subject("person"), Subject("a character")]
    + [Subject("somebody", pronoun=True), Subject("they", plural=True, pronoun=True), Subject("a human")]
)
_MALE = (
    [Subject("a man", "male")] * 4
    + [Subject("the man", "male"), Subject("a guy", "male"), Subject("a guy", "male")]
    + [Subject("he", "male", pronoun=True)]
)
_FEMALE = [Subject("a woman", "female")] * 3 + [
    Subject("the woman", "female"),
    Subject("a lady", "female"),
    Subject("she", "female", pronoun=True),
]


def allowed_genders(styles: Sequence[str]) -> tuple[str, ...]:
    """Genders a subject may have so that it doesn't contradict a masculine or feminine style."""
    masculine, feminine = "masculine" in styles, "feminine" in styles
    if masculine and feminine:
        return ("neutral",)
    if masculine:
        return ("neutral", "male")
    return ("neutral", "female") if feminine else ("neutral", "male", "female")


def pick_subject(styles: Sequence[str], rng: random.Random) -> Subject:
    """Draw a subject that contradicts none of the styles."""
    pools = {"neutral": _NEUTRAL, "male": _MALE, "female": _FEMALE}
    weights = {"neutral": 0.6, "male": 0.25, "female": 0.15}
    genders = allowed_genders(styles)
    gender = rng.choices(genders, [weights[name] for name in genders])[0]
    return rng.choice(pools[gender])
