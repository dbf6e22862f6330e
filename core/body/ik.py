"""Closed-form inverse kinematics: 22 joint positions -> SMPL pose of a body, one pass down the tree, no iterations.

Positions fix where each bone points (the swing); the turn about the bone (the twist) comes from a rotation prior,
the 6D block of "smpl" features. Bone lengths of the motion may differ from the body's: directions are followed.

    pelvis            Procrustes (Kabsch 1976) of hips and spine1
    one child         G = S (G_parent R_prior), S the smallest rotation that lays the bone on the joints
    spine3            Procrustes of neck and collars, drawn a little towards the prior
    feet, head, hands G = G_parent R_prior

Without a prior the twist of upper arms and thighs lets elbows bend forward and knees backward, as far as they bend.

What it leaves out of SMPLify: no pose or shape priors, no contact, no interpenetration terms.
"""

from __future__ import annotations

import numpy as np

from core.body.skeleton24 import N_BODY_JOINTS
from core.body.smpl_files import Body
from core.motion.features import recover_joints
from core.motion.kinematics import procrustes
from core.motion.layout import ROTATIONS, check_features, check_joints
from core.motion.root_frame import gaussian_kernel
from core.motion.rotations import normalize, rotation_between, rotvec_to_matrix, sixd_to_matrix
from core.motion.skeleton import JOINT, N_JOINTS, PARENTS

CONVENTIONS = ("smpl", "humanml3d")
SPINE3_PRIOR_M = 0.06  # weight of the chest's prior, as the length of a bone along each axis of the prior's frame
# Without a prior an arm's twist is that of the smallest turn from this direction (left side), the middle of the
# shoulder's reach, so that the direction opposite to it, where the smallest turn is not unique, is out of reach.
ARM_CENTRE = (0.75, -0.2, 0.6)
# Joint -> direction, in the T-pose, into which the next joint bends: palms look down, so elbows bend forward.
_FLEXION = {
    **dict.fromkeys((JOINT["left_shoulder"], JOINT["right_shoulder"]), (0.0, 0.0, 1.0)),
    **dict.fromkeys((JOINT["left_hip"], JOINT["right_hip"]), (0.0, 0.0, -1.0)),
}
HINGE_BEND_RAD = (np.deg2rad(10.0), np.deg2rad(60.0))  # the bend decides the twist from not at all to fully
HINGE_TWIST_RAD = (np.deg2rad(100.0), np.deg2rad(180.0))  # twists this large are doubted, up to not at all believed
HINGE_SIGMA_FRAMES = 1.5  # the twist so found is smoothed over time: it moves no joint, so nothing else is blurred
_CHILDREN = [np.flatnonzero(j == PARENTS) for j in range(N_JOINTS)]


def pose_from_features(features: np.ndarray, body: Body, convention: str = "smpl") -> tuple[np.ndarray, np.ndarray]:
    """(F, 263) de-normalised features -> local rotations (F, 24, 3, 3) float64 and translation (F, 3), metres.

    "smpl": joints from the positions, twist from the 6D block. "humanml3d": joints only; its 6D block holds the
    smallest rotation from an arms-down skeleton to each bone *in the world's frame*, so it says nothing about twist
    beyond the positions and would wring the spine of a body that has turned round.
    `pelvis = body.joints[0] + trans` is the recovered pelvis; lift skinned bodies by skinning.ground_offset(body).
    Raises ValueError for a wrong shape or convention, or values that are not finite.
    """
    features = check_features(features)
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention!r} is not one of {', '.join(CONVENTIONS)}.")
    prior = None
    if convention == "smpl":
        prior = np.tile(np.eye(3), (len(features), N_JOINTS, 1, 1))
        prior[:, 1:] = sixd_to_matrix(features[:, ROTATIONS].reshape(len(features), N_JOINTS - 1, 6))
    return pose_from_joints(recover_joints(features), body, prior)


def pose_from_joints(
    joints: np.ndarray, body: Body, rotation_prior: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (F, 22, 3) -> local rotations (F, 24, 3, 3) float64 and translation (F, 3), metres.

    rotation_prior: (F, 22, 3, 3) local rotations whose twist is taken (the pelvis' entry is not used); None: as
    little twist as possible. Raises ValueError for wrong shapes or values that are not finite.
    """
    joints = check_joints(joints)
    n = len(joints)
    offsets = body.joints.astype(np.float64) - body.joints[np.maximum(body.parents, 0)]
    if rotation_prior is None:
        local_prior = np.tile(_swing_prior(offsets), (n, 1, 1, 1))
    else:
        local_prior = np.asarray(rotation_prior, dtype=np.float64)
        if local_prior.shape != (n, N_JOINTS, 3, 3):
            raise ValueError(f"rotation_prior has shape {local_prior.shape}, expected {(n, N_JOINTS, 3, 3)}.")
    bones = joints[:, 1:] - joints[:, PARENTS[1:]]  # (F, 21, 3), bone that arrives at joints 1..21
    R_world = np.empty((n, N_JOINTS, 3, 3))
    pose = np.tile(np.eye(3), (n, N_BODY_JOINTS, 1, 1))
    R_world[:, 0] = pose[:, 0] = procrustes(offsets[_CHILDREN[0]], bones[:, _CHILDREN[0] - 1])
    for j in range(1, N_JOINTS):
        R_parent = R_world[:, PARENTS[j]]
        G_prior = R_parent @ local_prior[:, j]
        children = _CHILDREN[j]
        if len(children) == 0:
            R_world[:, j] = G_prior
        elif len(children) == 1:
            child = children[0]
            R_world[:, j] = rotation_between(G_prior @ offsets[child], bones[:, child - 1]) @ G_prior
            if rotation_prior is None and j in _FLEXION:
                next_bone = bones[:, _CHILDREN[child][0] - 1]
                R_world[:, j] = _hinge_twisted(R_world[:, j], offsets[child], next_bone, _FLEXION[j])
        else:
            weight = 0.0 if rotation_prior is None else SPINE3_PRIOR_M
            R_world[:, j] = _procrustes_towards(G_prior, offsets[children], bones[:, children - 1], weight)
        pose[:, j] = np.swapaxes(R_parent, 1, 2) @ R_world[:, j]
    return pose, joints[:, 0] - body.joints[0]


def _procrustes_towards(G_prior: np.ndarray, rest: np.ndarray, posed: np.ndarray, weight_m: float) -> np.ndarray:
    """Kabsch with the prior's three axes as further vectors of length weight_m; (F, 3, 3)."""
    axes_rest, axes_posed = weight_m * np.eye(3), weight_m * np.swapaxes(G_prior, 1, 2)
    return procrustes(np.concatenate([rest, axes_rest]), np.concatenate([posed, axes_posed], 1))


def _hinge_twisted(G: np.ndarray, offset: np.ndarray, next_bone: np.ndarray, flexion: tuple) -> np.ndarray:
    """G turned about its own bone so that the next bone bends towards `flexion`, faded in with the bend; (F, 3, 3)."""
    axis = normalize(offset)
    ahead = normalize(np.asarray(flexion) - axis * (axis @ flexion))
    local = normalize(np.einsum("fba,fb->fa", G, next_bone))
    bend = np.arccos(np.clip(local @ axis, -1.0, 1.0))
    twist = np.arctan2(local @ np.cross(axis, ahead), local @ ahead)
    believed = _smoothstep(bend, *HINGE_BEND_RAD) * (1.0 - _smoothstep(np.abs(twist), *HINGE_TWIST_RAD))
    return G @ rotvec_to_matrix(axis * _smooth(twist * believed)[:, None])


def _smooth(angle: np.ndarray) -> np.ndarray:
    """(F,) through a Gaussian over time, the ends repeated."""
    kernel = gaussian_kernel(HINGE_SIGMA_FRAMES)
    return np.convolve(np.pad(angle, len(kernel) // 2, mode="edge"), kernel, mode="valid")


def _smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _swing_prior(offsets: np.ndarray) -> np.ndarray:
    """(22, 3, 3) local rotations to swing from where nothing is known: rest, arms in the middle of their reach."""
    prior = np.tile(np.eye(3), (N_JOINTS, 1, 1))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = JOINT[f"{side}_shoulder"]
        centre = normalize(np.array(ARM_CENTRE) * [sign, 1.0, 1.0])
        prior[shoulder] = rotation_between(offsets[JOINT[f"{side}_elbow"]], centre)
    return prior
