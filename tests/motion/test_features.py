"""The feature vector: parity with the published extraction, exact round trips, mirror laws, public errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.motion.features import (
    canonical_transform,
    canonicalize,
    extract_features,
    mirror_features,
    mirror_joints,
    mirror_rotations,
    recover_joints,
    recover_joints_from_rotations,
    recover_joints_torch,
    recover_root,
)
from core.motion.kinematics import forward_kinematics, swing_rotations
from core.motion.layout import CONTACTS, POSITIONS, ROTATIONS, VELOCITIES
from core.motion.root_frame import heading, smooth_heading
from core.motion.rotations import rotvec_to_matrix, sixd_to_matrix, yaw_matrix
from core.motion.skeleton import JOINT, PARENTS

FIXTURE = Path(__file__).parents[1] / "fixtures" / "humanml3d_synthetic.npz"
CLIPS = ("synthetic0", "synthetic1", "synthetic2")


@pytest.fixture(scope="module")
def published():
    with np.load(FIXTURE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def rest(published):
    """T-pose-like rest offsets with no two bones of a joint parallel."""
    return published["tgt_offsets"].astype(float) + np.random.default_rng(1).normal(0, 0.02, (22, 3))


@pytest.fixture(scope="module")
def walk(rest):
    """A clip that turns once and a half around while it walks: joints (80, 22, 3), local rotations (80, 22, 3, 3)."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 80)[:, None, None]
    rotvecs = 0.4 * np.sin(2 * np.pi * (3 * t + rng.random((1, 22, 3)))) * rng.normal(size=(1, 22, 3))
    rotations = rotvec_to_matrix(rotvecs)
    rotations[:, 0] = yaw_matrix(1.0 + 3 * np.pi * t[:, 0, 0]) @ rotations[:, 0]
    positions = np.repeat(rest[None], 80, 0)
    positions[:, 0] = np.concatenate([3 * t[:, 0], 1 + 0.05 * np.sin(20 * t[:, 0]), np.cos(3 * t[:, 0])], 1)
    return forward_kinematics(rotations, positions, PARENTS)[0], rotations


@pytest.mark.parametrize("clip", CLIPS)
def test_humanml3d_extraction_matches_the_published_one(published, clip):
    """Prevents: features that published models misread. synthetic1 passes 180 degrees (the sign flip)."""
    ours = extract_features(
        published[f"{clip}/joints_in"], convention="humanml3d", tgt_offsets=published["tgt_offsets"]
    )
    theirs = published[f"{clip}/features"]
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(ours[:, CONTACTS], theirs[:, CONTACTS])


@pytest.mark.parametrize("clip", CLIPS)
def test_recovery_matches_the_published_one(published, clip):
    features = published[f"{clip}/features"]
    np.testing.assert_allclose(recover_joints(features), published[f"{clip}/recovered"], rtol=0, atol=2e-5)
    by_rotations = recover_joints_from_rotations(features, published["tgt_offsets"])
    np.testing.assert_allclose(by_rotations, published[f"{clip}/recovered_from_rot"], rtol=0, atol=2e-5)


def test_humanml3d_without_target_skeleton_keeps_bone_lengths(published):
    joints = published["synthetic0/joints_in"].astype(float)
    recovered = recover_joints(extract_features(joints, convention="humanml3d"))
    np.testing.assert_allclose(_bone_lengths(recovered), _bone_lengths(joints[:-1]), atol=1e-5)


def test_smpl_round_trip_is_exact_through_full_turns(walk):
    """Prevents: the sign flip at 180 degrees, or a root frame that does not start at the first frame's heading."""
    joints = canonicalize(walk[0])
    np.testing.assert_allclose(recover_joints(extract_features(joints, walk[1])), joints[:-1], rtol=0, atol=1e-5)


def test_smpl_block_holds_the_given_rotations(walk):
    features = extract_features(*walk)
    rotations = sixd_to_matrix(features[:, ROTATIONS].reshape(-1, 21, 6))
    np.testing.assert_allclose(rotations, walk[1][:-1, 1:], atol=1e-6)


def test_smpl_features_ignore_where_the_clip_stands(walk):
    joints, rotations = walk
    moved = joints @ yaw_matrix(2.0).T + [3.0, 0.0, -5.0]
    np.testing.assert_allclose(extract_features(moved, rotations), extract_features(joints, rotations), atol=1e-6)


def test_first_row_has_no_spike(walk):
    """Prevents: the published jump of the smoothed heading in the first row."""
    yaw_velocity = extract_features(*walk)[:, 0]
    assert abs(yaw_velocity[0] - yaw_velocity[1]) < 0.1 * abs(yaw_velocity[1])


def test_yaw_sign_and_unit():
    """Prevents: a mirrored or doubled turn. To the left (+Z to +X) is positive yaw; stored is half of it, negated."""
    pose = np.random.default_rng(0).normal(size=(22, 3))
    pose[[JOINT["left_hip"], JOINT["left_shoulder"]], 0] += 5
    joints = np.einsum("fab,jb->fja", yaw_matrix(np.linspace(0, 1.0, 41)), pose)
    features = extract_features(joints, np.tile(np.eye(3), (41, 22, 1, 1)))
    np.testing.assert_allclose(features[:, 0], -0.0125, atol=1e-6)
    np.testing.assert_allclose(recover_root(features)[0], np.linspace(0, 1.0, 41)[:-1], atol=1e-5)


def test_smoothing_keeps_both_ends_and_straight_turns():
    ramp = np.linspace(0.3, 7.0, 60)
    noisy = ramp + np.random.default_rng(0).normal(0, 0.2, 60)
    np.testing.assert_allclose(smooth_heading(ramp), ramp, atol=1e-9)
    np.testing.assert_allclose(smooth_heading(noisy)[[0, -1]], noisy[[0, -1]], atol=1e-9)
    assert np.abs(np.diff(smooth_heading(noisy), 2)).max() < 0.02


def test_swing_rotations_bring_every_bone_into_its_direction(published, rest):
    """Prevents: a rotation on the wrong joint. Chest and pelvis are rigid here, so Procrustes must be exact."""
    rng = np.random.default_rng(2)
    rotations = rotvec_to_matrix(rng.normal(0, 0.6, (30, 22, 3)))
    rotations[:, [1, 2, 3, 12, 13, 14]] = np.eye(3)
    offsets = np.repeat(rest[None], 30, 0)
    joints = forward_kinematics(rotations, offsets, PARENTS)[0]
    posed = forward_kinematics(swing_rotations(joints, rest), offsets, PARENTS)[0]
    np.testing.assert_allclose(posed, joints, atol=1e-6)


def test_canonical_clip_stands_at_the_origin_and_faces_z(walk):
    joints = canonicalize(walk[0])
    np.testing.assert_allclose(
        [joints[0, 0, 0], joints[0, 0, 2], joints[..., 1].min(), heading(joints)[0]], 0, atol=1e-9
    )
    rotation, translation = canonical_transform(walk[0])
    np.testing.assert_allclose(walk[0] @ rotation.T + translation, joints, atol=1e-9)
    assert joints[0, JOINT["left_hip"], 0] > joints[0, JOINT["right_hip"], 0]


def test_mirror_twice_is_identity(walk):
    joints, rotations = walk
    features = extract_features(joints, rotations)
    np.testing.assert_array_equal(mirror_joints(mirror_joints(joints)), joints)
    np.testing.assert_array_equal(mirror_rotations(mirror_rotations(rotations)), rotations)
    np.testing.assert_array_equal(mirror_features(mirror_features(features)), features)


def test_mirror_of_features_is_features_of_mirror(walk):
    """Prevents: left and right swapped in one block only."""
    joints, rotations = walk
    mirrored = extract_features(mirror_joints(joints), mirror_rotations(rotations))
    np.testing.assert_allclose(mirror_features(extract_features(joints, rotations)), mirrored, atol=1e-6)
    assert mirrored.dtype == np.float32


def test_mirror_of_features_is_features_of_mirror_as_published(published):
    joints = published["synthetic0/joints_in"]
    mirrored = extract_features(mirror_joints(joints), convention="humanml3d")
    np.testing.assert_allclose(mirror_features(extract_features(joints, convention="humanml3d")), mirrored, atol=1e-5)


def test_mirrored_rotations_pose_the_mirrored_body(walk, rest):
    """Prevents: mirror_rotations and mirror_joints drifting apart."""
    mirrored_rest = mirror_joints(rest)
    positions = np.repeat(mirrored_rest[None], 80, 0)
    positions[:, 0] = walk[0][:, 0] * [-1, 1, 1]
    posed = forward_kinematics(mirror_rotations(walk[1]), positions, PARENTS)[0]
    np.testing.assert_allclose(posed, mirror_joints(walk[0]), atol=1e-9)


def test_torch_recovery_is_the_same_and_differentiable(walk):
    features = extract_features(*walk)
    batch = torch.tensor(np.stack([features, mirror_features(features)]), dtype=torch.float64, requires_grad=True)
    joints = recover_joints_torch(batch)
    np.testing.assert_allclose(joints.detach().numpy(), recover_joints(batch.detach().numpy()), atol=1e-5)
    joints[0, -1, JOINT["head"], 0].backward()
    assert batch.grad[0, :-1, :3].abs().min() > 0 and batch.grad[0, -1, POSITIONS].abs().max() > 0
    assert batch.grad[1].abs().max() == 0 and batch.grad[..., VELOCITIES].abs().max() == 0


def test_padding_does_not_reach_back(walk):
    """Prevents: padded frames changing a clip's joints in a batch."""
    features = torch.tensor(extract_features(*walk))
    padded = torch.cat([features[:50], torch.full((29, 263), 9.0)])
    torch.testing.assert_close(recover_joints_torch(padded)[:50], recover_joints_torch(features)[:50])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda j, r: extract_features(j[:, :21], r), r"\(80, 21, 3\), needed is \(F, 22, 3\) with F >= 2"),
        (lambda j, r: extract_features(j[:1], r[:1]), "F >= 2"),
        (lambda j, r: extract_features(j, r[:-1]), "rotations have shape"),
        (lambda j, r: extract_features(j), "neither rotations nor tgt_offsets"),
        (lambda j, r: extract_features(j, r, convention="kit"), "'kit' is unknown, allowed are smpl, humanml3d"),
        (lambda j, r: extract_features(np.where(j == j[7, 3, 1], np.nan, j), r), "not finite in frame 7"),
        (lambda j, r: extract_features(j, convention="humanml3d", tgt_offsets=j[0, :5]), "tgt_offsets have shape"),
        (lambda j, r: recover_joints(np.zeros((5, 251))), r"\(5, 251\), needed is \(F, 263\)"),
    ],
)
def test_bad_input_is_named(walk, call, message):
    with pytest.raises(ValueError, match=message):
        call(*walk)


def _bone_lengths(joints):
    return np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)
