"""HumanML3D and KIT-ML folders made here with every oddity of the real ones; counts are exact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from core.__main__ import main
from core.data.captioned import (
    PreparedSet,
    load_motions,
    load_prepared,
    load_statistics,
    save_prepared,
    source_of,
)
from core.data.clips import clip_joints
from core.data.conversion import KIT_JOINTS, in_our_features, kit_joints
from core.data.dataset import SetConfig, load_set
from core.data.folders import clip_features
from core.data.humanml3d import HUMANML3D, KIT, Layout, parse_texts, read_humanml3d
from core.models.imports import read_statistics
from core.motion.features import recover_joints
from core.motion.layout import ROOT_VELOCITY
from core.motion.skeleton import JOINT, N_JOINTS, PARENTS

WALK = "a man walks forward.#a/DET man/NOUN walk/VERB forward/ADV#0.0#0.0"
# name -> (frames, text). 20 clips; what the reader must make of each stands beside it.
CLIPS: dict[str, tuple[int, str]] = {
    "000000": (100, f"{WALK}\n"),  # 1 motion
    "000001": (40, f"{WALK}\r\nhe strolls#he/PRON stroll/VERB#0.0#0.0\r\n"),  # Windows line ends, 2 captions
    "000002": (39, WALK),  # too short
    "000003": (200, WALK),  # too long as published
    "000004": (199, WALK),  # kept, cut to 196
    "000005": (120, f"{WALK}\nhe sits#he/PRON sit/VERB#1.0#4.0"),  # whole and a segment of 60
    "000006": (120, "he jumps#he/PRON jump/VERB#2.0#5.5"),  # a segment only, 70 frames
    "000007": (120, f"{WALK}\nhe nods#he/PRON nod/VERB#1.0#2.0"),  # segment of 20 frames: too short
    "000008": (80, "he turns#he/PRON turn/VERB##"),  # empty tags
    "000009": (80, "he turns#he/PRON turn/VERB#nan#nan"),  # nan tags
    "000010": (80, "he turns"),  # no tags at all
    "000011": (80, f"{WALK}\n{WALK}\n"),  # the same caption twice
    "000012": (80, f"#a/DET#0.0#0.0\n{WALK}"),  # an empty caption
    "000013": (80, ""),  # no caption at all
    "000014": (80, f"{WALK}\nhe hops#hop/VERB#soon#0.0"),  # an unreadable time
    "000015": (80, WALK),  # holds NaN
    "000016": (80, WALK),  # of another width
    "000017": (80, f"\ufeff{WALK}\n\n   \n"),  # byte order mark, blank lines
    "000018": (120, f"{WALK}\nhe lies#he/PRON lie/VERB#4.0#99.0"),  # a segment that ends beyond: 40 frames left
    "M000019": (80, WALK),  # a mirrored clip
}
SPLITS = {"train": list(CLIPS)[:16] + ["999999"], "val": list(CLIPS)[16:18], "test": list(CLIPS)[18:]}


def make_folder(path: Path, layout: Layout, clips: dict[str, tuple[int, str]] = CLIPS) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("new_joint_vecs", "texts", "new_joints"):
        (path / folder).mkdir(parents=True)
    for name, (frames, text) in clips.items():
        width = layout.features + (name == "000016")
        motion = rng.normal(size=(frames, width)).astype(np.float32)
        motion[5, 3] = np.nan if name == "000015" else motion[5, 3]
        np.save(path / "new_joint_vecs" / f"{name}.npy", motion)
        (path / "texts" / f"{name}.txt").write_bytes(text.encode())
    for split, names in SPLITS.items():
        (path / f"{split}.txt").write_text("\r\n".join(n for n in names if n in clips or n == "999999") + "\r\n")
    np.save(path / "Mean.npy", np.zeros(layout.features, np.float32))
    np.save(path / "Std.npy", np.ones(layout.features, np.float32))
    return path


def counts(prepared: PreparedSet) -> dict[str, int]:
    return {split: len(motions) for split, motions in prepared.splits.items()}


def test_humanml3d_with_all_its_oddities(tmp_path):
    """Prevents motions lost or invented: every clip of the table above is accounted for."""
    seen: list[str] = []
    folder = make_folder(tmp_path / "h3d", HUMANML3D)
    prepared = read_humanml3d(folder, callback=lambda done, total, name: seen.append(f"{done}/{total}"))
    assert counts(prepared) == {"train": 13, "val": 1, "test": 3}
    motions = {m.name: m for split in prepared.splits.values() for m in split}
    assert prepared.skipped == Counter(
        {
            "motions shorter than 40 frames": 1,
            "motions of 200 frames or more": 1,
            "segments shorter than 40 frames": 1,
            "captions that repeat another of the motion": 1,
            "empty captions": 1,
            "motions without a usable caption": 1,
            "captions with unreadable times": 1,
            "motions with NaN": 1,
            "motions of another shape than (F, 263)": 1,
            "names without a motion or a text file": 1,
        }
    )
    assert len(motions["000004"].features) == 196
    assert motions["000001"].captions == ("a man walks forward.", "he strolls")
    original = np.load(folder / "new_joint_vecs" / "000006.npy")
    assert np.array_equal(motions["000006#2-5.5"].features, original[40:110])
    assert len(motions["000005#1-4"].features) == 60 and "000006" not in motions
    assert all(motions[name].captions == ("he turns",) for name in ("000008", "000009", "000010"))
    assert motions["000017"].captions == ("a man walks forward.",)
    assert len(motions["000018#4-99"].features) == 40
    assert seen[-1] == "21/21" and "17 motions (13 train, 1 val, 3 test)" in prepared.summary()


def test_kit_in_its_own_width_and_rate(tmp_path):
    """Prevents KIT-ML's 251 features, 12.5 fps and 24-frame minimum from being read as HumanML3D's."""
    clips = {"00001": (24, WALK), "00002": (23, WALK), "00003": (120, "he sits#sit/VERB#2.0#4.0")}
    folder = make_folder(tmp_path / "kit", KIT, clips)
    (folder / "train.txt").write_text("00001\n00002\n00003\n")
    prepared = read_humanml3d(folder, KIT)
    assert counts(prepared) == {"train": 2, "val": 0, "test": 0}
    assert [len(m.features) for m in prepared.splits["train"]] == [24, 25]  # frames 25 to 50 at 12.5 fps
    assert prepared.skipped == Counter({"motions shorter than 24 frames": 1})
    save_prepared(tmp_path / "kit.npz", prepared)
    assert load_prepared(tmp_path / "kit.npz", "train").features.shape == (49, 251)
    with pytest.raises(ValueError, match="251 features, our models take 263. Prepare KIT-ML without"):
        load_set(tmp_path / "kit.npz", SetConfig("train"))
    with pytest.raises(ValueError, match="Is it the other of humanml3d and kit?"):
        read_humanml3d(folder)


def test_prepare_and_load(tmp_path, caplog):
    """Prevents a prepared archive that differs from what was read, and statistics lost on the way."""
    folder = make_folder(tmp_path / "h3d", HUMANML3D)
    with caplog.at_level("INFO"):
        assert main(["prepare", "humanml3d", str(folder), "--out", str(tmp_path / "h3d.npz")]) == 0
    assert "HumanML3D: 17 motions" in caplog.text and "left out: 1 motions shorter than 40 frames" in caplog.text
    test = load_set(tmp_path / "h3d.npz", SetConfig("test"))
    assert len(test) == 3 and test.features.dtype == np.float32
    assert np.array_equal(test.motion(2), np.load(folder / "new_joint_vecs" / "M000019.npy"))
    (first, *_) = load_motions(tmp_path / "h3d.npz", "test")
    assert first.tokens[0] == "a/DET man/NOUN walk/VERB forward/ADV" and source_of(tmp_path / "h3d.npz") == "HumanML3D"
    train = load_set(tmp_path / "h3d.npz", SetConfig("train"))
    assert len(train) == 13 and train.features.dtype == np.float16
    assert train.captions[0] == ("a man walks forward.",) * 2  # as many as the richest motion has
    assert train.meanings[0] == "text:a-man-walks-forward" == train.meanings[2]
    assert set(load_statistics(tmp_path / "h3d.npz")) == {"Mean", "Std"}
    with pytest.raises(ValueError, match="has no split 'heldout'. Choose one of test, train, val"):
        load_set(tmp_path / "h3d.npz", SetConfig("heldout"))


@pytest.mark.parametrize("tag", ["inf", "1e999", "1e308", "-inf"])
def test_times_that_are_none_are_counted(tmp_path, tag):
    """Prevents an overflow in the middle of a dataset: one odd line costs one caption."""
    folder = make_folder(tmp_path / "h3d", HUMANML3D, {"000000": (100, f"he nods#nod/VERB#0.0#{tag}\n{WALK}")})
    prepared = read_humanml3d(folder)
    assert [m.captions for m in prepared.splits["train"]] == [("a man walks forward.",)]
    assert prepared.skipped["captions with unreadable times"] == 1


def test_motion_files_of_anything_else_are_counted(tmp_path):
    """Prevents one odd file from ending the preparation, and numbers that float16 makes infinite."""
    names = ("text", "npz", "object", "complex", "empty", "huge")
    folder = make_folder(tmp_path / "h3d", HUMANML3D, {name: (80, WALK) for name in (*names, "good")})
    (folder / "train.txt").write_text("\n".join((*names, "good")))
    files = {name: folder / "new_joint_vecs" / f"{name}.npy" for name in names}
    np.save(files["text"], np.full((80, 263), "a"))
    with files["npz"].open("wb") as file:
        np.savez(file, a=np.zeros((80, 263)))
    np.save(files["object"], np.full((80, 263), None, dtype=object), allow_pickle=True)
    np.save(files["complex"], np.zeros((80, 263), complex))
    files["empty"].write_bytes(b"")
    np.save(files["huge"], np.full((80, 263), 65600.0, np.float32))
    prepared = read_humanml3d(folder)
    assert [m.name for m in prepared.splits["train"]] == ["good"]
    assert prepared.skipped == Counter({"motion files that can't be read": 5, "motions with numbers beyond 65504": 1})


def test_names_count_once(tmp_path):
    """Prevents a motion that is trained on and tested on, and one that counts twice."""
    folder = make_folder(tmp_path / "h3d", HUMANML3D, {"000000": (80, WALK), "000001": (80, WALK)})
    (folder / "train.txt").write_text("000000\n000000\n")
    (folder / "test.txt").write_text("000001\n000000\n")
    prepared = read_humanml3d(folder)
    assert {split: [m.name for m in motions] for split, motions in prepared.splits.items()} == {
        "train": ["000000"], "val": [], "test": ["000001"],
    }  # fmt: skip
    assert prepared.skipped == Counter({"names listed twice": 2})


@pytest.mark.parametrize(("layout", "shortest"), [(HUMANML3D, 40), (KIT, 24)])
def test_the_shortest_published_motions_are_kept_in_our_features(tmp_path, rest, make_clip, layout, shortest):
    """Prevents clips that count as published from being lost on the way to our own convention."""
    clips = {f"{frames}": (frames, WALK) for frames in range(shortest - 1, shortest + 3)}
    folder = make_folder(tmp_path / "set", layout, clips)
    (folder / "train.txt").write_text("\n".join(clips))
    for name, (frames, _) in clips.items() if layout == HUMANML3D else ():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", clip_features(make_clip(frames=frames + 1), rest))
    prepared = in_our_features(read_humanml3d(folder, layout), rest)
    motions = {m.name: m.features for m in prepared.splits["train"]}
    assert list(motions) == list(clips)[1:] and all(len(features) >= 40 for features in motions.values())
    assert prepared.skipped == Counter({f"motions shorter than {shortest} frames": 1})
    assert np.abs(motions[f"{shortest}"][-1, ROOT_VELOCITY]).max() < 1e-6  # a pose that is held does not drift on


@pytest.mark.parametrize("content", ["", "garbage", "text", "object", "NaN"])
@pytest.mark.parametrize("name", ["Mean", "Std"])
def test_statistics_that_cannot_be_read_are_named(tmp_path, name, content):
    """Prevents a traceback, and numpy's advice to unpickle a stranger's file."""
    folder = make_folder(tmp_path / "h3d", HUMANML3D)
    arrays = {"text": np.full(263, "a"), "object": np.full(263, None, object), "NaN": np.full(263, np.nan)}
    if content in arrays:
        np.save(folder / f"{name}.npy", arrays[content], allow_pickle=True)
    else:
        (folder / f"{name}.npy").write_text(content)
    for read in (read_humanml3d, read_statistics):
        with pytest.raises(ValueError, match=rf"{name}.npy") as caught:
            read(folder)
        assert "pickle" not in str(caught.value)


def test_our_convention_keeps_the_joints(tmp_path, make_clip, rest):
    """Prevents a change of convention that moves the body."""
    folder = make_folder(tmp_path / "h3d", HUMANML3D, {"000000": (100, WALK)})
    features = clip_features(make_clip(), rest)
    np.save(folder / "new_joint_vecs" / "000000.npy", features)
    prepared = in_our_features(read_humanml3d(folder), rest)
    (motion,) = prepared.splits["train"]
    assert prepared.source == "HumanML3D in our features" and not prepared.statistics
    offsets = rest[:N_JOINTS] - rest[PARENTS.clip(0)]
    joints = recover_joints(motion.features)
    np.testing.assert_allclose(joints[:, 0, 1], recover_joints(features)[: len(joints), 0, 1], atol=1e-4)
    bones = np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)
    np.testing.assert_allclose(bones, np.tile(np.linalg.norm(offsets[1:], axis=-1), (len(bones), 1)), atol=1e-4)


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="new_joint_vecs is not a folder"):
        read_humanml3d(tmp_path)
    folder = make_folder(tmp_path / "h3d", HUMANML3D)
    (folder / "Std.npy").unlink()
    with pytest.raises(FileNotFoundError, match="Std.npy is missing"):
        read_humanml3d(folder)
    with pytest.raises(ValueError, match="no motion can be used. x: 0 motions"):
        save_prepared(tmp_path / "x.npz", PreparedSet("x", 20.0, {"train": []}))
    assert parse_texts("", Counter()) == []


def kit_folder(path: Path, joints: np.ndarray) -> Path:
    """A KIT-ML folder with one motion: joints (F, 21, 3) in its unit, root above x = z = 0 throughout, facing +Z."""
    features = np.zeros((len(joints) - 1, 251), np.float32)
    features[:, 3] = joints[:-1, 0, 1]
    features[:, 4:64] = joints[:-1, 1:].reshape(len(features), 60)
    folder = make_folder(path, KIT, {"00001": (len(features), WALK)})
    np.save(folder / "new_joint_vecs" / "00001.npy", features)
    (folder / "train.txt").write_text("00001\n")
    return folder


def test_kit_comes_to_our_skeleton(tmp_path, make_clip, rest):
    """Prevents a KIT motion on its side, mirrored, of another size or at another speed than it was recorded."""
    frames = 60  # 4.8 s at 12.5 fps
    ours = clip_joints(make_clip(frames=frames), rest)
    ours[:, :, [0, 2]] -= ours[:, :1, [0, 2]]
    joints = np.zeros((frames, 21, 3))
    for name, index in KIT_JOINTS.joints.items():
        joints[:, index] = 1000 * 0.8 * ours[:, JOINT[name]]  # millimetres, a smaller person
    joints[:, [1, 2]] = 800 * ours[:, [JOINT["spine1"], JOINT["spine3"]]]
    folder = kit_folder(tmp_path / "kit", joints)
    np.testing.assert_allclose(kit_joints(np.load(folder / "new_joint_vecs" / "00001.npy")), joints[:-1], rtol=1e-4)
    assert main(["prepare", "kit", str(folder), "--out", str(tmp_path / "kit.npz")]) == 0
    made = recover_joints(load_set(tmp_path / "kit.npz", SetConfig("train")).motion(0))
    assert abs(len(made) / 20 - (frames - 1) / 12.5) < 0.2
    assert load_motions(tmp_path / "kit.npz", "train")[0].tokens == ("a/DET man/NOUN walk/VERB forward/ADV",)
    across = made[0, JOINT["left_hip"]] - made[0, JOINT["right_hip"]]
    spine = made[0, JOINT["neck"]] - made[0, JOINT["pelvis"]]
    assert across[0] > 0.9 * np.linalg.norm(across) and spine[1] > 0.9 * np.linalg.norm(spine)
    bones = np.linalg.norm(made[0, 1:] - made[0, PARENTS[1:]], axis=-1)
    np.testing.assert_allclose(bones, np.linalg.norm(rest[1:N_JOINTS] - rest[PARENTS[1:]], axis=-1), atol=2e-3)
    toes = made[0, JOINT["left_foot"]] - made[0, JOINT["left_ankle"]]
    assert toes[2] > 0.5 * np.linalg.norm(toes)  # ahead of the ankle: not mirrored
    last, truth = made[-1], ours[-2]
    for a, b in (("left_wrist", "right_ankle"), ("left_elbow", "right_wrist"), ("head", "left_knee")):
        spans = [np.linalg.norm(joints[JOINT[a]] - joints[JOINT[b]]) for joints in (last, truth)]
        assert abs(spans[0] - spans[1]) < 0.15, (a, b)  # collars are guessed, the spine is cut anew
