"""Forward kinematics of any skeleton, and swing-only rotations from joint positions; vectorised over frames.

`R_parent_joint` is local (maps joint coordinates to parent coordinates), `R_world_joint` global.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.motion.rotations import rotation_between
from core.motion.skeleton import N_JOINTS, PARENTS


def tree_levels(parents: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Joint indices by depth: level 0 holds the roots. Every parent must come before its children."""
    parents = np.asarray(parents)
    depth = np.zeros(len(parents), dtype=int)
    for joint, parent in enumerate(parents):
        if parent >= joint:
            raise ValueError(f"joint {joint} has parent {parent}. List every parent before its children.")
        depth[joint] = 0 if parent < 0 else depth[parent] + 1
    return [np.flatnonzero(depth == level) for level in range(depth.max() + 1)]


def forward_kinematics(
    R_parent_joint: np.ndarray, positions: np.ndarray, parents: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (F, J, 3, 3) and local positions (F, J, 3) -> global positions (F, J, 3), rotations (F, J, 3, 3).

    `positions` may also be (J, 3), the same in every frame. A root's position is its place in the world.
    Raises ValueError where a parent comes after its child.
    """
    parents = np.asarray(parents)
    R_world_joint = np.array(R_parent_joint, dtype=np.float64)
    p_world = np.array(np.broadcast_to(positions, R_world_joint.shape[:-1]), dtype=np.float64)
    for level in tree_levels(parents)[1:]:
        up = parents[level]
        R_up = R_world_joint[:, up]
        p_world[:, level] = p_world[:, up] + np.einsum("fjab,fjb->fja", R_up, p_world[:, level])
        R_world_joint[:, level] = R_up @ R_world_joint[:, level]
    return p_world, R_world_joint


def procrustes(rest: np.ndarray, posed: np.ndarray) -> np.ndarray:
    """Rotation (F, 3, 3) that best turns the vectors `rest` (K, 3) into `posed` (F, K, 3) (Kabsch 1976)."""
    U, _, Vt = np.linalg.svd(np.einsum("fka,kb->fab", posed, rest))
    U[..., 2] *= np.linalg.det(U @ Vt)[:, None]
    return U @ Vt


def swing_rotations(joints: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) and rest offsets (22, 3) -> local rotations (F, 22, 3, 3) without twist.

    Pelvis and spine3, which carry three bones, by Procrustes; a joint with one bone by the smallest rotation from its
    parent's frame; feet, head and wrists keep their parent's frame, as nothing is known about them.
    """
    bones = joints[:, 1:] - joints[:, PARENTS[1:]]  # (F, 21, 3), bone that arrives at joints 1..21
    R_world = np.empty((len(joints), N_JOINTS, 3, 3))
    R_local = np.empty_like(R_world)
    for joint in range(N_JOINTS):
        children = np.flatnonzero(joint == PARENTS)
        R_up = R_world[:, PARENTS[joint]] if joint else np.broadcast_to(np.eye(3), (len(joints), 3, 3))
        if len(children) > 1:
            R_local[:, joint] = np.swapaxes(R_up, 1, 2) @ procrustes(offsets[children], bones[:, children - 1])
        elif len(children) == 1:
            direction = np.einsum("fba,fb->fa", R_up, bones[:, children[0] - 1])  # in the parent's frame
            R_local[:, joint] = rotation_between(np.broadcast_to(offsets[children[0]], direction.shape), direction)
        else:
            R_local[:, joint] = np.eye(3)
        R_world[:, joint] = R_up @ R_local[:, joint]
    return R_local
