"""Poses of real clips: where the joints are, which way the bones point, and no limb that spins about itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.body.ik import pose_from_features
from core.body.skeleton24 import N_BODY_JOINTS
from core.body.skinning import forward_joints, forward_transforms
from core.body.smpl_files import DEFAULT_BODY, Body, load_body
from core.data.clips import load_archive, pose_joints
from core.motion.features import extract_features, recover_joints
from core.motion.rotations import matrix_to_rotvec, rotation_between, rotvec_to_matrix
from core.motion.skeleton import N_JOINTS, PARENTS

pytestmark = pytest.mark.slow

CLIPS = 24  # spread over the test split
JOINT_MM, BONE_DEGREES, TWIST_DEGREES = 15.0, 3.0, 40.0


@pytest.fixture(scope="module")
def clips(archive: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features (F - 1, 263) of real clips on the default body, and the pose (F, 22, 3, 3) that they were made of."""
    loaded = load_archive(archive)
    test = loaded.of("test")
    made = []
    for i in np.linspace(0, len(test) - 1, CLIPS).astype(int):
        pose = rotvec_to_matrix(test[i].rotvecs[:197].astype(np.float64))
        made.append((extract_features(pose_joints(pose, test[i].trans[:197], loaded.rest), pose), pose))
    return made


def degrees(R: np.ndarray) -> np.ndarray:
    return np.degrees(np.linalg.norm(matrix_to_rotvec(R), axis=-1))


def test_joints_and_bones_are_where_the_features_put_them(clips: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Prevents hands and feet beside the place that the model gave them."""
    body = load_body(DEFAULT_BODY)
    for features, _ in clips:
        wanted = recover_joints(features)
        found = forward_joints(body, *pose_from_features(features, body))[:, :N_JOINTS]
        assert np.linalg.norm(found - wanted, axis=-1).mean() * 1000 < JOINT_MM
        u, v = (j[:, 1:] - j[:, PARENTS[1:]] for j in (found, wanted))
        angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1)))
        assert angles.mean() < BONE_DEGREES


def test_no_limb_spins_between_frames(clips: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Prevents forearms and thighs that flip about their own axis from one frame to the next.

    A few real forearms do turn by up to 42 degrees in a frame, so a larger turn is a fault where the clip has none.
    """
    body = load_body(DEFAULT_BODY)
    for features, pose in clips:
        real = np.tile(np.eye(3), (len(features), N_BODY_JOINTS, 1, 1))
        real[:, :N_JOINTS] = pose[:-1]
        turns = twist_steps(body, pose_from_features(features, body)[0])
        assert turns[twist_steps(body, real) < TWIST_DEGREES - 1.0].max() < TWIST_DEGREES


def twist_steps(body: Body, pose: np.ndarray) -> np.ndarray:
    """(F - 1, joints with one child) turn of each bone about itself from frame to frame, degrees."""
    R_world, _ = forward_transforms(body, pose, np.zeros((len(pose), 3)))
    steps = []
    for joint in range(1, N_JOINTS):
        children = np.flatnonzero(body.parents == joint)
        if len(children) == 1:
            R = R_world[:, joint]
            bone = R @ (body.joints[children[0]] - body.joints[joint]).astype(np.float64)
            swung = rotation_between(bone[:-1], bone[1:]) @ R[:-1]
            steps.append(degrees(np.swapaxes(swung, -1, -2) @ R[1:]))
    return np.stack(steps, -1)
