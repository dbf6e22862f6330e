"""A grammar that writes captions for labelled motion, the way people phrase them.

A caption is made of segments (action, style, tempo) joined by a relation: one action ("single"), a sequence ("then")
or two at once ("while"). Each segment becomes a verb phrase in the form its place needs (walks / walk / walking /
walked); style and tempo take one of several places (adjective, adverb, closing clause, the subject itself, a verb of
its own such as "trudges"). Left and right are part of the action's name and are always said.
What it leaves out: who else is in the scene, counts, speed in numbers.

    caption([Segment("walk", "tired"), Segment("wave-right-hand", "tired")], "then", random.Random(0))
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.data.caption_subjects import Subject, allowed_genders, pick_subject
from core.data.caption_words import (
    ACTION_NOUNS,
    ACTION_PHRASES,
    BANDAI_ACTIONS,
    BANDAI_STYLES,
    LOCOMOTION,
    NORMAL_CLAUSES,
    STYLE_WORDS,
    TEMPO_ADVERBS,
    TEMPO_CLAUSES,
    TOO_SLOW_VERBS,
)
from core.data.english import Form, inflect, tidy, with_article
from core.text.duration import suggest_duration_s as suggest_duration_s

Relation = Literal["single", "then", "while"]

ACTIONS = tuple(sorted(ACTION_PHRASES))
STYLES = tuple(sorted(STYLE_WORDS))
TEMPOS = tuple(TEMPO_ADVERBS)


@dataclass(frozen=True)
class Segment:
    """One labelled stretch of motion: `action` in ACTIONS, `style` in STYLES, `tempo` in TEMPOS, else ValueError."""

    action: str
    style: str = "normal"
    tempo: str = "normal"

    def __post_init__(self) -> None:
        for field, value, allowed in (
            ("action", self.action, ACTIONS),
            ("style", self.style, STYLES),
            ("tempo", self.tempo, TEMPOS),
        ):
            if value not in allowed:
                raise ValueError(f"{field}={value!r} is unknown. Use one of: {', '.join(allowed)}.")


def action_of(content: str) -> str:
    """Action name of a Bandai-Namco content label ("bye" -> "wave-goodbye-right-hand"); ValueError when unknown."""
    if content not in BANDAI_ACTIONS:
        raise ValueError(f"content={content!r} is no Bandai-Namco content. Known: {', '.join(BANDAI_ACTIONS)}.")
    return BANDAI_ACTIONS[content]


def style_of(label: str) -> str:
    """Style name of a Bandai-Namco style label ("exhausted" -> "tired"); ValueError when unknown."""
    if label not in BANDAI_STYLES:
        raise ValueError(f"style={label!r} is no Bandai-Namco style. Known: {', '.join(sorted(BANDAI_STYLES))}.")
    return BANDAI_STYLES[label]


def mirror_action(action: str) -> str:
    """The action with left and right swapped; one without a side is its own mirror. ValueError when unknown."""
    swap = {"left": "right", "right": "left"}
    mirrored = "-".join(swap.get(word, word) for word in action.split("-"))
    if mirrored not in ACTION_PHRASES:
        raise ValueError(f"action={action!r} is unknown. Use one of: {', '.join(ACTIONS)}.")
    return mirrored


def n_paraphrases(action: str, style: str) -> int:
    """Lower bound of different ways to say one action in one style: verb phrases times style expressions."""
    words = STYLE_WORDS[style]
    expressions = len(words.adjectives) + len(words.adverbs) + len(words.clauses) + len(words.nouns)
    return len(ACTION_PHRASES[action]) * max(1, expressions)


# --- verbs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Context:
    """What the phrases of one caption share: who, how possessives and pronouns are said, man or woman."""

    subject: Subject
    own: str  # their, his, her
    man: str  # man, woman, person
    terse: bool = False

    @classmethod
    def draw(cls, subject: Subject, genders: Sequence[str], rng: random.Random, terse: bool = False) -> _Context:
        """Choose possessive and noun once for the whole caption, so that they agree."""
        gender = subject.gender
        if gender == "neutral" and not subject.plural:  # people write "a person waves with his right hand"
            gender = rng.choice(["neutral", "neutral", *genders])
        own = {"male": "his", "female": "her", "neutral": "their"}[gender]
        if gender == "neutral":
            gender = rng.choice(genders)
        return cls(subject, own, {"male": "man", "female": "woman", "neutral": "person"}[gender], terse)

    @property
    def pronoun(self) -> str:
        """he, she or they."""
        return {"his": "he", "her": "she", "their": "they"}[self.own]

    def fill(self, phrase: str, rng: random.Random) -> str:
        """Fill every mark except the verbs."""
        if self.terse:  # "wave right hand", "put hands up"
            phrase = phrase.replace("<poss>", rng.choice(["", "the"])).replace("<own>", "")
            phrase = phrase.replace("as fast as <subj> can", "as fast as possible")
        phrase = phrase.replace("<poss>", rng.choice([self.own, self.own, "the"])).replace("<own>", self.own)
        return phrase.replace("<subj>", self.pronoun).replace("<man>", self.man)


@dataclass(frozen=True)
class _StyleChoice:
    """One expression of a style on a verb phrase; empty strings where unused."""

    before: str = ""
    after: str = ""
    walk_verb: str = ""


def _choose_style(segment: Segment, phrase: str, rng: random.Random) -> _StyleChoice:
    words = STYLE_WORDS[segment.style]
    if segment.style == "normal":
        plain = segment.tempo == "normal" and rng.random() < 0.06
        return _StyleChoice(after=rng.choice(NORMAL_CLAUSES) if plain else "")
    if words.walk_verbs and "[walk]" in phrase and rng.random() < 0.25:
        return _StyleChoice(walk_verb=rng.choice(words.walk_verbs))
    if rng.random() < 0.5:
        return _StyleChoice(after=rng.choice(words.clauses))
    adverb = rng.choice(words.adverbs)
    return _StyleChoice(before=adverb) if rng.random() < 0.5 else _StyleChoice(after=adverb)


def _choose_phrase(segment: Segment, simple: bool, rng: random.Random) -> str:
    """A verb phrase of the action; `simple` ones have no second clause, for places inside a longer sentence."""
    phrases = list(ACTION_PHRASES[segment.action])
    if segment.tempo == "fast":
        phrases = [phrase for phrase in phrases if not phrase.startswith(TOO_SLOW_VERBS)]
    if simple:
        phrases = [phrase for phrase in phrases if not re.search(r",| and | while | before ", phrase)] or phrases
    return phrases[0] if rng.random() < 0.15 else rng.choice(phrases)


def _verb_phrase(
    segment: Segment, form: Form, context: _Context, rng: random.Random, *, styled: bool, simple: bool = False
) -> str:
    """The segment in one verb form, with its tempo, and with its style when `styled`."""
    phrase = _choose_phrase(segment, simple, rng)
    style = _choose_style(segment, phrase, rng) if styled else _StyleChoice()
    if style.walk_verb:
        phrase = phrase.replace("[walk]", f"[{style.walk_verb}]")
    before, after = style.before, style.after
    if segment.tempo != "normal":
        adverb = rng.choice(TEMPO_ADVERBS[segment.tempo])
        if rng.random() < 0.35:
            after = f"{after} {rng.choice(TEMPO_CLAUSES[segment.tempo])}"
        elif rng.random() < 0.5 and not before:
            before = adverb
        else:
            after = f"{adverb} and {after}" if after in STYLE_WORDS[segment.style].adverbs else f"{adverb} {after}"
    text = context.fill(f"{before} {phrase} {after}", rng)
    return tidy(re.sub(r"\[(\w+)\]", lambda match: inflect(match.group(1), form), text))


# --- sentences -----------------------------------------------------------------------------------------------------


def _styled_subject(subject: Subject, style: str, context: _Context, rng: random.Random) -> str:
    """The subject with the style said on it: "a tired man", "an old woman", "a person who is sad"."""
    words = STYLE_WORDS[style]
    adjective = rng.choice(words.adjectives)
    if subject.pronoun:
        return subject.text if subject.text not in ("someone", "somebody") else f"{subject.text} {adjective}"
    draw = rng.random()
    article, _, noun = subject.text.rpartition(" ")
    article = article or "a"
    if draw < 0.12:
        return f"{subject.text} who {rng.choice(['is', 'seems', 'looks'])} {adjective}"
    adjectived = adjective + " " + noun
    if draw < 0.34 and words.nouns:
        adjectived = context.fill(rng.choice(_nouns_for(words.nouns, subject)), rng)
    return with_article(adjectived) if article == "a" else f"{article} {adjectived}"


def _nouns_for(nouns: Sequence[str], subject: Subject) -> list[str]:
    """Nouns that agree with the subject's gender ("tough guy" not for a woman, which styles already exclude)."""
    gendered = {"male": ("lady", "woman"), "female": ("man", "guy")}.get(subject.gender, ())
    return [noun for noun in nouns if not re.search(rf"\b({'|'.join(gendered) or '-'})\b", noun)] or list(nouns)


def _finite(subject: Subject, rng: random.Random) -> tuple[str, Form]:
    """Auxiliary and verb form of a main clause: walks, is walking, walked; "person waving" without auxiliary."""
    if subject.text == "person":
        return rng.choice([("", "ing"), ("is", "ing"), ("", "s")])
    draw = rng.random()
    if draw < 0.15:
        return ("are" if subject.plural else "is"), "ing"
    if draw < 0.20:
        return "", "past"
    return "", "base" if subject.plural else "s"


def _join_sequence(segments: Sequence[Segment], shared: bool, context: _Context, who: str, rng: random.Random) -> str:
    """ "A, then B" and its paraphrases; three and more parts are chained with "then"."""

    def phrase(index: int, form: Form) -> str:
        return _verb_phrase(segments[index], form, context, rng, styled=not shared, simple=True)

    auxiliary, form = _finite(context.subject, rng)
    head = tidy(f"{who} {auxiliary}")
    rest = "".join(f", then {phrase(index, form)}" for index in range(2, len(segments)))
    pronoun = context.pronoun
    pronoun_form: Form = "past" if form == "past" else "base" if pronoun == "they" else "s"
    patterns = [
        lambda: f"{head} {phrase(0, form)}, then {phrase(1, form)}",
        lambda: f"{head} {phrase(0, form)}, then {phrase(1, form)}",
        lambda: f"{head} {phrase(0, form)} and then {phrase(1, form)}",
        lambda: f"{head} {phrase(0, form)} then {phrase(1, form)}",
        lambda: f"{head} {phrase(0, form)}, and after that {phrase(1, form)}",
        lambda: f"{head} {phrase(0, form)} before {phrase(1, 'ing')}",
        lambda: f"{head} first {phrase(0, form)}, then {phrase(1, form)}",
        lambda: f"{head} {phrase(0, form)}, {inflect('stop', form)} and {phrase(1, form)}",
        lambda: f"{head} {phrase(0, form)}. then {pronoun} {phrase(1, pronoun_form)}",
        lambda: f"after {phrase(0, 'ing')}, {head} {phrase(1, form)}",
        lambda: f"first {head} {phrase(0, form)}, then {pronoun} {phrase(1, pronoun_form)}",
    ]
    if who == "person":
        del patterns[-2:]  # a bare "person" only opens a caption
    if segments[0].action in LOCOMOTION and segments[1].action in LOCOMOTION:
        del patterns[7]  # "stops and" would add a stop that the motion lacks
    return rng.choice(patterns)() + rest


def _join_while(segments: Sequence[Segment], shared: bool, context: _Context, who: str, rng: random.Random) -> str:
    """ "walks forward while waving ..." and its paraphrases; the locomotion comes from either part."""
    first, second = segments
    swapped = second.action in LOCOMOTION and first.action not in LOCOMOTION
    lower, upper = (second, first) if swapped else (first, second)

    def phrase(segment: Segment, form: Form) -> str:
        return _verb_phrase(segment, form, context, rng, styled=not shared, simple=True)

    auxiliary, form = _finite(context.subject, rng)
    head = tidy(f"{who} {auxiliary}")
    pronoun = context.pronoun
    pronoun_form: Form = "past" if form == "past" else "base" if pronoun == "they" else "s"
    patterns = [
        lambda: f"{head} {phrase(lower, form)} while {phrase(upper, 'ing')}",
        lambda: f"{head} {phrase(upper, form)} while {phrase(lower, 'ing')}",
        lambda: f"{head} {phrase(lower, form)}, {phrase(upper, 'ing')}",
        lambda: f"{head} {phrase(upper, form)} as {pronoun} {phrase(lower, pronoun_form)}",
        lambda: f"{head} {phrase(lower, form)} and {phrase(upper, form)} at the same time",
        lambda: f"while {phrase(lower, 'ing')}, {head} {phrase(upper, form)}",
    ]
    if who == "person":
        del patterns[-1:]  # a bare "person" only opens a caption
    return rng.choice(patterns)()


def _terse(segments: Sequence[Segment], relation: Relation, context: _Context, rng: random.Random) -> str:
    """What people type into a box: "wave right hand", "walking wearily", "tired walk"."""
    first = segments[0]
    if relation == "single" and rng.random() < 0.3:
        words = STYLE_WORDS[first.style]
        tempo = rng.choice({"slow": ["slow"], "fast": ["fast", "quick"]}.get(first.tempo, [""]))
        adjective = rng.choice(words.adjectives) if words.adjectives else ""
        return tidy(f"{tempo} {adjective} {rng.choice(ACTION_NOUNS[first.action])}")
    form: Form = rng.choice(["base", "ing"])
    parts = [_verb_phrase(segment, form, context, rng, styled=True, simple=True) for segment in segments]
    if relation == "while":
        follower = _verb_phrase(segments[1], "ing", context, rng, styled=True, simple=True)
        return f"{parts[0]} while {follower}"
    return rng.choice([", then ", " then ", " and then "]).join(parts)


def _check(segments: Sequence[Segment], relation: str) -> None:
    allowed = {"single": (1, 1), "then": (2, 4), "while": (2, 2)}
    if relation not in allowed:
        raise ValueError(f"relation={relation!r} is unknown. Use single, then or while.")
    least, most = allowed[relation]
    if not least <= len(segments) <= most:
        raise ValueError(f"relation={relation!r} takes {least} to {most} segments, got {len(segments)}.")


def caption(segments: Sequence[Segment], relation: Relation, rng: random.Random) -> str:
    """Write one caption, lower case, full stop in about a third; equal arguments and rng state give equal text.

    segments: 1 for "single", 2-4 for "then" in order, 2 for "while" in any order. ValueError otherwise.
    """
    _check(segments, relation)
    styles = [segment.style for segment in segments]
    subject = pick_subject(styles, rng)
    if rng.random() < 0.12:
        context = _Context.draw(Subject("person"), allowed_genders(styles), rng, terse=True)
        return _terse(segments, relation, context, rng)
    context = _Context.draw(subject, allowed_genders(styles), rng)
    shared = len(set(styles)) == 1 and styles[0] != "normal" and rng.random() < 0.6
    shared = shared and not (subject.pronoun and subject.text not in ("someone", "somebody"))
    who = _styled_subject(subject, styles[0], context, rng) if shared else subject.text
    if relation == "then":
        text = _join_sequence(segments, shared, context, who, rng)
    elif relation == "while":
        text = _join_while(segments, shared, context, who, rng)
    else:
        auxiliary, form = _finite(subject, rng)
        text = f"{who} {auxiliary} {_verb_phrase(segments[0], form, context, rng, styled=not shared)}"
    return tidy(text) + ("." if rng.random() < 0.35 else "")


def canonical_caption(segments: Sequence[Segment], relation: Relation) -> str:
    """The one plain caption used in tables: "a tired person walks forward, then waves with the right hand"."""
    _check(segments, relation)
    styles = {segment.style for segment in segments}
    adjective = STYLE_WORDS[segments[0].style].adjectives[:1] if len(styles) == 1 else ()
    who = with_article(" ".join([*adjective, "person"]))

    def phrase(segment: Segment, form: Form) -> str:
        text = ACTION_PHRASES[segment.action][0].replace("<poss>", "the").replace("<own>", "their")
        text = re.sub(r"\[(\w+)\]", lambda match: inflect(match.group(1), form), text)
        tempo = TEMPO_ADVERBS[segment.tempo][:1]
        adverb = STYLE_WORDS[segment.style].adverbs[:1] if len(styles) > 1 else ()
        return " ".join([*tempo, text, *adverb])

    if relation == "while":
        first, second = segments
        if second.action in LOCOMOTION and first.action not in LOCOMOTION:
            first, second = second, first
        return f"{who} {phrase(first, 's')} while {phrase(second, 'ing')}"
    return f"{who} " + ", then ".join(phrase(segment, "s") for segment in segments)


_SURPRISE_GESTURES = tuple(action for action in ACTIONS if action.startswith(("wave-", "raise-")))


def surprise(seed: int) -> str:
    """A random prompt from the grammar; equal seeds give equal prompts."""
    rng = random.Random(seed)
    relation: Relation = rng.choice(["single", "then", "while"])
    style = rng.choice(STYLES)
    if relation == "single":
        segments = [Segment(rng.choice(ACTIONS), style)]
    elif relation == "then":
        segments = [Segment(action, style) for action in rng.sample(ACTIONS, 2)]
    else:
        segments = [Segment(rng.choice(("walk", "run")), style), Segment(rng.choice(_SURPRISE_GESTURES), style)]
    return caption(segments, relation, rng)
