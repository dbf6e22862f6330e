"""Prompts of pairs that no clip shows: none that one does, mirrored or held out, and as long as such motions are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from core.data.captioned import CaptionedMotion, PreparedSet, save_prepared
from core.data.captions import STYLES
from core.data.clips import ClipArchive, save_archive
from core.data.compose import BLEND_FRAMES, MAX_PART_FRAMES, Mix
from core.data.mixture import write_mixture
from core.data.prepare import HELD_OUT
from core.data.unseen import draw_unseen, tells_pairs, unrecorded_pairs
from core.motion.skeleton import MAX_FRAMES, MIN_FRAMES


@pytest.fixture
def clips(make_clip):
    return [make_clip("run", "tired", 0, 70), make_clip("wave-left-hand", "normal", 1, 90)]


def test_pairs_are_those_that_no_clip_shows(clips) -> None:
    """Prevents a policy that is rewarded for what it is measured on, or for what real motion could teach."""
    pairs = set(unrecorded_pairs(clips))
    assert {action for action, _ in pairs} == {"run", "wave-left-hand", "wave-right-hand"}
    assert not pairs & HELD_OUT and ("run", "elderly") in HELD_OUT
    assert not pairs & {("run", "tired"), ("wave-left-hand", "normal"), ("wave-right-hand", "normal")}
    assert ("run", "normal") in pairs and ("wave-right-hand", "tired") in pairs
    held_out = {pair for pair in HELD_OUT if pair[0] in {action for action, _ in pairs}}
    assert len(pairs) == 3 * len(STYLES) - 3 - len(held_out)


def test_prompts_are_drawn_from_all_pairs_and_as_long_as_their_action(clips) -> None:
    prompts = draw_unseen(clips, 200, seed=3, mix=Mix(then=0.0))
    assert len(prompts) == 200 and len(set(prompts.captions)) > 100
    running = np.array([bool(re.search(r"\b(r[ua]n|jog)", text)) for text in prompts.captions])
    assert set(prompts.lengths[running]) == {70} and set(prompts.lengths[~running]) == {90}


def test_the_same_seed_draws_the_same_prompts(clips) -> None:
    prompts, again, other = (draw_unseen(clips, 200, seed) for seed in (3, 3, 4))
    assert again.captions == prompts.captions != other.captions
    assert (again.lengths == prompts.lengths).all()


def test_sequences_join_an_unrecorded_pair_with_a_recorded_one(make_clip) -> None:
    """Prevents prompts of two things never seen, of which a reward knows least, and lengths that no sequence has."""
    clips = [make_clip("bow", "tired", 0, 70), make_clip("dash", "normal", 1, MAX_FRAMES)]
    prompts = draw_unseen(clips, 300, 3, Mix(then=1.0, same_style=1.0))
    bow, dash = 70, MAX_PART_FRAMES
    texts: dict[int, list[str]] = {a + b - BLEND_FRAMES: [] for a in (bow, dash) for b in (bow, dash)}
    for text, length in zip(prompts.captions, prompts.lengths.tolist(), strict=True):
        texts[length].append(text)
    assert not any("sprint" in text for text in texts[2 * bow - BLEND_FRAMES])
    assert not any("bow" in text for text in texts[2 * dash - BLEND_FRAMES])
    assert any("bow" in text and "sprint" in text for text in texts[bow + dash - BLEND_FRAMES])


def test_lengths_are_those_a_model_can_make(make_clip) -> None:
    clips = [make_clip("run", "tired", 0, MIN_FRAMES - 9), make_clip("bow", "normal", 1, MAX_FRAMES + 30)]
    assert set(draw_unseen(clips, 100, 0, Mix(then=0.0)).lengths) == {MIN_FRAMES, MAX_FRAMES}


def test_only_an_archive_of_clips_tells_what_it_lacks(clips, tmp_path: Path) -> None:
    """Prevents prompts that a set with captions of its own may well hold."""
    archive, mixture = tmp_path / "clips.npz", tmp_path / "mixed.json"
    save_archive(archive, ClipArchive(tuple(clips), np.zeros((22, 3), dtype=np.float32)))
    write_mixture(mixture, [archive, archive])
    motion = CaptionedMotion("m", np.zeros((50, 263), dtype=np.float32), ("a person walks",))
    save_prepared(tmp_path / "prepared.npz", PreparedSet("humanml3d", 20.0, {"train": [motion]}))
    assert [tells_pairs(path) for path in (archive, mixture, tmp_path / "prepared.npz")] == [True, False, False]


def test_nothing_left_to_ask_for_is_said(make_clip) -> None:
    clips = [make_clip("run", style, i, 70) for i, style in enumerate(STYLES)]
    with pytest.raises(ValueError, match="every pair of action and style is recorded. Set unseen_share to 0"):
        draw_unseen(clips, 5, 0)
