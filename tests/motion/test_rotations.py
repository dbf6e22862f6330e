"""Laws of the rotation functions and of the skeleton's tables."""

from __future__ import annotations

import numpy as np
import pytest

from core.motion.kinematics import forward_kinematics
from core.motion.rotations import (
    matrix_to_quaternion,
    matrix_to_rotvec,
    matrix_to_sixd,
    rotation_between,
    rotvec_to_matrix,
    sixd_to_matrix,
    yaw_matrix,
)
from core.motion.skeleton import JOINT_NAMES, KINEMATIC_CHAINS, MIRROR, PARENTS


@pytest.fixture(scope="module")
def rotvecs():
    """Angles from 0 over 1e-9 to almost pi."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(200, 3))
    angles = np.concatenate([[0, 1e-9, 1e-5, np.pi - 1e-6], rng.uniform(0, np.pi - 1e-3, 196)])
    return axes / np.linalg.norm(axes, axis=-1, keepdims=True) * angles[:, None]


def test_closure_and_inverse(rotvecs):
    R = rotvec_to_matrix(rotvecs)
    np.testing.assert_allclose(R @ np.swapaxes(R, -1, -2), np.tile(np.eye(3), (200, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-12)
    np.testing.assert_allclose(rotvec_to_matrix(-rotvecs) @ R, np.tile(np.eye(3), (200, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(matrix_to_rotvec(R), rotvecs, atol=1e-7)
    np.testing.assert_allclose(sixd_to_matrix(matrix_to_sixd(R)), R, atol=1e-9)


def test_quaternion_of_a_known_turn():
    np.testing.assert_allclose(
        matrix_to_quaternion(yaw_matrix(np.array(1.0))), [np.cos(0.5), 0, np.sin(0.5), 0], atol=1e-9
    )


def test_yaw_turns_forward_to_the_left():
    np.testing.assert_allclose(yaw_matrix(np.array(np.pi / 2)) @ [0, 0, 1], [1, 0, 0], atol=1e-12)


def test_sixd_is_columns():
    """Prevents: rows in place of columns, which published data would not forgive."""
    R = yaw_matrix(np.array(0.3))
    np.testing.assert_array_equal(matrix_to_sixd(R), [*R[:, 0], *R[:, 1]])


def test_rotation_between_directions_even_opposite_ones():
    a = np.array([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0], [1.0, 0, 0]])
    b = np.array([[0, 3.0, 0], [0, -1.0, 0], [0, 0, 5.0], [-1.0, 0, 0]])
    turned = np.einsum("nab,nb->na", rotation_between(a, b), a / np.linalg.norm(a, axis=-1, keepdims=True))
    np.testing.assert_allclose(turned, b / np.linalg.norm(b, axis=-1, keepdims=True), atol=1e-9)


def test_skeleton_tables_agree():
    """Prevents: a joint that has another parent in one table than in the other."""
    for chain in KINEMATIC_CHAINS:
        assert [PARENTS[joint] for joint in chain[1:]] == list(chain[:-1])
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(22))
    assert all(PARENTS[MIRROR[j]] == MIRROR[PARENTS[j]] for j in range(1, 22)) and len(JOINT_NAMES) == 22


def test_parents_come_first():
    with pytest.raises(ValueError, match="joint 0 has parent 1"):
        forward_kinematics(np.tile(np.eye(3), (1, 2, 1, 1)), np.zeros((2, 3)), [1, -1])
