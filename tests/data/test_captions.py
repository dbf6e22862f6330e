"""Laws of the caption grammar."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from core.data.captions import (
    ACTIONS,
    STYLES,
    TEMPOS,
    Segment,
    action_of,
    canonical_caption,
    caption,
    mirror_action,
    n_paraphrases,
    style_of,
    surprise,
)
from core.data.english import inflect
from core.text.encoder import check_prompt

GESTURES = [action for action in ACTIONS if "hand" in action]
MALE = re.compile(r"\b(he|his|him|man|guy)\b")
FEMALE = re.compile(r"\b(she|her|woman|lady)\b")


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text))


def samples(count: int, seed: int = 0, **fixed: str) -> list[tuple[list[Segment], str, str]]:
    rng = random.Random(seed)

    def segment(actions=ACTIONS) -> Segment:
        values = {"action": rng.choice(actions), "style": rng.choice(STYLES), "tempo": rng.choice(TEMPOS)}
        return Segment(**(values | fixed))

    drawn = []
    for _ in range(count):
        relation = rng.choice(["single", "then", "while"])
        if relation == "while" and "action" not in fixed:
            segments = [segment(["walk", "run"]), segment(GESTURES)]
        else:
            segments = [segment() for _ in range(1 if relation == "single" else 2)]
        drawn.append((segments, relation, caption(segments, relation, rng)))
    return drawn


@pytest.mark.parametrize("action", [action for action in ACTIONS if "left" in action or "right" in action])
def test_sided_action_says_its_side_and_never_the_other(action):
    """A caption that hides or swaps the side teaches the model to wave with the wrong hand."""
    side, other = ("left", "right") if "left" in action else ("right", "left")
    for _, _, text in samples(80, action=action):
        assert side in words(text) and other not in words(text), text


def test_unsided_action_names_no_side():
    for action in ("walk", "run", "bow", "wave-both-hands", "walk-back"):
        for _, _, text in samples(60, action=action):
            assert not words(text) & {"left", "right"}, text


def test_mirror_is_an_involution_and_swaps_only_sides():
    for action in ACTIONS:
        assert mirror_action(mirror_action(action)) == action
        assert (mirror_action(action) != action) == ("left" in action or "right" in action)
    assert mirror_action("walk-turn-left") == "walk-turn-right"


def test_gendered_styles_keep_their_subject():
    """ "a manly woman" would put two opposite styles into one caption."""
    for _, _, text in samples(400, style="masculine"):
        assert not FEMALE.search(text), text
    for _, _, text in samples(400, style="feminine"):
        assert not MALE.search(text), text


def test_every_caption_is_tidy_text():
    """Left-over marks, double spaces or capitals would reach the text encoder."""
    for _, _, text in samples(3000, seed=1):
        assert re.fullmatch(r"[a-z][a-z,.' -]*[a-z.]", text), text
        assert "  " not in text and " ," not in text and " ." not in text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text


def test_styled_captions_never_lose_the_style():
    """A missing style word makes two different motions share one text."""
    rng = random.Random(5)
    plain = {caption([Segment("bow")], "single", random.Random(seed)).rstrip(".") for seed in range(3000)}
    for style in STYLES:
        if style == "normal":
            continue
        for _ in range(100):
            text = caption([Segment("bow", style)], "single", rng).rstrip(".")
            assert text not in plain, (style, text)


def test_equal_seed_gives_equal_caption():
    assert samples(50, seed=7) == samples(50, seed=7)
    assert [row[2] for row in samples(50, seed=7)] != [row[2] for row in samples(50, seed=8)]


@pytest.mark.parametrize("action", ACTIONS)
def test_at_least_eight_paraphrases_really_appear(action):
    rng = random.Random(3)
    for style in ("normal", "tired", "timid"):
        assert n_paraphrases(action, style) >= 8
        assert len({caption([Segment(action, style)], "single", rng) for _ in range(60)}) >= 30


def test_canonical_captions():
    tired = [Segment("walk", "tired"), Segment("wave-right-hand", "tired")]
    assert canonical_caption(tired, "then") == "a tired person walks forward, then waves with the right hand"
    assert canonical_caption([Segment("bow", "elderly", "slow")], "single") == "an old person slowly bows"
    both = [Segment("wave-left-hand", "happy"), Segment("run", "sad")]
    assert canonical_caption(both, "while") == ("a person runs forward sadly while waving with the left hand happily")


def test_order_of_a_sequence_is_kept():
    """A swapped order would train "walks, then bows" on bows-then-walks."""
    rng = random.Random(0)
    walk = re.compile(r"walk|step|stroll|pac(e|ing)|mov(e|es|ed|ing) forward|(take|takes|took|taking) ")
    for _ in range(300):
        text = caption([Segment("walk"), Segment("kick-left-leg")], "then", rng)
        kick = re.search(r"kick", text)
        assert walk.search(text) and kick and walk.search(text).start() < kick.start(), text


def test_dataset_labels_map_to_the_vocabulary():
    assert action_of("bye") == "wave-goodbye-right-hand" and style_of("exhausted") == style_of("tired") == "tired"
    with pytest.raises(ValueError, match="content='swim'"):
        action_of("swim")
    with pytest.raises(ValueError, match="style='blue'"):
        style_of("blue")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="action='fly' is unknown"):
        Segment("fly")
    with pytest.raises(ValueError, match="takes 2 to 2 segments, got 1"):
        caption([Segment("walk")], "while", random.Random(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="relation='or'"):
        canonical_caption([Segment("walk")], "or")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("walk", ("walks", "walking", "walked")),
        ("wave", ("waves", "waving", "waved")),
        ("jog", ("jogs", "jogging", "jogged")),
        ("run", ("runs", "running", "ran")),
        ("carry", ("carries", "carrying", "carried")),
        ("punch", ("punches", "punching", "punched")),
        ("stop", ("stops", "stopping", "stopped")),
    ],
)
def test_verbs_are_inflected(verb, forms):
    assert tuple(inflect(verb, form) for form in ("s", "ing", "past")) == forms


def test_surprise_is_seeded_and_varied():
    assert surprise(3) == surprise(3)
    assert len({surprise(seed) for seed in range(100)}) > 90


def test_example_prompts_are_usable():
    """A duplicate or over-long example would look broken on the page."""
    prompts = json.loads((Path(__file__).parents[2] / "assets" / "prompts.json").read_text())
    assert len(prompts) == len(set(prompts)) >= 20
    assert "a tired person walks forward, then waves with the right hand" in prompts
    assert all(check_prompt(prompt) == prompt for prompt in prompts)
