"""Any humanoid -> poses on our body, from joint positions: no rest pose, unit or up axis need be known.

1. The up axis is the one along which head and feet are farthest apart; Z up is turned to Y up.
2. The spine is read as one polyline and divided as our body's is, so any number of spine joints will do.
3. Bones keep their direction in the world and get our body's lengths; the root path is scaled by leg length.
4. The floor is where standing toes are.

What is lost is the twist of limbs about themselves: positions don't tell it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from core.data.clips import Clip, clip_joints
from core.data.compose import resample
from core.data.humanoids import JointMap, map_joints
from core.motion.bvh import Bvh
from core.motion.kinematics import swing_rotations
from core.motion.rotations import matrix_to_rotvec, normalize, rotation_between
from core.motion.skeleton import FPS, JOINT, LEFT_FOOT, N_JOINTS, PARENTS, RIGHT_FOOT

STANDING_SPEED = 0.05  # m/s: slower toes are on the floor
FLOOR_QUANTILE = 0.1  # of the heights of standing toes: whoever also stands on a box keeps the floor
JUMP_RATIO, JUMP_MEAN_M = 5.0, 0.05  # a first frame (a T-pose) that is this far from the second is no motion
_SPINE = [JOINT[name] for name in ("pelvis", "spine1", "spine2", "spine3", "neck")]


def retarget_bvh(
    bvh: Bvh, rest: np.ndarray, file: str, given: Mapping[str, str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (F, 22, 3, 3) and pelvis path (F, 3), metres, Y up, on the body with rest joints (22+, 3).

    At the file's own frame rate; a T-pose put before the motion is taken off. given: see core.data.humanoids.
    Raises ValueError for an unknown skeleton and for bones without length.
    """
    found = map_joints(bvh.names, bvh.parents, file, given)
    return pose_of(without_rest_frame(at_our_size(bvh.forward()[0], found, rest, file)), rest)


def at_our_size(positions: np.ndarray, found: JointMap, rest: np.ndarray, file: str) -> np.ndarray:
    """Positions (F, J, 3) of a file, any unit and up axis -> our joints (F, 22, 3), metres, Y up, legs as long as ours.

    Raises ValueError for legs without length.
    """
    joints = y_up(our_joints(positions, found, rest))
    scale = _leg(rest[None]) / max(_leg(joints), 1e-9)
    if not np.isfinite(scale) or scale > 1e6:
        raise ValueError(f"{file} has legs of no length. Export it again with its skeleton.")
    return with_our_shoulders(joints * scale, rest)


def with_our_shoulders(joints: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) whose collar bones point, on the average of the clip, as those of our rest pose do.

    Skeletons begin them anywhere between neck and armpit; taken as they are, they would make a body that shrugs. What
    moves about that average stays, and so do the directions of the arms.
    """
    joints = joints.copy()
    R_world_chest, R_rest_chest = _chest_frame(joints), _chest_frame(rest[None, :N_JOINTS])[0]
    for side in ("left", "right"):
        collar, shoulder, elbow, wrist = (JOINT[f"{side}_{part}"] for part in ("collar", "shoulder", "elbow", "wrist"))
        bones = [(JOINT["spine3"], collar), (collar, shoulder)]
        vectors = [
            _turned(joints[:, end] - joints[:, start], R_world_chest, R_rest_chest.T @ (rest[end] - rest[start]))
            for start, end in bones
        ]
        before = joints[:, shoulder].copy()
        joints[:, collar] = joints[:, JOINT["spine3"]] + vectors[0]
        joints[:, shoulder] = joints[:, collar] + vectors[1]
        joints[:, [elbow, wrist]] += (joints[:, shoulder] - before)[:, None]
    return joints


def _turned(bone: np.ndarray, R_world_chest: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Bone vectors (F, 3) turned so that their average, seen from the chest (F, 3, 3), points along `ours` (3,)."""
    seen = np.einsum("fji,fj->fi", R_world_chest, bone)
    turn = rotation_between(normalize(normalize(seen).mean(0)), normalize(ours))
    return np.einsum("fij,fj->fi", R_world_chest, seen @ turn.T)


def _chest_frame(joints: np.ndarray) -> np.ndarray:
    """R_world_chest (F, 3, 3) of joints (F, 22, 3): columns to the left, up along the spine, forward."""
    up = normalize(joints[:, JOINT["neck"]] - joints[:, JOINT["spine3"]])
    left = joints[:, JOINT["left_shoulder"]] - joints[:, JOINT["right_shoulder"]]
    ahead = normalize(np.cross(left, up))
    return np.stack([np.cross(up, ahead), up, ahead], axis=-1)


def pose_of(joints: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (F, 22, 3) -> local rotations (F, 22, 3, 3) and pelvis path (F, 3) of the body with rest joints (22+, 3).

    Every bone keeps its direction in the world.
    """
    pose = swing_rotations(joints, rest[:N_JOINTS] - rest[np.maximum(PARENTS, 0)])
    hips = [JOINT["left_hip"], JOINT["right_hip"]]
    trans = joints[:, hips].mean(1) - pose[:, 0] @ (rest[hips].mean(0) - rest[0])
    return pose, trans


def our_joints(positions: np.ndarray, found: JointMap, rest: np.ndarray) -> np.ndarray:
    """Positions (F, J, 3) of a file -> our 22 joints (F, 22, 3), in the file's unit and axes."""
    joints = np.empty((len(positions), N_JOINTS, 3))
    joints[:, _SPINE] = divide_polyline(positions[:, found.spine], _fractions(rest[_SPINE]))
    for name, index in found.joints.items():
        if name != "pelvis" and name != "neck":
            joints[:, JOINT[name]] = positions[:, index]
    for side in ("left", "right"):
        if found.collar(side) is None:
            chest, shoulder = joints[:, JOINT["spine3"]], joints[:, JOINT[f"{side}_shoulder"]]
            joints[:, JOINT[f"{side}_collar"]] = 0.7 * chest + 0.3 * shoulder
    return joints


def _fractions(points: np.ndarray) -> np.ndarray:
    """Points (P, 3) of a chain -> their place (P,) along it, 0 to 1."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    return np.concatenate([[0.0], np.cumsum(lengths)]) / max(lengths.sum(), 1e-9)


def divide_polyline(points: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Points (F, P, 3) of a chain whose links keep their lengths -> (F, K, 3) at `fractions` (K,) of its length."""
    places = _fractions(points[0])
    after = np.clip(np.searchsorted(places, fractions, side="right"), 1, len(places) - 1)
    span = np.maximum(places[after] - places[after - 1], 1e-9)
    w = ((fractions - places[after - 1]) / span)[:, None]
    return (1 - w) * points[:, after - 1] + w * points[:, after]


def y_up(joints: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) with any axis up -> Y up, right-handed as before."""
    feet = joints[:, [JOINT["left_ankle"], JOINT["right_ankle"]]].mean(1)
    towards_head = np.median(joints[:, JOINT["head"]] - feet, axis=0)
    axis = int(np.abs(towards_head).argmax())
    up = np.eye(3)[axis] * np.sign(towards_head[axis])
    if axis == 1 and up[1] > 0:
        return joints
    ahead = np.eye(3)[(axis + 1) % 3]
    turn = np.stack([np.cross(up, ahead), up, ahead])  # rows: where the new x, y, z come from
    return joints @ turn.T


def _leg(joints: np.ndarray) -> float:
    """Mean length of thigh and shin together."""
    chains = [[JOINT[f"{side}_{part}"] for part in ("hip", "knee", "ankle")] for side in ("left", "right")]
    return float(np.mean([np.linalg.norm(np.diff(joints[:, c], axis=1), axis=-1).sum(-1).mean() for c in chains]))


def without_rest_frame(joints: np.ndarray) -> np.ndarray:
    """Without a first frame that the body could not have come from: many files put a T-pose there."""
    if len(joints) < 4:
        return joints
    steps = np.linalg.norm(np.diff(joints - joints[:, :1], axis=0), axis=-1).mean(1)  # pose alone, metres
    return joints[1:] if steps[0] > JUMP_MEAN_M and steps[0] > JUMP_RATIO * steps[1:4].max() else joints


def to_clip(name: str, pose: np.ndarray, trans: np.ndarray, fps: float, rest: np.ndarray) -> Clip:
    """Poses at `fps` -> a clip at 20 fps whose floor is at y = 0; ValueError for a single frame."""
    if len(pose) < 2:
        raise ValueError(f"{name} has {len(pose)} frames, at least 2 are needed. Choose a clip with motion.")
    pose, trans = resample(pose, trans, fps / FPS)
    clip = Clip(name, "", "", "", matrix_to_rotvec(pose).astype(np.float32), trans.astype(np.float32))
    floor = np.array([0.0, floor_height(clip, rest), 0.0], dtype=np.float32)
    return replace(clip, trans=clip.trans - floor)


def standing_heights(clip: Clip, rest: np.ndarray) -> np.ndarray:
    """Heights (N,) of toe joints that stand still, metres; may be empty."""
    toes = clip_joints(clip, rest)[:, [LEFT_FOOT[1], RIGHT_FOOT[1]]]
    still = np.linalg.norm(np.diff(toes, axis=0), axis=-1) * FPS < STANDING_SPEED
    return toes[1:, :, 1][still]


def floor_height(clip: Clip, rest: np.ndarray) -> float:
    """Height of the floor of one clip: of its standing toes, or of its lowest toe where none stands still."""
    heights = standing_heights(clip, rest)
    if len(heights):
        return float(np.quantile(heights, FLOOR_QUANTILE))
    return float(clip_joints(clip, rest)[:, [LEFT_FOOT[1], RIGHT_FOOT[1]], 1].min())


def windows(frames: int, longest: int, shortest: int) -> Sequence[slice]:
    """Cuts of a long clip, `longest` frames each; what is left at the end counts from `shortest` frames on."""
    starts = range(0, frames, longest)
    return [slice(s, min(s + longest, frames)) for s in starts if min(s + longest, frames) - s >= shortest]
