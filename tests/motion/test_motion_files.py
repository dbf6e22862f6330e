"""Motion files: axes and units of AMASS, round trips, whole files or none, nothing is unpickled."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from core.motion.files import (
    atomic_write,
    load_amass_npz,
    load_features_npy,
    load_joints_npy,
    save_amass_npz,
    save_features_npy,
    save_joints_npy,
)
from core.motion.kinematics import forward_kinematics
from core.motion.rotations import rotvec_to_matrix
from core.motion.skeleton import PARENTS

PELVIS_REST = np.array([0.01, -0.22, 0.03])


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    return rotvec_to_matrix(rng.normal(0, 0.8, (9, 24, 3))), rng.normal(0, 1, (9, 3))


def test_amass_round_trip(tmp_path, clip):
    poses, trans = clip
    path = tmp_path / "clip.npz"
    save_amass_npz(path, poses, trans, np.arange(10.0), "female", 20, PELVIS_REST)
    back = load_amass_npz(path, PELVIS_REST)
    np.testing.assert_allclose(back.rotations, poses[:, :22], atol=1e-7)
    np.testing.assert_allclose(back.trans, trans, atol=1e-9)
    np.testing.assert_array_equal(back.betas, np.pad(np.arange(10.0), (0, 6)))
    assert (back.gender, back.fps) == ("female", 20.0)


def test_amass_file_is_the_same_motion_with_z_up(tmp_path, clip):
    """Prevents: a body that lies on its back in an AMASS viewer: SMPL posed from the file must be ours, tilted."""
    poses, trans = clip
    save_amass_npz(tmp_path / "clip.npz", poses, trans, pelvis_rest=PELVIS_REST)
    with np.load(tmp_path / "clip.npz", allow_pickle=False) as file:
        data = dict(file)
    assert data["poses"].shape == (9, 156) and data["betas"].shape == (16,) and data["trans"].shape == (9, 3)
    assert data["mocap_framerate"] == data["mocap_frame_rate"] == 20 and str(data["gender"]) == "neutral"
    assert not data["poses"][:, 66:].any()
    rest = np.random.default_rng(1).normal(size=(22, 3))

    def smpl_joints(rotations, translation):
        positions = np.repeat(rest[None], 9, 0)
        positions[:, 0] = PELVIS_REST + translation
        return forward_kinematics(rotations, positions, PARENTS)[0]

    ours = smpl_joints(poses[:, :22], trans)
    theirs = smpl_joints(rotvec_to_matrix(data["poses"][:, :66].reshape(9, 22, 3)), data["trans"])
    np.testing.assert_allclose(theirs, np.stack([ours[..., 0], -ours[..., 2], ours[..., 1]], -1), atol=1e-7)


def test_old_and_foreign_amass_files(tmp_path):
    """Prevents: refusing published files: gender as bytes, one name of the rate, SMPL-X width, 10 betas, objects."""
    path = tmp_path / "published.npz"
    markers = np.array({"LFHD": 1}, dtype=object)  # as in *_stageii.npz; never read, so never unpickled
    np.savez(path, poses=np.zeros((4, 165)), trans=np.ones((4, 3)), betas=np.ones(10), gender=b"male",
             mocap_frame_rate=120, markers_latent_vids=markers)  # fmt: skip
    clip = load_amass_npz(path)
    assert (clip.gender, clip.fps, clip.rotations.shape) == ("male", 120.0, (4, 22, 3, 3))
    np.testing.assert_allclose(clip.trans[0], [1, 1, -1])
    np.testing.assert_allclose(clip.rotations[0, 0] @ [0, 0, 1], [0, 1, 0], atol=1e-12)  # Z up becomes Y up


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": np.zeros((9, 20, 3, 3))}, "poses have shape"),
        ({"trans": np.zeros((9, 2))}, "trans"),
        ({"betas": np.zeros(17)}, r"at most \(16,\)"),
        ({"gender": "robot"}, "allowed are neutral, female, male"),
        ({"trans": np.full((9, 3), np.inf)}, "not finite"),
    ],
)
def test_amass_writer_names_bad_input(tmp_path, clip, changes, message):
    with pytest.raises(ValueError, match=message):
        save_amass_npz(tmp_path / "clip.npz", **{"poses": clip[0], "trans": clip[1], **changes})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": None}, "has no 'poses'"),
        ({"mocap_framerate": None}, "has no 'mocap_framerate'"),
        ({"poses": np.zeros((4, 60))}, "poses"),
        ({"trans": np.full((4, 3), np.nan)}, "not finite"),
        ({"gender": np.array([{}], dtype=object)}, "can't be read"),
    ],
)
def test_amass_reader_names_bad_files(tmp_path, changes, message):
    data = {"poses": np.zeros((4, 156)), "trans": np.zeros((4, 3)), "mocap_framerate": 60, **changes}
    path = tmp_path / "clip.npz"
    np.savez(path, **{key: value for key, value in data.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        load_amass_npz(path)


def test_truncated_npz_and_missing_file(tmp_path, clip):
    path = tmp_path / "clip.npz"
    save_amass_npz(path, *clip)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged"):
        load_amass_npz(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_amass_npz(tmp_path / "no.npz")


def test_npy_round_trips(tmp_path):
    rng = np.random.default_rng(0)
    features, joints = rng.normal(size=(50, 263)).astype(np.float32), rng.normal(size=(50, 22, 3)).astype(np.float32)
    save_features_npy(tmp_path / "new" / "f.npy", features)
    save_joints_npy(tmp_path / "j.npy", joints)
    np.testing.assert_array_equal(load_features_npy(tmp_path / "new" / "f.npy"), features)
    np.testing.assert_array_equal(load_joints_npy(tmp_path / "j.npy"), joints)


def test_npy_errors(tmp_path):
    np.save(tmp_path / "wrong.npy", np.zeros((5, 251)))
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(ValueError, match=r"wrong.npy: features have shape \(5, 251\), needed is \(F, 263\)"):
        load_features_npy(tmp_path / "wrong.npy")
    with pytest.raises(ValueError, match="can't be read"):
        load_joints_npy(tmp_path / "text.npy")
    with pytest.raises(FileNotFoundError):
        load_joints_npy(tmp_path / "no.npy")
    with pytest.raises(ValueError, match="not finite"):
        save_features_npy(tmp_path / "nan.npy", np.full((5, 263), np.nan))


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_not_executed(tmp_path):
    """Prevents: a file that runs code when it is opened."""
    for name, load in (("a.npz", load_amass_npz), ("b.npy", load_features_npy)):
        (tmp_path / name).write_bytes(pickle.dumps(_Trap()))
        with pytest.raises(ValueError, match="can't be read"):
            load(tmp_path / name)


def test_interrupted_write_leaves_the_old_file(tmp_path):
    """Prevents: half-written files after a crash."""
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, interrupted)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
