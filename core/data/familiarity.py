"""How far a prompt is from what the model has learnt.

A prompt is cut into clauses; each clause is compared with reference texts from the caption grammar by the cosine of
sentence vectors, minus a little for every content word that the grammar never uses. The least familiar clause decides,
so that "walks forward, then does a cartwheel" is far although half of it is well known. It's a hint for the page, not
a filter. The threshold was set on unseen grammar captions and on 160 human captions read one by one; the figures
stand beside FAR_BELOW.

    python -m core.data.familiarity     # writes assets/familiarity.npz after a change of the grammar (10 s)
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.data.caption_words import ACTION_NOUNS, ACTION_PHRASES, STYLE_WORDS, TEMPO_ADVERBS, TEMPO_CLAUSES
from core.data.captions import ACTIONS, STYLES, Segment, canonical_caption, caption
from core.data.english import Form, inflect

if TYPE_CHECKING:
    from core.text.encoder import TextEncoder

FAR_BELOW = 0.62  # flags 1 % of unseen grammar captions and all of 24 far prompts (swims, cartwheel, ladder ...)
UNKNOWN_WORD_COST = 0.08  # per content word that the grammar never uses, at most MAX_UNKNOWN of them
MAX_UNKNOWN = 2
PARAPHRASES = 3  # per action and style, beside the canonical caption
ASSET = Path(__file__).resolve().parents[2] / "assets" / "familiarity.npz"

_CLAUSE_END = re.compile(
    r"\b(?:then|before|after(?: that| which)?|afterwards?|followed by|finally|first|while|and|at the same time)\b"
    r"|(?<!fast )\bas (?=(?:he|she|they|a|the person|someone)\b)|[.,;:!?]"
)
_FILLER_TEXT = """
a an the this that it its he she they his her their him them himself herself themselves i you your my we someone
somebody person people man woman guy lady human figure character individual is are was were be been being has have had
who which as if like so very really quite again also once twice times time one two three four few several some another
other each both with without of in on at to from for by into onto up down out off over around about through toward
towards there here while then and or but not no slightly little bit way manner motion movement same first last after
mostly front forth start begin continue stop stopped stand still seem appear look do does doing make makes making get
"""
_FILLERS = frozenset(_FILLER_TEXT.split())
_FILLERS_AND_FORMS = _FILLERS | {form + end for form in _FILLERS if len(form) > 3 for end in ("s", "ing", "ed", "ping")}


@dataclass(frozen=True)
class Familiarity:
    """similarity in [0, 1] of the least familiar clause, that clause, the nearest canonical caption, and the flag."""

    similarity: float
    clause: str
    nearest: str
    far: bool

    @property
    def sentence(self) -> str:
        """A remark for the page when the prompt is far, else an empty string."""
        if not self.far:
            return ""
        return f'"{self.clause}" is far from what the models have learnt; the nearest they know: "{self.nearest}".'


def split_clauses(prompt: str) -> list[str]:
    """The clauses of a prompt that say something: "a man walks, then he waves" -> ["a man walks", "he waves"]."""
    parts = [" ".join(part.split()) for part in _CLAUSE_END.split(prompt.lower())]
    kept = [part for part in parts if content_words(part)]
    return kept or [" ".join(prompt.lower().split())]


def content_words(text: str) -> list[str]:
    """Stems of the words that carry meaning; fillers such as articles, pronouns and prepositions are left out."""
    return [stem(word) for word in re.findall(r"[^\W\d_]+", text.lower()) if word not in _FILLERS_AND_FORMS]


def stem(word: str) -> str:
    """A crude stem that maps waves, waving and waved to one string; good enough to compare vocabularies."""
    if len(word) > 3:
        word = re.sub(r"(ing|edly|ed|ly|es|s|er)$", "", word)
    word = re.sub(r"([^aeiou])\1$", r"\1", word)
    return word.rstrip("e") if len(word) > 3 else word


def reference_texts(seed: int = 1) -> tuple[list[str], list[str]]:
    """(texts, canonical caption of each): every action in every style, canonical and paraphrased; every phrase's
    clauses without a subject ("stepping forward"); every style word."""
    rng = random.Random(seed)
    pairs: dict[str, str] = {}
    for action in ACTIONS:
        for style in STYLES:
            segments = [Segment(action, style)]
            canonical = canonical_caption(segments, "single")
            drawn = [caption(segments, "single", rng).rstrip(".") for _ in range(PARAPHRASES)]
            pairs |= {text: pairs.get(text, canonical) for text in (canonical, *drawn)}
    for action, phrases in ACTION_PHRASES.items():
        for clause in (clause for phrase in phrases for clause in split_clauses(_spoken(phrase))):
            pairs.setdefault(clause, canonical_caption([Segment(action)], "single"))
    for style, words in STYLE_WORDS.items():
        canonical = canonical_caption([Segment("walk", style)], "single")
        for text in (*words.adjectives, *words.adverbs, *words.clauses):
            pairs.setdefault(text.replace("<man>", "person"), canonical)
    return list(pairs), list(pairs.values())


def _spoken(phrase: str) -> str:
    """A grammar phrase as a participle: "[raise] <poss> left arm" -> "raising the left arm"."""
    text = re.sub(r"\[(\w+)\]", lambda match: inflect(match.group(1), "ing"), phrase)
    return text.replace("<poss>", "the").replace("<own>", "their").replace("<subj>", "they")


def _grammar_stems() -> frozenset[str]:
    phrases = [phrase for table in (ACTION_PHRASES, ACTION_NOUNS) for group in table.values() for phrase in group]
    phrases += [phrase for table in (TEMPO_ADVERBS, TEMPO_CLAUSES) for group in table.values() for phrase in group]
    forms: tuple[Form, ...] = ("base", "s", "ing", "past")
    for words in STYLE_WORDS.values():
        phrases += [*words.adjectives, *words.adverbs, *words.clauses, *words.nouns, *words.walk_verbs]
        phrases += [inflect(verb, form) for verb in words.walk_verbs for form in forms]
    verbs = {verb for phrase in phrases for verb in re.findall(r"\[(\w+)\]", phrase)}
    phrases += [inflect(verb, form) for verb in verbs for form in forms]
    return frozenset(word for phrase in phrases for word in content_words(phrase))


class FamiliarityIndex:
    """Sentence vectors of the reference texts. vectors: (N, D) float32, unit length."""

    def __init__(self, texts: Sequence[str], canonical: Sequence[str], vectors: np.ndarray) -> None:
        if not len(texts) == len(canonical) == len(vectors):
            raise ValueError(f"{len(texts)} texts, {len(canonical)} captions and {len(vectors)} vectors don't match.")
        self.texts, self.canonical = list(texts), list(canonical)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    @cached_property
    def known_stems(self) -> frozenset[str]:
        """Every content word the grammar can say."""
        return _grammar_stems()

    @classmethod
    def build(cls, encoder: TextEncoder) -> FamiliarityIndex:
        """Encode the reference texts (about 2,000, 10 s on one CPU core)."""
        texts, canonical = reference_texts()
        vectors = np.zeros((len(texts), encoder.width), dtype=np.float32)
        for indices, features in encoder.encode_many(texts):
            vectors[indices] = features.pooled.cpu().numpy()
        return cls(texts, canonical, vectors)

    def save(self, path: Path = ASSET) -> None:
        """Write an .npz with the vectors in 8 bits (0.8 MB); replaces an existing file in one step."""
        partial = path.with_suffix(".part.npz")
        steps = np.round(self.vectors * (127 / np.abs(self.vectors).max())).astype(np.int8)
        text = np.frombuffer(json.dumps([self.texts, self.canonical]).encode(), dtype=np.uint8)
        np.savez_compressed(partial, vectors=steps, text=text)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path = ASSET) -> FamiliarityIndex:
        """Read what `save` wrote; FileNotFoundError with the command that makes it."""
        if not path.is_file():
            raise FileNotFoundError(f"{path} doesn't exist. Make it with: python -m core.data.familiarity")
        with np.load(path, allow_pickle=False) as data:
            texts, canonical = json.loads(data["text"].tobytes())
            return cls(texts, canonical, data["vectors"].astype(np.float32))

    def judge(self, prompt: str, encoder: TextEncoder) -> Familiarity:
        """Familiarity of any non-empty prompt; about 10 ms a clause on a CPU."""
        clauses = split_clauses(prompt)
        pooled = encoder.encode(clauses).pooled.cpu().numpy()  # (C, D)
        cosines = pooled @ self.vectors.T  # (C, N)
        unknown = [len(set(content_words(clause)) - self.known_stems) for clause in clauses]
        scores = cosines.max(axis=1) - UNKNOWN_WORD_COST * np.minimum(unknown, MAX_UNKNOWN)
        worst = int(scores.argmin())
        similarity = float(np.clip(scores[worst], 0.0, 1.0))
        nearest = self.canonical[int(cosines[worst].argmax())]
        return Familiarity(similarity, clauses[worst], nearest, similarity < FAR_BELOW)


if __name__ == "__main__":
    from core.text.encoder import load_text_encoder

    FamiliarityIndex.build(load_text_encoder()).save()
