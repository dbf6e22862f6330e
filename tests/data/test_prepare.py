"""Floor and splits: the floor is where standing feet are, and no split sees what another holds."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from core.data.captions import ACTIONS, STYLES, action_of, mirror_action, style_of
from core.data.clips import clip_joints, load_archive
from core.data.compose import Composer, Mix
from core.data.dataset import SetConfig, draw_recipes
from core.data.prepare import HELD_OUT, lower_to_floor, prepare_bandai, split_clips
from core.motion.skeleton import LEFT_FOOT, RIGHT_FOOT

CONTENTS = ("walk", "run", "wave-left-hand", "wave-right-hand", "bow", "walk-turn-left", "raise-up-both-hands")
STYLES_USED = ("normal", "old", "happy", "feminine", "exhausted")
HELD_OUT_CLOSED = HELD_OUT | {(mirror_action(a), s) for a, s in HELD_OUT}


@pytest.fixture(scope="module")
def clips(make_clip):
    return [make_clip(c, s, i, frames=90) for c in CONTENTS for s in STYLES_USED for i in range(8)]


@pytest.fixture(scope="module")
def split(clips):
    return split_clips(clips)


def combination(clip) -> tuple[str, str]:
    return action_of(clip.content), style_of(clip.style)


def test_held_out_combinations_exist() -> None:
    """Fails where a label is misspelt, so that nothing is held out."""
    assert all(action in ACTIONS and style in STYLES for action, style in HELD_OUT)


def test_every_clip_is_in_one_split_and_shares_are_stratified(clips, split) -> None:
    assert [c.name for c in split] == [c.name for c in clips]
    for content in CONTENTS:
        counts = Counter(c.split for c in split if c.content == content)
        rest = sum(counts.values()) - counts["heldout"]
        assert counts["test"] == round(0.10 * rest) and counts["val"] == round(0.05 * rest), content
        assert counts["train"] > 0.8 * rest


def test_split_does_not_depend_on_order(clips, split) -> None:
    """Fails where a differently sorted file system moves test clips into training."""
    shuffled = list(clips)
    random.Random(1).shuffle(shuffled)
    assert {c.name: c.split for c in split_clips(shuffled)} == {c.name: c.split for c in split}
    assert {c.name: c.split for c in split_clips(clips, seed=1)} != {c.name: c.split for c in split}


def test_held_out_clips_are_exactly_those_of_held_out_combinations(split) -> None:
    """Mirror images too: mirroring a right wave would give the left one away."""
    assert {c.split == "heldout" for c in split} == {True, False}
    for clip in split:
        action, style = combination(clip)
        held_out = (action, style) in HELD_OUT_CLOSED or (mirror_action(action), style) in HELD_OUT_CLOSED
        assert (clip.split == "heldout") == held_out, clip.name


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_no_recipe_of_other_splits_holds_a_held_out_combination(split, name) -> None:
    """Fails where mirroring or composing makes a held-out combination in training."""
    recipes = draw_recipes([c for c in split if c.split == name], SetConfig(name, 300))
    pairs = {(s.action, s.style) for recipe in recipes for s in recipe.segments}
    assert len(pairs) > 5
    assert not pairs & HELD_OUT_CLOSED


def test_composer_leaves_out_what_it_is_told_to(clips) -> None:
    """The guard behind the split: even given a held-out clip, or its mirror image, nothing is drawn from it."""
    held_out = frozenset({("wave-left-hand", "elderly")})
    composer = Composer([c for c in clips if c.style == "old"], Mix(tempo=0), 0, held_out)
    drawn = {(s.action, s.style, p.mirror) for _ in range(200) for p in composer.draw().parts for s in [p.segment]}
    assert not any((action, style) in held_out for action, style, _ in drawn)
    assert ("wave-right-hand", "elderly", True) in drawn, "the mirrored clip itself is allowed"


def test_held_out_split_draws_held_out_combinations(split) -> None:
    recipes = draw_recipes([c for c in split if c.split == "heldout"], SetConfig("heldout", 20))
    assert {(s.action, s.style) for r in recipes for s in r.segments} <= HELD_OUT_CLOSED


def test_standing_feet_come_to_the_floor_and_all_clips_move_alike(make_clip, rest) -> None:
    """Fails where each clip is lowered on its own: a jump or a tiptoe walk would sink into the floor."""
    still = make_clip("call", frames=60)
    still.rotvecs[:] = 0.0
    still.trans[:] = [0.0, 1.5, 0.0]
    high = replace(still, name="high", trans=still.trans + np.float32([0, 0.3, 0]) * np.arange(60)[:, None])
    lowered = lower_to_floor([still, high], rest)
    toes = clip_joints(lowered[0], rest)[:, [LEFT_FOOT[1], RIGHT_FOOT[1]], 1]
    np.testing.assert_allclose(toes, 0.0, atol=0.01)
    moved = [before.trans - after.trans for before, after in zip((still, high), lowered, strict=True)]
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-6)


def test_clips_without_a_standing_foot_are_refused(make_clip, rest) -> None:
    clip = make_clip(frames=30)
    flying = replace(clip, trans=clip.trans + np.arange(30, dtype=np.float32)[:, None])
    with pytest.raises(ValueError, match="no foot stands still in any of the 1 clips"):
        lower_to_floor([flying], rest)


def test_prepare_writes_the_archive_and_says_what_is_in_it(write_clip, rest, tmp_path) -> None:
    for i in range(2):
        write_clip(f"data/dataset-1_run_happy_00{i}.bvh", frames=90)
        path = write_clip(f"data/dataset-1_call_happy_00{i}.bvh", frames=90)
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:-90] + lines[-90:-89] * 90))  # standing still
    summary = prepare_bandai(tmp_path / "data", tmp_path / "out" / "archive.npz", rest)
    assert summary.startswith("4 clips, ") and "4 train, 0 val, 0 test, 0 heldout" in summary
    assert [c.content for c in load_archive(tmp_path / "out" / "archive.npz").clips] == ["call"] * 2 + ["run"] * 2
