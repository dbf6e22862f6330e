"""Pools of near misses: the same actions, never the same meaning, nothing that is held out."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from core.data.clips import ClipArchive, save_archive
from core.data.compose import Composer, Mix, action_group
from core.data.near_misses import NearMissConfig, build_near_misses, edit_pool, load_near_misses
from core.data.prepare import HELD_OUT, split_clips
from core.motion.skeleton import MIN_FRAMES

CONFIG = NearMissConfig("train", pools=3, size=4)


@pytest.fixture(scope="module")
def archive(make_clip, rest) -> ClipArchive:
    contents, styles = ("walk", "wave-left-hand", "wave-right-hand"), ("normal", "old", "happy")
    clips = [make_clip(c, s, i, frames=70 + 20 * i) for c in contents for s in styles for i in range(4)]
    return ClipArchive(tuple(split_clips(clips)), rest)


def test_every_pool_is_one_action_in_distinct_meanings(archive) -> None:
    made = build_near_misses(archive, CONFIG, workers=1)
    assert len(made) == CONFIG.pools * CONFIG.size and made.lengths.min() >= MIN_FRAMES
    for start in range(0, len(made), CONFIG.size):
        meanings = made.meanings[start : start + CONFIG.size]
        assert len(set(meanings)) == CONFIG.size and len({action_group(m) for m in meanings}) == 1


def test_edits_reach_order_side_and_style(archive) -> None:
    """Fails where pools would only ask for the style."""
    composer = Composer(archive.of("train"), Mix(then=1.0, while_=0.0, tempo=0.0), 0, HELD_OUT)
    pools = [edit_pool(composer.draw(), composer, 6) for _ in range(10)]
    first = [[s.action for s in pool[0].segments] for pool in pools]
    others = [[[s.action for s in recipe.segments] for recipe in pool[1:]] for pool in pools]
    styles = [{s.style for recipe in pool for s in recipe.segments} for pool in pools]
    assert any(f[::-1] in o for f, o in zip(first, others, strict=True))
    assert any(sorted(f) != sorted(other) for f, o in zip(first, others, strict=True) for other in o)
    assert max(map(len, styles)) > 1
    assert not any((s.action, s.style) in HELD_OUT for pool in pools for recipe in pool for s in recipe.segments)


def test_made_once_and_the_same_every_time(archive, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "clips.npz"
    save_archive(path, archive)
    made = load_near_misses(path, CONFIG)
    random.seed(5)
    monkeypatch.setattr("core.data.near_misses.load_archive", lambda _: pytest.fail("built again"))
    again = load_near_misses(path, CONFIG)
    np.testing.assert_array_equal(made.features, again.features)
    assert made.captions == again.captions and made.meanings == again.meanings


def test_a_split_with_too_few_clips_is_a_sentence(archive) -> None:
    with pytest.raises(ValueError, match=r"0 of 2 pools of 50 near misses"):
        build_near_misses(archive, NearMissConfig("train", pools=2, size=50), workers=1)
