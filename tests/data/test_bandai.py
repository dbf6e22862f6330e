"""Retargeting of the Bandai-Namco skeleton, and what is said about files that are none of it."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest

from core.data.bandai import read_clip, read_dataset, retarget
from core.data.clips import clip_joints, pose_joints
from core.motion.bvh import read_bvh
from core.motion.skeleton import JOINT, JOINT_NAMES, N_JOINTS, PARENTS

LIMBS = {
    "shoulder": ("UpperArm", "LowerArm", "elbow"),
    "elbow": ("LowerArm", "Hand", "wrist"),
    "hip": ("UpperLeg", "LowerLeg", "knee"),
    "knee": ("LowerLeg", "Foot", "ankle"),
}


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def test_t_pose_stands_upright_and_faces_forward(write_clip, rest) -> None:
    """Fails where a joint's axes are swapped or mirrored: the body would lie, face -Z or cross its arms."""
    bvh = read_bvh(write_clip())
    pose, trans = retarget(bvh, rest)
    joints = pose_joints(pose, trans, rest)[0]
    up = [JOINT[n] for n in ("left_ankle", "left_knee", "pelvis", "spine1", "spine2", "spine3", "neck", "head")]
    assert (np.diff(joints[up, 1]) > 0).all()
    for name in (n for n in JOINT_NAMES if n.startswith("left_")):
        left, right = joints[JOINT[name]], joints[JOINT[name.replace("left", "right")]]
        assert left[0] > right[0] + 0.05, name
        assert left[1] == pytest.approx(right[1], abs=0.02), name
    toes, ankles = (joints[[JOINT[f"{s}_{part}"] for s in ("left", "right")]] for part in ("foot", "ankle"))
    assert (toes[:, 2] > ankles[:, 2] + 0.05).all(), "toes must point forward"
    assert np.abs(joints[JOINT["left_wrist"], 1] - joints[JOINT["left_shoulder"], 1]) < 0.01, "arms level"


def test_t_pose_gives_straight_limbs_and_flat_feet(write_clip, rest) -> None:
    """Fails where the flat-foot angles or the zero pose drift: everyone would stand on their heels."""
    pose, _ = retarget(read_bvh(write_clip()), rest)
    G = pose[0].copy()
    for joint in range(1, N_JOINTS):
        G[joint] = G[PARENTS[joint]] @ G[joint]
    for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head", "left_ankle", "left_foot", "right_ankle",
                 "right_foot", "left_wrist", "right_wrist"):  # fmt: skip
        np.testing.assert_allclose(G[JOINT[name]], np.eye(3), atol=1e-6, err_msg=name)


def test_limbs_point_where_the_actor_s_limbs_point(write_clip, rest) -> None:
    """In any pose: fails where a change of axes is wrong for one limb but hidden in a symmetric pose."""
    bvh = read_bvh(write_clip(frames=6, wobble=1.5))
    source, _ = bvh.forward()
    pose, trans = retarget(bvh, rest)
    joints = pose_joints(pose, trans, rest)
    for side in ("left", "right"):
        for start, (a, b, end) in LIMBS.items():
            index = [bvh.names.index(f"{n}_{side[0].upper()}") for n in (a, b)]
            expected = unit(source[:, index[1]] - source[:, index[0]])
            bone = unit(joints[:, JOINT[f"{side}_{end}"]] - joints[:, JOINT[f"{side}_{start}"]])
            np.testing.assert_allclose(bone, expected, atol=1e-4, err_msg=f"{side} {start}")


def test_bones_keep_the_body_s_lengths(write_clip, rest) -> None:
    """Fails where the actor's proportions leak into the motion."""
    clip = read_clip(write_clip(frames=40, wobble=1.0), rest)
    joints = clip_joints(clip, rest)
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)
    expected = np.linalg.norm(rest[1:N_JOINTS] - rest[PARENTS[1:]], axis=-1)
    np.testing.assert_allclose(lengths, np.broadcast_to(expected, lengths.shape), atol=1e-6)


def test_path_is_scaled_by_leg_length(write_clip, rest) -> None:
    """Fails where a long actor's steps are laid under a short body: its feet would slide."""
    bvh = read_bvh(write_clip(frames=31))
    _, trans = retarget(bvh, rest)
    legs = rest[[JOINT[f"left_{part}"] for part in ("hip", "knee", "ankle")]]
    scale = np.linalg.norm(np.diff(legs, axis=0), axis=-1).sum() / (39.0811 + 40.9854)
    assert trans[-1, 2] - trans[0, 2] == pytest.approx(5.0 * 31 * scale, rel=1e-5)


def test_clip_is_resampled_to_20_fps_with_labels_of_its_name(write_clip, rest) -> None:
    """Fails where 30 fps data is taken for 20 fps, or styles and contents are mixed up."""
    clip = read_clip(write_clip("dataset-2_raise-up-left-hand_not-confident_012.bvh", frames=60), rest)
    assert len(clip) == 40
    assert (clip.source, clip.content, clip.style) == ("dataset-2", "raise-up-left-hand", "not-confident")


def test_another_name_or_skeleton_is_refused(write_clip, rest) -> None:
    with pytest.raises(ValueError, match=r"clip\.bvh: expected dataset-N_content_style_id"):
        read_clip(write_clip("clip.bvh"), rest)
    path = write_clip()
    path.write_text(path.read_text().replace("Shoulder_L", "Collar_L"))
    with pytest.raises(ValueError, match=r"\['Shoulder_L'\] are missing"):
        read_clip(path, rest)


def test_dataset_skips_damaged_clips_and_reports_progress(write_clip, rest, tmp_path, caplog) -> None:
    """Fails where one cut file ends the preparation of thousands."""
    for i in range(3):
        write_clip(f"data/sub/dataset-1_run_happy_00{i}.bvh")
    broken = tmp_path / "data/sub/dataset-1_run_happy_001.bvh"
    broken.write_text(broken.read_text()[:-40])
    seen = []
    clips = read_dataset(tmp_path / "data", rest, lambda *state: seen.append(state))
    assert [c.name for c in clips] == ["dataset-1_run_happy_000", "dataset-1_run_happy_002"]
    assert "skipped dataset-1_run_happy_001.bvh" in caplog.text
    assert [s[:2] for s in seen] == [(1, 3), (2, 3), (3, 3)]


def test_archive_of_the_dataset_is_read_and_a_cut_one_named(write_clip, rest, tmp_path) -> None:
    path = write_clip("data/dataset-1_run_happy_000.bvh", frames=200, wobble=1.0)
    packed = tmp_path / "dataset.tar.xz"
    with tarfile.open(packed, "w:xz") as archive:
        archive.add(path, "dataset/dataset-1_run_happy_000.bvh")
    assert [c.style for c in read_dataset(packed, rest)] == ["happy"]
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with pytest.raises(ValueError, match="is damaged"):
        read_dataset(packed, rest)


def test_a_folder_without_clips_is_refused(write_clip, rest, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_dataset(tmp_path / "nowhere", rest)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no file named dataset-N"):
        read_dataset(tmp_path / "empty", rest)
    text = tmp_path / "readme.txt"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"neither a folder nor a tar archive"):
        read_dataset(text, rest)
    write_clip("bad/dataset-1_run_happy_000.bvh").write_text("HIERARCHY")
    with pytest.raises(ValueError, match="none of the 1 clips"):
        read_dataset(tmp_path / "bad", rest)
