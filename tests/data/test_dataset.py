"""Motion sets: built the same every time, cached once, and each motion is the one its captions speak of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import core.data.dataset as dataset
from core.commands.evaluate import Evaluate, evaluation_set, motions_of
from core.data.clips import ClipArchive, clip_joints, save_archive
from core.data.compose import Mix
from core.data.dataset import MotionSet, SetConfig, build_set, load_set
from core.data.prepare import split_clips
from core.metrics.evaluate import EvaluationConfig
from core.metrics.retrieval import near_miss_groups
from core.motion.features import recover_joints
from core.motion.root_frame import canonicalize
from core.motion.skeleton import MAX_FRAMES, MIN_FRAMES

CONFIG = SetConfig("train", items=12, captions=2)


@pytest.fixture(scope="module")
def archive(make_clip, rest) -> ClipArchive:
    contents, styles = ("walk", "wave-left-hand", "bow"), ("normal", "old", "happy")
    clips = [make_clip(c, s, i, frames=30 + 60 * i) for c in contents for s in styles for i in range(4)]
    return ClipArchive(tuple(split_clips(clips)), rest)


@pytest.fixture(scope="module")
def built(archive) -> MotionSet:
    return build_set(archive, CONFIG, workers=1)


def test_same_configuration_same_set(archive, built) -> None:
    """Fails where the number of workers or the run decides what is trained on."""
    again = build_set(archive, CONFIG, workers=2)
    np.testing.assert_array_equal(again.features, built.features)
    assert (again.captions, again.canonical, again.meanings) == (built.captions, built.canonical, built.meanings)
    other = build_set(archive, replace(CONFIG, seed=1), workers=1)
    assert other.captions != built.captions


def test_every_clip_that_fits_is_in_it_as_it_is(archive, built, rest) -> None:
    """Fails where features and clips part ways: the first items are the plain clips of the split, in order."""
    plain = [c for c in archive.of("train") if len(c) > MIN_FRAMES]
    assert len(built) == len(plain) + CONFIG.items
    for i in (0, len(plain) - 1):
        expected = canonicalize(clip_joints(plain[i], rest))[: built.lengths[i]]
        joints = recover_joints(built.motion(i))
        lift = joints[0, 0, 1] - expected[0, 0, 1]  # sets keep the archive's floor
        np.testing.assert_allclose(joints - [0, lift, 0], expected, atol=0.05)  # float16


def test_shapes_types_and_lengths(built, archive) -> None:
    assert built.features.dtype == np.float16 and built.motion(0).dtype == np.float32
    assert built.lengths.min() >= MIN_FRAMES and built.lengths.max() <= MAX_FRAMES
    assert all(len(row) == 2 and all(row) for row in built.captions)
    assert len(built.canonical) == len(built.meanings) == len(built.captions) == len(built)
    val = build_set(archive, SetConfig("heldout", 2), workers=1)
    assert val.features.dtype == np.float32


def test_batch_pads_with_zeros_and_keeps_order(built) -> None:
    indices = [2, 0, 2]
    features, lengths = built.batch(indices)
    assert lengths.dtype == np.int64 and features.shape == (3, lengths.max(), 263)
    for row, i in enumerate(indices):
        np.testing.assert_array_equal(features[row, : lengths[row]], built.motion(i))
        assert not features[row, lengths[row] :].any()


def test_set_is_cached_and_the_cache_belongs_to_its_configuration(archive, tmp_path, monkeypatch) -> None:
    """Fails where another mix or another archive is answered from an old cache."""
    path = tmp_path / "archive.npz"
    save_archive(path, archive)
    config = replace(CONFIG, items=3)
    calls = []
    real = dataset.build_set
    monkeypatch.setattr(dataset, "build_set", lambda *a, **k: calls.append(a[1]) or real(*a, workers=1, **k))
    first, second = load_set(path, config), load_set(path, config)
    assert calls == [config]
    np.testing.assert_array_equal(first.features, second.features)
    assert (first.captions, first.meanings) == (second.captions, second.meanings)
    load_set(path, replace(config, mix=Mix(then=0.5)))
    save_archive(path, ClipArchive(archive.clips[1:], archive.rest))
    load_set(path, config)
    assert len(calls) == 3


def test_damaged_cache_and_missing_archive_are_named(archive, tmp_path) -> None:
    path = tmp_path / "archive.npz"
    with pytest.raises(FileNotFoundError, match="core prepare bandai-namco"):
        load_set(path, CONFIG)
    save_archive(path, archive)
    config = replace(CONFIG, items=1)
    load_set(path, config)
    (cached,) = (tmp_path / "cache").glob("train-*.npz")
    cached.write_bytes(cached.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"train-.*\.npz is damaged .* Delete it"):
        load_set(path, config)


def test_fresh_prompts_of_several_seeds_hold_every_plain_clip_once(archive, tmp_path) -> None:
    """Fails where a clip that all seeds share counts as several prompts, which would narrow every interval."""
    save_archive(tmp_path / "archive.npz", archive)
    config = Evaluate(archive=tmp_path / "archive.npz", items=3, prompt_seeds=(1, 2))
    made = motions_of(config, "train")
    first, second = (load_set(config.archive, SetConfig("train", 3, seed=seed)) for seed in (1, 2))
    known = [first.motion(i) for i in range(len(first))]
    fresh = [i for i in range(len(second)) if not any(np.array_equal(second.motion(i), m) for m in known)]
    assert 0 < len(fresh) <= 3 and len(made) == len(first) + len(fresh)
    assert made.captions == first.captions + tuple(second.captions[i] for i in fresh)
    for i, motion in enumerate([*known, *(second.motion(i) for i in fresh)]):
        np.testing.assert_array_equal(made.motion(i), motion)
    assert (made.starts[-1], made.meanings[-1]) == (len(made.features), second.meanings[fresh[-1]])
    with pytest.raises(ValueError, match="must name seeds of 0 or more"):
        replace(config, prompt_seeds=())


def test_made_near_misses_fill_their_pools(archive, tmp_path) -> None:
    """Fails where the near misses measured are those that a drawn set happens to hold: hardly any."""
    save_archive(tmp_path / "archive.npz", archive)
    pools = EvaluationConfig(near_miss_size=3)
    config = Evaluate(archive=tmp_path / "archive.npz", near_pools=4, prompt_seeds=(5,), evaluation=pools)
    data = evaluation_set(motions_of(config, "train"))
    assert len(data.captions) == 12 and data.actions and data.meanings
    for rows in (range(i, i + 3) for i in range(0, 12, 3)):
        assert len({data.actions[i] for i in rows}) == 1 and len({data.meanings[i] for i in rows}) == 3
    assert sum(map(len, near_miss_groups(data.actions, data.meanings, 3))) == 12
