"""The default body and its skinning: rest, symmetry, agreement with smplx."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from core.body.skeleton24 import BODY_JOINT_NAMES, BODY_MIRROR
from core.body.skinning import forward_joints, ground_offset, skin
from core.body.smpl_files import DEFAULT_BODY, load_body, read_smpl_arrays
from core.motion.rotations import matrix_to_rotvec, rotvec_to_matrix

INDEX = {name: i for i, name in enumerate(BODY_JOINT_NAMES)}


@pytest.fixture(scope="module")
def body():
    return load_body(DEFAULT_BODY)


def _random_pose(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rotvec_to_matrix(rng.normal(0, 0.4, (frames, 24, 3))), rng.normal(0, 1, (frames, 3))


def test_identity_pose_is_the_rest_body(body):
    identity, zero = np.tile(np.eye(3), (2, 24, 1, 1)), np.zeros((2, 3))
    np.testing.assert_allclose(skin(body, identity, zero)[1], body.vertices, atol=1e-6)
    np.testing.assert_allclose(forward_joints(body, identity, zero)[0], body.joints, atol=1e-6)


def test_default_body_stands_in_smpls_t_pose(body):
    """Failure prevented: an A-pose asset, with which every SMPL rotation would be off by the arm angle."""
    j = body.joints
    for side, sign in (("left", 1.0), ("right", -1.0)):
        arm = [j[INDEX[f"{side}_{part}"]] for part in ("shoulder", "elbow", "wrist")]
        for near, far in zip(arm, arm[1:], strict=False):
            direction = (far - near) / np.linalg.norm(far - near)
            assert direction[0] * sign > np.cos(np.deg2rad(1.0))
        leg = j[INDEX[f"{side}_ankle"]] - j[INDEX[f"{side}_hip"]]
        assert -leg[1] / np.linalg.norm(leg) > np.cos(np.deg2rad(4.0))
        foot = j[INDEX[f"{side}_foot"]] - j[INDEX[f"{side}_ankle"]]
        assert abs(np.degrees(np.arctan2(foot[0], foot[2]))) < 3.0
    assert 1.6 < np.ptp(body.vertices[:, 1]) < 1.8
    assert body.vertices[body.vertices[:, 1].argmax(), 1] > j[INDEX["head"], 1]
    np.testing.assert_allclose(j, j[BODY_MIRROR] * [-1, 1, 1], atol=1e-6)


def test_faces_look_outward(body):
    """Failure prevented: an inside-out mesh, black or invisible under back-face culling (signed volume > 0)."""
    a, b, c = (body.vertices[body.faces[:, k]].astype(np.float64) for k in range(3))
    litres = 1000 * np.einsum("ij,ij->", a, np.cross(b, c)) / 6
    assert 40 < litres < 100


def test_weights_are_at_most_four_and_sum_to_one(body):
    """Failure prevented: a body that the player's four-weight GPU skinning would draw differently."""
    assert (body.weights > 0).sum(1).max() <= 4
    np.testing.assert_allclose(body.weights.sum(1), 1.0, atol=1e-6)


def test_mirrored_pose_gives_the_mirrored_body(body):
    """Failure prevented: left and right weights or joints that differ."""
    pose, trans = _random_pose(3)
    flip = np.diag([-1.0, 1.0, 1.0])
    mirrored = flip @ pose[:, BODY_MIRROR] @ flip
    a = forward_joints(body, pose, trans)
    b = forward_joints(body, mirrored, trans * [-1, 1, 1])
    np.testing.assert_allclose(a, b[:, BODY_MIRROR] * [-1, 1, 1], atol=1e-5)
    va, vb = skin(body, pose, trans), skin(body, mirrored, trans * [-1, 1, 1]) * [-1, 1, 1]
    for k in range(3):  # the same set of points, whatever their order
        np.testing.assert_allclose(va[k].mean(0), vb[k].mean(0), atol=1e-4)
        np.testing.assert_allclose(va[k].max(0), vb[k].max(0), atol=1e-4)


def test_agrees_with_smplx(body):
    """Failure prevented: a file or a skinning that is SMPL's only in name; random poses and betas, 1e-4 m."""
    smplx, torch = pytest.importorskip("smplx"), pytest.importorskip("torch")
    pose, trans = _random_pose(4, seed=1)
    betas = np.random.default_rng(2).normal(0, 1, 10)
    arrays = read_smpl_arrays(DEFAULT_BODY)
    arrays["posedirs"] = np.zeros((len(arrays["v_template"]), 3, 207))
    model = smplx.SMPL(model_path="", data_struct=SimpleNamespace(**arrays), num_betas=10, batch_size=4)
    rotvec = torch.tensor(matrix_to_rotvec(pose), dtype=torch.float32)
    with torch.no_grad():
        out = model(
            betas=torch.tensor(betas, dtype=torch.float32).expand(4, 10),
            global_orient=rotvec[:, 0],
            body_pose=rotvec[:, 1:].reshape(4, -1),
            transl=torch.tensor(trans, dtype=torch.float32),
        )
    shaped = load_body(DEFAULT_BODY, betas)
    np.testing.assert_allclose(forward_joints(shaped, pose, trans), out.joints[:, :24].numpy(), atol=1e-4)
    np.testing.assert_allclose(skin(shaped, pose, trans), out.vertices.numpy(), atol=1e-4)


def test_first_beta_makes_the_body_taller(body):
    """Failure prevented: shape directions that do nothing, or tear the T-pose apart."""
    tall = load_body(DEFAULT_BODY, [2.0])
    assert 0.05 < np.ptp(tall.vertices[:, 1]) - np.ptp(body.vertices[:, 1]) < 0.4
    arm = tall.joints[INDEX["left_wrist"]] - tall.joints[INDEX["left_shoulder"]]
    assert arm[0] / np.linalg.norm(arm) > np.cos(np.deg2rad(2.0))


def test_lifted_body_touches_the_floor(body):
    """Failure prevented: soles below or above y = 0 when the lowest joint of the motion is at 0."""
    lift = ground_offset(body)
    assert 0.01 < lift < 0.05
    stand = np.array([[0.0, lift - body.joints[[10, 11], 1].min(), 0.0]])
    vertices = skin(body, np.tile(np.eye(3), (1, 24, 1, 1)), stand)
    assert abs(vertices[..., 1].min()) < 1e-5


def test_wrong_shapes_are_named(body):
    with pytest.raises(ValueError, match="24, 3, 3"):
        skin(body, np.zeros((2, 22, 3, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="trans"):
        forward_joints(body, np.zeros((2, 24, 3, 3)), np.zeros((3, 3)))
