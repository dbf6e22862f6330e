"""Inverse kinematics must put the joints where the motion has them, keep the prior's twist and never spin a limb."""

from __future__ import annotations

import time

import numpy as np
import pytest

from core.body.ik import pose_from_features, pose_from_joints
from core.body.skinning import forward_joints, forward_transforms
from core.body.smpl_files import DEFAULT_BODY, load_body
from core.motion.features import extract_features, recover_joints
from core.motion.rotations import matrix_to_rotvec, rotation_between, rotvec_to_matrix
from core.motion.skeleton import JOINT, PARENTS

N_FRAMES = 196


def _angle_deg(R: np.ndarray) -> np.ndarray:
    return np.degrees(np.linalg.norm(matrix_to_rotvec(R), axis=-1))


def _direction_error_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    u, v = (j[:, 1:22] - j[:, PARENTS[1:]] for j in (a, b))
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1)))


@pytest.fixture(scope="module")
def body():
    return load_body(DEFAULT_BODY)


@pytest.fixture(scope="module")
def motion(body):
    """A smooth plausible dance: arms lowered and bent, knees bent, pelvis turning a full circle, root walking."""
    t = np.arange(N_FRAMES) / 20.0
    rng = np.random.default_rng(3)
    phase, speed = rng.uniform(0, 6.28, (24, 3)), rng.uniform(1.0, 3.0, (24, 3))
    rotvec = 0.25 * np.sin(speed * t[:, None, None] + phase)
    rotvec[:, 22:] = 0.0
    rotvec[:, JOINT["left_shoulder"], 2] -= 0.8
    rotvec[:, JOINT["right_shoulder"], 2] += 0.8
    rotvec[:, JOINT["left_elbow"]] = np.outer(0.8 + 0.7 * np.sin(2 * t), [0, -1, 0])
    rotvec[:, JOINT["right_elbow"]] = np.outer(0.8 + 0.7 * np.cos(2 * t), [0, 1, 0])
    for knee in ("left_knee", "right_knee"):
        rotvec[:, JOINT[knee]] = np.outer(0.6 + 0.5 * np.sin(3 * t), [1, 0, 0])
    rotvec[:, 0] = np.outer(2 * np.pi * t / t[-1], [0, 1, 0]) + 0.1 * np.sin(t)[:, None] * [1, 0, 0]
    pose = rotvec_to_matrix(rotvec)
    trans = np.stack([0.3 * t, 0.95 + 0.02 * np.sin(4 * t), 0.2 * t], -1)
    return pose, trans, forward_joints(body, pose, trans)[:, :22].astype(np.float64)


@pytest.mark.parametrize("with_prior", [True, False])
def test_joints_come_back(body, motion, with_prior):
    """Failure prevented: a limb off its place, with or without known twist (15 mm and 3 degrees are allowed)."""
    pose, _, joints = motion
    found, trans = pose_from_joints(joints, body, pose[:, :22] if with_prior else None)
    again = forward_joints(body, found, trans)[:, :22]
    assert np.linalg.norm(again - joints, axis=-1).mean() < 0.001
    assert _direction_error_deg(again, joints).max() < 0.5
    np.testing.assert_allclose(found @ np.swapaxes(found, -1, -2), np.broadcast_to(np.eye(3), found.shape), atol=1e-9)
    assert np.linalg.det(found).min() > 0.99


def test_the_true_twist_is_kept(body, motion):
    """Failure prevented: forearms and head lose their turn although the features carry it."""
    pose, _, joints = motion
    found, _ = pose_from_joints(joints, body, pose[:, :22])
    assert _angle_deg(np.swapaxes(found, -1, -2) @ pose).max() < 0.5


def test_twist_follows_the_prior_where_positions_do_not_see_it(body, motion):
    """Failure prevented: IK that ignores the prior; a forearm turned by 40 degrees about itself must stay so."""
    pose, _, joints = motion
    twisted = pose[:, :22].copy()
    elbow = JOINT["left_elbow"]
    twisted[:, elbow] = twisted[:, elbow] @ rotvec_to_matrix(np.array([np.deg2rad(40.0), 0, 0]))
    found, trans = pose_from_joints(joints, body, twisted)
    assert np.linalg.norm(forward_joints(body, found, trans)[:, :22] - joints, axis=-1).max() < 0.001
    change = _angle_deg(np.swapaxes(pose[:, elbow], -1, -2) @ found[:, elbow])
    np.testing.assert_allclose(change, 40.0, atol=0.5)


def _twist_steps_deg(body, pose, trans) -> np.ndarray:
    """(F-1, joints with one child) turn of each bone about itself from frame to frame."""
    R, _ = forward_transforms(body, pose, trans)
    steps = []
    for joint in range(1, 22):
        children = np.flatnonzero(body.parents == joint)
        if len(children) != 1:
            continue
        bone = R[:, joint] @ (body.joints[children[0]] - body.joints[joint]).astype(np.float64)
        swung = rotation_between(bone[:-1], bone[1:]) @ R[:-1, joint]
        steps.append(_angle_deg(np.swapaxes(swung, -1, -2) @ R[1:, joint]))
    return np.stack(steps, -1)


@pytest.mark.parametrize("with_prior", [True, False])
def test_no_limb_spins_between_frames(body, motion, with_prior):
    """Failure prevented: twist that jumps more than 40 degrees from one frame to the next, also on noisy joints."""
    pose, _, joints = motion
    noisy = joints + np.random.default_rng(0).normal(0, 0.003, joints.shape)
    found, trans = pose_from_joints(noisy, body, pose[:, :22] if with_prior else None)
    assert _twist_steps_deg(body, found, trans).max() < 40.0


def test_elbows_and_knees_bend_the_anatomical_way_without_prior(body, motion):
    """Failure prevented: kneecaps and elbows that point sideways when a motion has positions only."""
    pose, trans, joints = motion
    found, _ = pose_from_joints(joints, body, None)
    R_found, R_true = forward_transforms(body, found, trans)[0], forward_transforms(body, pose, trans)[0]
    upper = [JOINT[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
    error = _angle_deg(np.swapaxes(R_found[:, upper], -1, -2) @ R_true[:, upper])
    assert error.mean() < 15.0, error.mean(0)


def test_features_become_a_pose_that_follows_them(body, motion):
    """Failure prevented: features and IK disagree about root, heading or the 6D block."""
    pose, _, joints = motion
    features = extract_features(joints, pose[:, :22])
    found, trans = pose_from_features(features, body)
    again = forward_joints(body, found, trans)[:, :22]
    assert found.shape == (N_FRAMES - 1, 24, 3, 3) and trans.shape == (N_FRAMES - 1, 3)
    distances = [np.linalg.norm(j[:, 15] - j[:, 10], axis=-1) for j in (again, joints[:-1])]
    np.testing.assert_allclose(*distances, atol=0.002)
    assert _angle_deg(np.swapaxes(found[:, 1:22], -1, -2) @ pose[:-1, 1:22]).max() < 1.0


def test_humanml3d_convention_does_not_wring_a_turned_body(body, motion):
    """Failure prevented: the published 6D block, swings in the world's frame, taken for SMPL twist."""
    _, _, joints = motion
    features = extract_features(joints, convention="humanml3d")
    found, trans = pose_from_features(features, body, convention="humanml3d")
    assert _direction_error_deg(forward_joints(body, found, trans), recover_joints(features)).mean() < 1.0
    spine = [JOINT["spine1"], JOINT["spine2"], JOINT["neck"]]
    assert _angle_deg(found[:, spine]).max() < 60.0
    assert _twist_steps_deg(body, found, trans).max() < 40.0


def test_196_frames_take_less_than_50_ms(body, motion):
    """Failure prevented: IK slower than the page can bear (best of five, one core)."""
    pose, _, joints = motion
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        pose_from_joints(joints, body, pose[:, :22])
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.050


def test_errors_name_what_is_wrong(body, motion):
    _, _, joints = motion
    with pytest.raises(ValueError, match=r"\(F, 22, 3\)"):
        pose_from_joints(joints[:, :21], body)
    broken = joints.copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match="frame 7"):
        pose_from_joints(broken, body)
    with pytest.raises(ValueError, match="rotation_prior"):
        pose_from_joints(joints, body, np.zeros((3, 22, 3, 3)))
    with pytest.raises(ValueError, match="263"):
        pose_from_features(np.zeros((40, 251), np.float32), body)
    with pytest.raises(ValueError, match="'kit' is not one of smpl, humanml3d"):
        pose_from_features(np.zeros((40, 263), np.float32), body, convention="kit")
