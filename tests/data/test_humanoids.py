"""BVH of any humanoid and AMASS: upright, facing +Z, of our size, feet on the floor, whatever the axes of the file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.__main__ import main
from core.data.bandai import retarget
from core.data.clips import Clip, pose_joints
from core.data.dataset import SetConfig, load_set
from core.data.folders import clip_features, read_amass_folder, read_bvh_clip, read_bvh_folder, read_tables, split_of
from core.data.humanoids import map_joints, plain_name
from core.data.retarget import our_joints, retarget_bvh, windows, without_rest_frame, y_up
from core.motion.bvh import Bvh, read_bvh, write_bvh
from core.motion.features import recover_joints
from core.motion.files import save_amass_npz
from core.motion.rotations import rotvec_to_matrix, yaw_matrix
from core.motion.skeleton import JOINT, JOINT_NAMES, N_JOINTS, PARENTS

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIDED = ("Hip", "Knee", "Ankle", "Foot", "Collar", "Shoulder", "Elbow", "Wrist")
FAMILIES = {  # our sided parts, then pelvis, three spine joints, neck and head, as each family of files names them
    "cmu": (
        "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand",
        "Hips LowerBack Spine Spine1 Neck Head",
        "{side}{part}",
    ),
    "mixamo": (
        "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand",
        "Hips Spine Spine1 Spine2 Neck Head",
        "mixamorig:{side}{part}",
    ),
    "xsens": ("Hip Knee Ankle Toe Collar Shoulder Elbow Wrist", "Hips Chest Chest2 Chest3 Neck Head", "{side}{part}"),
    "unreal": (
        "thigh calf foot ball clavicle upperarm lowerarm hand",
        "pelvis spine_01 spine_02 spine_03 neck_01 head",
        "{part}_{letter}",
    ),
    "bandai": (
        "UpperLeg LowerLeg Foot Toes Shoulder UpperArm LowerArm Hand",
        "Hips A B C Neck Head",
        "{part}_{LETTER}",
    ),
}


def names_of(family: str) -> list[str]:
    """Our 22 joints in a family's names."""
    sided, centre, pattern = FAMILIES[family]
    parts = dict(zip((part.lower() for part in SIDED), sided.split(), strict=True))
    middle = dict(zip(("pelvis", "spine1", "spine2", "spine3", "neck", "head"), centre.split(), strict=True))
    prefix = "mixamorig:" if family == "mixamo" else ""
    out = []
    for name in JOINT_NAMES:
        side, _, part = name.rpartition("_")
        letter = side[:1]
        values = {"side": side.title(), "letter": letter, "LETTER": letter.upper(), "part": parts.get(part, "")}
        out.append(pattern.format(**values) if side else prefix + middle[name])
    return out


def turned_bvh(path: Path, clip: Clip, rest: np.ndarray, names: list[str], z_up: bool, unit: float) -> Path:
    """The clip as BVH in another unit, up axis, place and heading."""
    pose = rotvec_to_matrix(clip.rotvecs)
    turn = yaw_matrix(np.array(2.0))
    if z_up:
        turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turn
    pose[:, 0] = turn @ pose[:, 0]
    trans = (clip.trans + [3.0, 0.4, -2.0]) @ turn.T
    offsets = rest[:N_JOINTS] - rest[PARENTS.clip(0)]
    write_bvh(path, names, PARENTS, offsets, trans, pose, fps=60.0, unit_scale=unit)
    return path


@pytest.fixture
def walker(rest) -> Clip:
    """Three seconds at 60 fps on one spot: knees, arms and head move, toes stay on the floor (y = 0)."""
    t = np.arange(180) / 60
    rotvecs = np.zeros((180, N_JOINTS, 3))
    bend = 0.3 * (1 - np.cos(2 * np.pi * t / 3))
    for side in ("left", "right"):
        rotvecs[:, JOINT[f"{side}_hip"], 0], rotvecs[:, JOINT[f"{side}_knee"], 0] = -bend, 2 * bend
        rotvecs[:, JOINT[f"{side}_ankle"], 0] = -bend
    rotvecs[:, JOINT["left_shoulder"], 2] = 0.8 * np.sin(3 * t)
    rotvecs[:, JOINT["head"], 1] = 0.5 * np.sin(2 * t)
    clip = Clip("squat", "", "", "", rotvecs, np.zeros((180, 3)))
    joints = pose_joints(rotvec_to_matrix(rotvecs), clip.trans, rest)
    feet = joints[:, [JOINT["left_foot"], JOINT["right_foot"]]].mean(1)
    return replace(clip, trans=-feet)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("z_up", "unit"), [(False, 100.0), (True, 1.0)])
def test_any_family_unit_and_axis(family, z_up, unit, tmp_path, walker, rest):
    """Prevents a body that lies down, is 100 times too large, floats or looks away, and swapped limbs."""
    path = turned_bvh(tmp_path / "squat.bvh", walker, rest, names_of(family), z_up, unit)
    clip = read_bvh_clip(path, rest)
    joints = recover_joints(clip_features(clip, rest))
    true = pose_joints(rotvec_to_matrix(walker.rotvecs), walker.trans, rest)[::3][: len(joints)]
    true = true - true[:1, :1] * [1, 0, 1]
    assert len(clip) == 60
    assert np.abs(joints - true).max() < 0.02  # metres; upright, facing +Z, the same size, on the floor
    assert abs(joints[:, [10, 11], 1]).max() < 0.01


def test_twist_apart_it_is_what_the_exact_retargeting_gives(write_clip, rest):
    """Prevents names that match but play another part: against core.data.bandai on its own skeleton."""
    bvh = read_bvh(write_clip(frames=12, wobble=0.15))
    pose, trans = retarget_bvh(bvh, rest, "clip")
    exact = retarget(bvh, rest)
    joints, expected = pose_joints(pose, trans, rest), pose_joints(*exact, rest)
    expected = expected[-len(joints) :]
    limbs = [JOINT[f"{s}_{p}"] for s in ("left", "right") for p in ("hip", "knee", "ankle", "shoulder", "elbow")]
    error = np.linalg.norm(joints - expected, axis=-1)
    assert error[:, limbs].mean() < 0.05


def test_a_t_pose_before_the_motion_is_taken_off():
    """Prevents a jump of the whole body in the first frame; a fast start is kept."""
    t = np.linspace(0, 1, 20)[:, None, None]
    motion = np.concatenate([np.zeros((20, 11, 3)), np.tile(0.2 * t, (1, 11, 3))], 1)
    rest_frame = np.concatenate([np.zeros((1, 11, 3)), np.ones((1, 11, 3))], 1)
    assert len(without_rest_frame(np.concatenate([rest_frame, motion]))) == 20
    assert len(without_rest_frame(5 * motion)) == 20


def test_spines_of_any_number_of_joints(rest):
    """Prevents a bent neck where a skeleton has two or seven spine joints."""
    names = [n.replace("spine", "s") for n in names_of("cmu")]
    keep = [i for i, n in enumerate(JOINT_NAMES) if n not in ("spine1", "spine2")]
    parents = [keep.index(PARENTS[i]) if PARENTS[i] in keep else 0 for i in keep]
    parents[0] = -1
    joints = np.tile(rest[:N_JOINTS], (2, 1, 1))
    found = map_joints([names[i] for i in keep], np.array(parents), "file")
    ours = our_joints(joints[:, keep], found, rest)
    assert np.abs(ours - joints).max() < 0.03
    np.testing.assert_allclose(y_up(joints[..., [2, 0, 1]])[..., 1], joints[..., 1])  # Z up


def test_names_are_read_by_words():
    for name, plain in {
        "mixamorig:LeftUpLeg": ("left", "upleg"), "CC_Base_L_Thigh": ("left", "thigh"), "thigh_r": ("right", "thigh"),
        "UpperLeg_L": ("left", "upperleg"), "lThigh": ("left", "thigh"), "Bip01_R_Foot": ("right", "foot"),
        "left_knee": ("left", "knee"), "LHipJoint": ("left", "hipjoint"), "leftFoot": ("left", "foot"),
        "neck_01": ("", "neck01"), "mixamorig_Hips": ("", "hips"), "LowerBack": ("", "lowerback"),
    }.items():  # fmt: skip
        assert plain_name(name) == plain


def test_unknown_skeletons_are_named_and_can_be_told(tmp_path, walker, rest, capsys):
    """Prevents a guess, and a dead end: the error says which part is missing and how to give it."""
    names = ["Quux" if name == "LeftLeg" else name for name in names_of("cmu")]
    path = turned_bvh(tmp_path / "odd.bvh", walker, rest, names, False, 100.0)
    with pytest.raises(ValueError, match=r"odd.bvh has an unknown skeleton: no joint for left_knee \(leg,.*Quux"):
        read_bvh_clip(path, rest)
    (tmp_path / "names.json").write_text(json.dumps({"left_knee": "Quux"}))
    options = ["--joints", str(tmp_path / "names.json"), "--out", str(tmp_path / "odd.npz")]
    assert main(["prepare", "bvh", str(tmp_path), *options]) == 0
    assert load_set(tmp_path / "odd.npz", SetConfig("train")).captions == (("odd",),)
    assert main(["prepare", "bvh", str(tmp_path), "--out", str(tmp_path / "none.npz")]) == 1
    assert "no motion can be used" in capsys.readouterr().err


def test_folders_give_captions_windows_and_reasons(tmp_path, walker, rest):
    """Prevents lost captions, motions over 9.8 s, and files that disappear without a word."""
    long = Clip("x", "", "", "", np.tile(walker.rotvecs, (5, 1, 1)), np.tile(walker.trans, (5, 1)))  # 15 s
    for name, clip in (("a", walker), ("b", long), ("SitDown_01", walker), ("123", walker)):
        turned_bvh(tmp_path / f"{name}.bvh", clip, rest, names_of("mixamo"), False, 100.0)
    (tmp_path / "cut.bvh").write_text("HIERARCHY\n")
    (tmp_path / "index.csv").write_text('file,description\na,walk\n"b","jump, balance"\n')
    assert read_tables(tmp_path) == {"a": "walk", "b": "jump, balance"}
    (tmp_path / "123.txt").write_text("a man squats\r\nhe bends#he/PRON#0.0#0.0\r\n")
    prepared = read_bvh_folder(tmp_path, rest)
    motions = {m.name: m for split in prepared.splits.values() for m in split}
    assert {name: m.captions for name, m in motions.items()} == {
        "a#0": ("walk",), "b#0": ("jump, balance",), "b#196": ("jump, balance",), "SitDown_01#0": ("sit down",),
        "123#0": ("a man squats", "he bends"),
    }  # fmt: skip
    assert [len(motions[name].features) for name in ("b#0", "b#196")] == [196, 103]
    assert {split: len({m.name.split("#")[0] for m in found}) for split, found in prepared.splits.items()} == {
        "train": 2, "val": 1, "test": 1,
    }  # fmt: skip
    assert sum(prepared.skipped.values()) == 1 and "cut.bvh has no MOTION section" in prepared.summary()
    assert windows(235, 196, 40) == [slice(0, 196)]
    with pytest.raises(ValueError, match="holds no .npz file"):
        read_amass_folder(tmp_path, rest)


@pytest.mark.parametrize(
    ("files", "expected"),
    [(0, (0, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (5, (3, 1, 1)), (100, (85, 5, 10))],
)
def test_small_folders_have_every_split(files, expected):
    """Prevents a folder of five files that can't be validated or tested on, and splits that change between runs."""
    found = split_of(files)
    assert tuple(found.count(split) for split in ("train", "val", "test")) == expected and found == split_of(files)


def test_amass_keeps_rotations_and_stands_on_the_floor(tmp_path, walker, rest):
    """Prevents AMASS motions lying on their backs, and twist that is thrown away though the file has it."""
    pose = rotvec_to_matrix(walker.rotvecs)
    pose[:, JOINT["left_elbow"]] = pose[:, JOINT["left_elbow"]] @ rotvec_to_matrix(np.array([0.7, 0, 0]))
    save_amass_npz(tmp_path / "squat_poses.npz", pose, walker.trans + [1.0, 2.0, 3.0], fps=60.0)
    np.savez(tmp_path / "shape.npz", betas=np.zeros(16))
    prepared = read_amass_folder(tmp_path, rest)
    (motion,) = prepared.splits["train"]
    assert motion.captions == ("squat",) and "shape.npz has no 'poses'" in prepared.summary()
    joints = recover_joints(motion.features)
    assert abs(joints[:, [10, 11], 1]).max() < 0.01 and joints[0, JOINT["head"], 1] > 1.3
    from core.motion.layout import ROTATIONS
    from core.motion.rotations import matrix_to_rotvec, sixd_to_matrix

    elbow = sixd_to_matrix(motion.features[0, ROTATIONS].reshape(21, 6))[JOINT["left_elbow"] - 1]
    np.testing.assert_allclose(matrix_to_rotvec(elbow), [0.7, 0, 0], atol=1e-4)


def test_bones_without_length_are_named(rest):
    names = tuple(names_of("cmu"))
    flat = Bvh(names, PARENTS, np.zeros((22, 3)), np.zeros((3, 22, 3)), np.tile(np.eye(3), (3, 22, 1, 1)), 0.05)
    with pytest.raises(ValueError, match="legs of no length"):
        retarget_bvh(flat, rest, "flat.bvh")


def test_a_real_clip_of_another_skeleton(rest):
    """Prevents what only real files have: Z up, centimetres, a T-pose first, 100 joints with fingers and twist bones.

    The clip is a jump of the CMU Graphics Lab motion capture database (mocap.cs.cmu.edu, NSF EIA-0196217), every 6th
    frame, on a Character Creator skeleton.
    """
    clip = read_bvh_clip(FIXTURES / "cmu_002_04.bvh", rest)
    joints = recover_joints(clip_features(clip, rest))
    spine = joints[:, JOINT["neck"]] - joints[:, JOINT["pelvis"]]
    upright = spine[:, 1] / np.linalg.norm(spine, axis=-1)
    across = joints[0, JOINT["left_hip"]] - joints[0, JOINT["right_hip"]]
    toes = joints[:, [JOINT["left_foot"], JOINT["right_foot"]], 1]
    assert upright.min() > 0.5 and upright[0] > 0.95
    assert across[0] > 0.15 and abs(across[2]) < 0.03  # the left side is on +X: it faces +Z
    assert 1.35 < joints[0, JOINT["head"], 1] < 1.75
    assert -0.03 < toes.min() < 0.02 and 0.15 < toes.min(1).max() < 0.6  # on the floor, and off it in the jump
    assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() < 0.5  # the T-pose is gone
    for side in ("left", "right"):  # its collar bones begin at the neck: shoulders must not be drawn up to the ears
        drop = joints[:, JOINT["neck"], 1] - joints[:, JOINT[f"{side}_shoulder"], 1]
        assert abs(drop[0] - (rest[JOINT["neck"], 1] - rest[JOINT[f"{side}_shoulder"], 1])) < 0.03
