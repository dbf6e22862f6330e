"""Every format that leaves the house: other programs read the same joints, and what comes back is what went out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bvhio
import numpy as np
import pytest

from core.body.ik import pose_from_features
from core.body.skeleton24 import BODY_JOINT_NAMES, N_BODY_JOINTS
from core.body.skinning import forward_joints
from core.body.smpl_files import DEFAULT_BODY, Body, load_body, read_smpl_arrays
from core.formats import FORMATS, read_motion, write_motion
from core.motion.bvh import write_bvh
from core.motion.features import canonicalize, extract_features, recover_joints
from core.motion.rotations import rotvec_to_matrix, yaw_matrix
from core.motion.skeleton import JOINT_NAMES, N_JOINTS, PARENTS

FRAMES = 60
READABLE = [kind for kind, format in FORMATS.items() if format.read]


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body(DEFAULT_BODY)


@pytest.fixture(scope="module")
def features(body: Body) -> np.ndarray:
    """A clip (F, 263) acted by the default body: it walks a curve, turns past half a circle, moves every limb."""
    t = np.linspace(0.0, 1.0, FRAMES + 1)[:, None, None]
    angles = np.random.default_rng(4).normal(0.0, 0.35, (1, N_BODY_JOINTS, 3)) * np.sin(6.0 * t)
    angles[:, 0] = [0.0, 4.5, 0.0] * t[:, 0] + 0.2 * np.sin(9.0 * t[:, 0])
    pose = rotvec_to_matrix(angles)
    trans = np.concatenate([np.sin(3 * t[:, 0]), 0.05 * np.sin(8 * t[:, 0]), 2 * t[:, 0]], 1)
    joints = canonicalize(forward_joints(body, pose, trans)[:, :N_JOINTS])
    return extract_features(joints, pose[:, :N_JOINTS])


@pytest.mark.parametrize("heading", range(8))
def test_bvh_means_the_same_to_bvhio_at_every_heading(tmp_path: Path, body: Body, features, heading: int) -> None:
    """Prevents Euler angles that only hold while the body faces the camera."""
    pose, trans = pose_from_features(features, body)
    turn = yaw_matrix(np.array(heading * np.pi / 4))
    pose[:, 0] = turn @ pose[:, 0]
    pelvis = (body.joints[0] + trans) @ turn.T
    joints = forward_joints(body, pose, pelvis - body.joints[0])
    offsets = body.joints - body.joints[np.maximum(body.parents, 0)]
    write_bvh(tmp_path / "clip.bvh", BODY_JOINT_NAMES, body.parents, offsets, pelvis, pose)
    hierarchy = bvhio.readAsHierarchy(str(tmp_path / "clip.bvh"))
    for frame in (0, 31, FRAMES - 1):
        read = {joint.Name: np.array(joint.PositionWorld) / 100 for joint, _, _ in hierarchy.loadPose(frame).layout()}
        np.testing.assert_allclose([read[name] for name in BODY_JOINT_NAMES], joints[frame], atol=1e-4)


def test_bvh_file_of_features_is_smpls_skeleton(tmp_path: Path, body: Body, features) -> None:
    """Prevents a file that names other joints, or the joints of another moment."""
    write_motion(tmp_path / "clip.bvh", features, body, "bvh")
    hierarchy = bvhio.readAsHierarchy(str(tmp_path / "clip.bvh")).loadPose(40)
    read = {joint.Name: np.array(joint.PositionWorld) / 100 for joint, _, _ in hierarchy.layout()}
    expected = forward_joints(body, *pose_from_features(features, body))[40]
    np.testing.assert_allclose([read[name] for name in BODY_JOINT_NAMES], expected, atol=1e-4)


def test_amass_file_read_by_smplx_gives_the_same_joints(tmp_path: Path, body: Body, features) -> None:
    """Prevents axes, a root or an order of joints that AMASS' own body model understands otherwise."""
    import smplx
    import torch

    write_motion(tmp_path / "clip.npz", features, body, "npz")
    with np.load(tmp_path / "clip.npz", allow_pickle=False) as file:
        poses, trans = (torch.tensor(file[key], dtype=torch.float64) for key in ("poses", "trans"))
    arrays = read_smpl_arrays(DEFAULT_BODY)
    struct: Any = SimpleNamespace(**arrays, posedirs=np.zeros((len(arrays["v_template"]), 3, 207)))
    model = smplx.SMPL("", data_struct=struct, num_betas=10, batch_size=FRAMES, dtype=torch.float64)
    hands = torch.zeros(FRAMES, 6, dtype=torch.float64)
    posed = model(global_orient=poses[:, :3], body_pose=torch.cat([poses[:, 3:66], hands], 1), transl=trans)
    theirs = posed.joints[:, :N_JOINTS].detach().numpy()
    ours = forward_joints(body, *pose_from_features(features, body))[:, :N_JOINTS]
    np.testing.assert_allclose(theirs, np.stack([ours[..., 0], -ours[..., 2], ours[..., 1]], -1), atol=1e-4)


@pytest.mark.parametrize("kind", READABLE)
def test_round_trip_stays_within_a_millimetre(tmp_path: Path, body: Body, features, kind: str) -> None:
    """Prevents a motion that drifts each time it leaves and comes home."""
    path = tmp_path / f"clip{FORMATS[kind].ending}"
    write_motion(path, features, body, kind)
    back = read_motion(path, body, kind)
    assert back.shape == features.shape and back.dtype == np.float32
    np.testing.assert_allclose(recover_joints(back), recover_joints(features), atol=1e-3)
    if kind != "joints":  # which carry no twist
        np.testing.assert_allclose(back[:-1], features[:-1], atol=0.05)  # chest and twist pass through our IK


def test_what_cannot_be_read_is_named(tmp_path: Path, body: Body, features) -> None:
    """Prevents a foreign skeleton or rate from passing for ours."""
    with pytest.raises(ValueError, match="glb files are written only. Formats that can be read: bvh, npz, npy, joints"):
        read_motion(tmp_path / "clip.glb", body, "glb")
    with pytest.raises(ValueError, match="kind='fbx' is unknown. Choose one of glb, bvh"):
        write_motion(tmp_path / "clip.fbx", features, body, "fbx")
    names = [f"bone{i}" for i in range(N_JOINTS)]
    still = np.tile(np.eye(3), (2, N_JOINTS, 1, 1))
    write_bvh(tmp_path / "a.bvh", names, PARENTS, np.ones((N_JOINTS, 3)), np.zeros((2, 3)), still)
    with pytest.raises(ValueError, match="has no joint 'head'. Choose a BVH with SMPL's joint names"):
        read_motion(tmp_path / "a.bvh", body, "bvh")
    write_bvh(tmp_path / "b.bvh", JOINT_NAMES, PARENTS, np.ones((N_JOINTS, 3)), np.zeros((2, 3)), still, fps=30)
    with pytest.raises(ValueError, match="runs at 30 frames per second, 20 is needed"):
        read_motion(tmp_path / "b.bvh", body, "bvh")
