"""Captions as the published T2M evaluator reads them: GloVe vectors and a one-hot part of speech a word.

The vectors come from the folder `glove` of the published evaluation: our_vab_data.npy (V, 300) and our_vab_idx.pkl,
word -> row. The pickle is read by core.body.safe_pickle: nothing in it is run. our_vab_words.pkl isn't needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.body.safe_pickle import load_arrays_pickle

MAX_WORDS = 20  # further words are cut off; begin and end marks come on top
PARTS = ("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV", "Loc", "Body", "Obj", "Act", "Desc", "OTHER")
_OF_THEIR_OWN = {  # words that are a part of speech of their own in this evaluator, whatever their tag says
    "Loc": "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "Body": "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "Obj": "stair dumbbell chair window floor car ball handrail baseball basketball",
    "Act": "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise wash "
    "stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb",
    "Desc": "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
}
_PART_OF = {word: part for part, words in _OF_THEIR_OWN.items() for word in words.split()}


@dataclass(frozen=True)
class WordVectors:
    """vectors: (V, 300) float32; rows: word -> row, "unk" among them."""

    vectors: np.ndarray
    rows: Mapping[str, int]

    def encode(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tagged captions ("a/DET man/NOUN") -> vectors (N, 22, 300), parts of speech (N, 22, 15), lengths (N,).

        Begin and end marks are put around, the rest is filled with the unknown word, as published.
        """
        length = MAX_WORDS + 2
        words = np.tile(self.vectors[self.rows["unk"]], (len(captions), length, 1))
        parts = np.zeros((len(captions), length, len(PARTS)), np.float32)
        parts[..., PARTS.index("OTHER")] = 1.0
        lengths = np.zeros(len(captions), np.int64)
        for i, caption in enumerate(captions):
            tokens = ["sos/OTHER", *caption.split()[:MAX_WORDS], "eos/OTHER"]
            lengths[i] = len(tokens)
            for j, token in enumerate(tokens):
                word, _, tag = token.rpartition("/")
                if word in self.rows:
                    words[i, j] = self.vectors[self.rows[word]]
                    part = _PART_OF.get(word, tag if tag in PARTS else "OTHER")
                    parts[i, j] = np.arange(len(PARTS)) == PARTS.index(part)
        return words, parts, lengths


def load_word_vectors(folder: Path) -> WordVectors:
    """FileNotFoundError naming what is missing; ValueError for files that don't fit together or ask for code."""
    data, index = folder / "our_vab_data.npy", folder / "our_vab_idx.pkl"
    for path in (data, index):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing. Give the folder `glove` of the published T2M evaluation (glove.zip) by --words."
            )
    try:
        vectors = np.load(data, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{data} is damaged ({error}). Download glove.zip again.") from None
    rows = load_arrays_pickle(index)
    fits = vectors.ndim == 2 and all(isinstance(row, int | np.integer) for row in rows.values())
    if not fits or any(not 0 <= row < len(vectors) for row in rows.values()):
        raise ValueError(f"{index} does not index the rows of {data.name}, shape {vectors.shape}. Take both anew.")
    if missing := [word for word in ("unk", "sos", "eos") if word not in rows]:
        raise ValueError(f"{index} lacks the words {', '.join(missing)}. Take the published file.")
    return WordVectors(vectors.astype(np.float32), {word: int(row) for word, row in rows.items()})
