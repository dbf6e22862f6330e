"""The page's hint that a prompt is far from what the models have learnt."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from core.data.captions import ACTIONS, STYLES, Segment, caption
from core.data.familiarity import FamiliarityIndex, reference_texts, split_clauses
from core.text.encoder import load_text_encoder


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder()


@pytest.fixture(scope="module")
def index():
    return FamiliarityIndex.load()


def test_asset_is_in_step_with_the_grammar(index, encoder):
    """After a change of the grammar, run python -m core.data.familiarity."""
    texts, canonical = reference_texts()
    assert index.texts == texts and index.canonical == canonical
    rows = [0, len(texts) // 2, len(texts) - 1]
    pooled = encoder.encode([texts[i] for i in rows]).pooled.numpy()
    assert (np.sum(pooled * index.vectors[rows], axis=1) > 0.995).all()


@pytest.mark.parametrize(
    "prompt",
    [
        "a person swims",
        "someone jumps over a fence",
        "a person does a cartwheel",
        "climbs a ladder",
        "a person sits down on a chair",
        "a person walks forward, then does a cartwheel",
        "the stock market fell",
        "泳ぐ",
    ],
)
def test_unknown_motion_is_flagged(index, encoder, prompt):
    """Without the flag, a cartwheel that comes out as a walk looks like a bug."""
    found = index.judge(prompt, encoder)
    assert found.far and found.clause in found.sentence and found.nearest in found.sentence


def test_known_motion_is_not_flagged(index, encoder):
    for prompt in json.loads((Path(__file__).parents[2] / "assets" / "prompts.json").read_text()):
        found = index.judge(prompt, encoder)
        assert not found.far and not found.sentence, found


def test_unseen_grammar_captions_are_mostly_near(index, encoder):
    rng = random.Random(2024)
    known = set(index.texts)
    texts = [caption([Segment(rng.choice(ACTIONS), rng.choice(STYLES))], "single", rng) for _ in range(150)]
    flags = [index.judge(text, encoder).far for text in texts if text.rstrip(".") not in known]
    assert len(flags) > 100 and np.mean(flags) <= 0.05


def test_nearest_names_the_right_action(index, encoder):
    assert "bows" in index.judge("someone takes a deep bow", encoder).nearest
    assert "left" in index.judge("a person waves their left arm", encoder).nearest


def test_clauses():
    assert split_clauses("A man walks, then he waves. He runs as fast as he can") == [
        "a man walks",
        "he waves",
        "he runs as fast as he can",
    ]
    assert split_clauses("...") == ["..."]


def test_missing_asset_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m core.data.familiarity"):
        FamiliarityIndex.load(tmp_path / "none.npz")
