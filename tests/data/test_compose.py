"""Laws of composed motion: nothing jumps, no bone stretches, labels and motion stay together."""

from __future__ import annotations

import numpy as np
import pytest

from core.data.captions import mirror_action
from core.data.clips import clip_joints, pose_joints
from core.data.compose import (
    BLEND_FRAMES,
    TEMPO_RATES,
    Composer,
    Mix,
    Part,
    Recipe,
    Segment,
    interpolate,
    join,
    layer,
    realize,
    resample,
)
from core.motion.mirror import mirror_joints
from core.motion.rotations import rotvec_to_matrix, yaw_matrix
from core.motion.skeleton import JOINT, MAX_FRAMES, MIN_FRAMES, N_JOINTS, PARENTS

CONTENTS = ("walk", "run", "wave-left-hand", "wave-right-hand", "raise-up-both-hands", "bow", "walk-turn-left")


@pytest.fixture(scope="module")
def clips(make_clip):
    styles = ("normal", "tired", "elderly")
    return [make_clip(c, s, i, frames=70 + 37 * i) for c in CONTENTS for s in styles for i in range(2)]


def single(clip: int, action: str, frames: int, mirror: bool = False, tempo: str = "normal") -> Recipe:
    return Recipe("single", (Part(clip, 5, frames, mirror, tempo, Segment(action, "normal", tempo)),))


def poses(clip):
    return rotvec_to_matrix(clip.rotvecs), clip.trans.astype(np.float64)


def bone_lengths(joints):
    return np.linalg.norm(joints[..., 1:, :] - joints[..., PARENTS[1:], :], axis=-1)


def steps(joints):
    """Largest step (F-1,) of any joint to the next frame, metres."""
    return np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(1)


def test_mirrored_recipe_is_the_mirror_image_of_the_plain_one(clips, rest) -> None:
    """Fails where a mirrored wave keeps its hand, or the path its side."""
    symmetric = rest.copy()  # the default body is symmetric to a millimetre only
    for left, right in ((n, n.replace("left", "right")) for n in JOINT if n.startswith("left")):
        symmetric[JOINT[right]] = symmetric[JOINT[left]] * [-1, 1, 1]
    for middle in ("pelvis", "spine1", "spine2", "spine3", "neck", "head"):
        symmetric[JOINT[middle], 0] = 0.0
    plain, mirrored = (realize(single(0, "walk", 60, m), clips) for m in (False, True))
    a, b = (pose_joints(*p, symmetric) for p in (plain, mirrored))
    np.testing.assert_allclose(mirror_joints(b), a, atol=1e-9)
    assert np.abs(a - b).max() > 0.1


def test_mirror_is_undone_by_mirroring_the_mirrored_clip(clips, make_clip) -> None:
    """Mirror twice = identity, on poses as on labels."""
    from dataclasses import replace

    from core.motion.rotations import matrix_to_rotvec

    once, path = realize(single(0, "walk", 60, True), clips)
    clip = replace(make_clip(), rotvecs=matrix_to_rotvec(once), trans=path)
    twice = realize(Recipe("single", (Part(0, 0, 60, True, "normal", Segment("walk")),)), [clip])
    for a, b in zip(twice, realize(single(0, "walk", 60), clips), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert all(mirror_action(mirror_action(a)) == a for a in ("wave-left-hand", "walk-turn-right", "bow"))


def test_drawn_labels_follow_the_mirror(clips) -> None:
    """Fails where a mirrored left wave is still called left."""
    composer = Composer(clips, Mix(), seed=3)
    parts = [p for _ in range(150) for p in composer.draw().parts if clips[p.clip].content == "wave-left-hand"]
    assert {p.mirror for p in parts} == {True, False}
    assert all(p.segment.action == ("wave-right-hand" if p.mirror else "wave-left-hand") for p in parts)


@pytest.mark.parametrize(("tempo", "rate"), TEMPO_RATES.items())
def test_tempo_changes_the_number_of_frames_and_not_the_ends(clips, tempo, rate) -> None:
    pose, trans = poses(clips[1])
    fast_pose, fast_trans = resample(pose, trans, rate)
    assert len(fast_pose) == len(fast_trans) == int((len(pose) - 1) / rate) + 1
    np.testing.assert_allclose(fast_pose[0], pose[0], atol=1e-9)
    identity = np.tile(np.eye(3), (len(fast_pose), N_JOINTS, 1, 1))
    np.testing.assert_allclose(fast_pose @ np.swapaxes(fast_pose, -1, -2), identity, atol=1e-9)
    n = int((len(trans) - 1) / rate)
    assert np.abs(fast_trans[n] - trans[min(len(trans) - 1, round(n * rate))]).max() < 0.1


def test_interpolation_takes_the_short_way(clips) -> None:
    """Fails where q and -q are not told apart: a limb would swing the long way round in a cross-fade."""
    a, b = yaw_matrix(np.array([3.0])), yaw_matrix(np.array([-3.0]))  # 16 degrees apart across the back
    half = interpolate(a, b, np.full((1, 1), 0.5))[0]
    np.testing.assert_allclose(half, yaw_matrix(np.array(np.pi)), atol=1e-9)
    np.testing.assert_allclose(interpolate(a, b, np.zeros((1, 1))), a, atol=1e-12)


@pytest.mark.parametrize("pair", [(0, 5), (3, 8), (12, 1), (20, 41)])
def test_sequence_does_not_jump_or_stretch(clips, rest, pair) -> None:
    """Fails where the second part starts elsewhere, turned away, or is blended in joint space."""
    first, second = (poses(clips[i]) for i in pair)
    joined = join(first, second)
    joints = pose_joints(*joined, rest)
    inputs = [steps(pose_joints(*p, rest)).max() for p in (first, second)]
    apart = np.linalg.norm(first[1][-1] - second[1][0])
    assert apart > 0.5, "the parts must start and end apart for this test to mean anything"
    assert steps(joints).max() < 2.0 * max(inputs)
    lengths = np.linalg.norm(rest[1:N_JOINTS] - rest[PARENTS[1:]], axis=-1)
    np.testing.assert_allclose(bone_lengths(joints), np.broadcast_to(lengths, (len(joints), 21)), atol=1e-9)
    assert len(joints) > len(first[0]) + len(second[0]) - 2 * BLEND_FRAMES - 12
    heading = [np.arctan2(*p[0][:, 0][:, [0, 2], 2].T) for p in (joined,)][0]
    assert np.abs(np.diff(np.unwrap(heading))).max() < 0.2, "the pelvis must not turn in a frame"


def test_sequence_keeps_both_parts(clips) -> None:
    """Fails where the fade eats a part: what was in the clip before and after the fade is untouched up to a turn."""
    first, second = poses(clips[0]), poses(clips[9])
    pose, trans = join(first, second)
    cut = len(pose) - len(second[0])
    np.testing.assert_array_equal(pose[:cut], first[0][:cut])
    np.testing.assert_array_equal(pose[cut + BLEND_FRAMES :, 1:], second[0][BLEND_FRAMES:, 1:])
    moved = np.linalg.norm(np.diff(trans[cut + BLEND_FRAMES :], axis=0), axis=-1)
    np.testing.assert_allclose(moved, np.linalg.norm(np.diff(second[1][BLEND_FRAMES:], axis=0), axis=-1), atol=1e-9)


def test_parts_too_short_for_the_fade_are_refused(clips) -> None:
    pose, trans = poses(clips[0])
    with pytest.raises(ValueError, match=r"10 and 70 frames: each needs over 10"):
        join((pose[:10], trans[:10]), (pose, trans))


@pytest.mark.parametrize(
    ("gesture", "sides"),
    [("wave-left-hand", ["left"]), ("raise-right-hand", ["right"]), ("wave-both-hands", ["left", "right"])],
)
def test_layer_takes_only_the_gesture_s_arms(clips, gesture, sides) -> None:
    """Fails where the gesture brings its legs or its other arm along."""
    lower, upper = poses(clips[0]), poses(clips[13])
    pose, trans = layer(lower, upper, gesture)
    n = min(len(lower[0]), len(upper[0]))
    taken = [JOINT[f"{s}_{p}"] for s in sides for p in ("collar", "shoulder", "elbow", "wrist")]
    kept = [j for j in range(N_JOINTS) if j not in taken]
    np.testing.assert_array_equal(pose[:, taken], upper[0][:n, taken])
    np.testing.assert_array_equal(pose[:, kept], lower[0][:n, kept])
    np.testing.assert_array_equal(trans, lower[1][:n])


def test_drawn_recipes_realise_to_lengths_that_models_take(clips) -> None:
    """Fails where an item comes out shorter than 2.0 s or longer than 9.8 s, or a kind is never drawn."""
    composer = Composer(clips, Mix(), seed=0)
    recipes = [composer.draw() for _ in range(60)]
    assert {r.relation for r in recipes} == {"single", "then", "while"}
    assert all(MIN_FRAMES < len(realize(r, clips)[0]) <= MAX_FRAMES + 1 for r in recipes)


def test_same_seed_same_recipes(clips) -> None:
    draws = [[Composer(clips, Mix(), seed).draw() for _ in range(3)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_plain_clip_is_left_as_it_is(clips, make_clip, rest) -> None:
    composer = Composer([make_clip(frames=300), make_clip(frames=40)], Mix(), 0)
    recipe = composer.of_clip(0)
    assert recipe is not None and composer.of_clip(1) is None
    joints = pose_joints(*realize(recipe, composer.clips), rest)
    np.testing.assert_allclose(joints, clip_joints(composer.clips[0], rest)[: MAX_FRAMES + 1], atol=1e-9)


def test_clips_too_short_end_in_a_sentence(make_clip) -> None:
    with pytest.raises(ValueError, match="too short or too few"):
        Composer([make_clip(frames=20)], Mix(), 0).draw()


def test_meaning_is_the_same_exactly_for_the_same_labels(clips) -> None:
    """Fails where a true caption of a motion is treated as a negative of it."""
    assert single(0, "walk", 50).meaning == single(4, "walk", 60, mirror=True).meaning
    assert single(0, "walk", 50).meaning != single(0, "walk", 50, tempo="slow").meaning
    a, b = (single(0, n, 50).parts[0] for n in ("walk", "bow"))
    assert len({Recipe("then", (a, b)).meaning, Recipe("then", (b, a)).meaning, Recipe("while", (a, b)).meaning}) == 3
