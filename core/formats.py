"""One motion to a file and back, in every format that leaves the house.

Writers take features (F, 263) and a body; what needs a pose gets it by core.body.ik. Readers give features (F, 263)
back: the motion turned to face +Z at the origin in its first frame, as features demand, its heights kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.body.ik import pose_from_features, pose_from_joints
from core.body.skeleton24 import BODY_JOINT_NAMES, N_BODY_JOINTS
from core.body.skinning import forward_joints
from core.body.smpl_files import Body
from core.motion.bvh import read_bvh, write_bvh
from core.motion.features import canonical_transform, extract_features, recover_joints
from core.motion.files import (
    load_amass_npz,
    load_features_npy,
    load_joints_npy,
    save_amass_npz,
    save_features_npy,
    save_joints_npy,
)
from core.motion.skeleton import FPS, JOINT_NAMES, N_JOINTS
from core.render.glb import write_glb

BVH_UNITS_PER_METRE = 100.0  # centimetres, the custom
_FPS_TOLERANCE = 0.01  # of the rate, for frame times rounded in the file


@dataclass(frozen=True)
class Format:
    """One sort of file: its button's word, the end of its name, who writes it and, where it can be, who reads it."""

    label: str
    ending: str
    write: Callable[[Path, np.ndarray, Body], None]
    read: Callable[[Path, Body], np.ndarray] | None = None


def write_motion(path: Path, features: np.ndarray, body: Body, kind: str) -> None:
    """Write features (F, 263) as `kind`, a key of FORMATS. Atomic. ValueError for another kind or a wrong shape."""
    _format(kind).write(path, features, body)


def read_motion(path: Path, body: Body, kind: str) -> np.ndarray:
    """Features (F, 263) float32 of a file of `kind`, a key of FORMATS.

    Raises FileNotFoundError, and ValueError for a damaged file, a skeleton that is not SMPL's, another frame rate
    than 20, or a format that can't be read.
    """
    read = _format(kind).read
    if read is None:
        readable = ", ".join(key for key, value in FORMATS.items() if value.read)
        raise ValueError(f"{kind} files are written only. Formats that can be read: {readable}.")
    return read(path, body)


def _format(kind: str) -> Format:
    if kind not in FORMATS:
        raise ValueError(f"kind={kind!r} is unknown. Choose one of {', '.join(FORMATS)}.")
    return FORMATS[kind]


def _write_glb(path: Path, features: np.ndarray, body: Body) -> None:
    write_glb(path, body, *pose_from_features(features, body), name=path.stem)


def _write_bvh(path: Path, features: np.ndarray, body: Body) -> None:
    pose, trans = pose_from_features(features, body)
    offsets = body.joints - body.joints[np.maximum(body.parents, 0)]
    pelvis = body.joints[0] + trans
    write_bvh(path, BODY_JOINT_NAMES, body.parents, offsets, pelvis, pose, FPS, BVH_UNITS_PER_METRE)


def _write_amass(path: Path, features: np.ndarray, body: Body) -> None:
    pose, trans = pose_from_features(features, body)
    save_amass_npz(path, pose, trans, fps=FPS, pelvis_rest=body.joints[0])


def _write_features(path: Path, features: np.ndarray, _body: Body) -> None:
    save_features_npy(path, features)


def _write_joints(path: Path, features: np.ndarray, _body: Body) -> None:
    save_joints_npy(path, recover_joints(features))


def _read_bvh(path: Path, _body: Body) -> np.ndarray:
    clip = read_bvh(path)
    if missing := set(JOINT_NAMES) - set(clip.names):
        raise ValueError(f"{path.name} has no joint {sorted(missing)[0]!r}. Choose a BVH with SMPL's joint names.")
    _check_rate(path, clip.fps)
    order = [clip.names.index(name) for name in JOINT_NAMES]
    return _features(clip.forward()[0][:, order] / BVH_UNITS_PER_METRE, clip.rotations[:, order])


def _read_amass(path: Path, body: Body) -> np.ndarray:
    clip = load_amass_npz(path, body.joints[0])
    _check_rate(path, clip.fps)
    pose = np.tile(np.eye(3), (len(clip.trans), N_BODY_JOINTS, 1, 1))
    pose[:, :N_JOINTS] = clip.rotations
    return _features(forward_joints(body, pose, clip.trans)[:, :N_JOINTS], clip.rotations)


def _read_features(path: Path, _body: Body) -> np.ndarray:
    return load_features_npy(path)


def _read_joints(path: Path, body: Body) -> np.ndarray:
    joints = load_joints_npy(path)
    return _features(joints, pose_from_joints(joints, body)[0][:, :N_JOINTS])


def _check_rate(path: Path, fps: float) -> None:
    if abs(fps / FPS - 1.0) > _FPS_TOLERANCE:
        raise ValueError(f"{path.name} runs at {fps:g} frames per second, {FPS} is needed. Resample it first.")


def _features(joints: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) and local rotations (F, 22, 3, 3) -> (F, 263) float32.

    A row describes the way to the next frame; after the last one the motion is taken to go on as it went.
    """
    turn, shift = canonical_transform(joints)
    placed = joints @ turn.T + shift * [1.0, 0.0, 1.0]
    beyond = 2 * placed[-1] - placed[-2] if len(placed) > 1 else placed[-1]
    return extract_features(np.concatenate([placed, beyond[None]]), np.concatenate([rotations, rotations[-1:]]))


FORMATS = {
    "glb": Format("GLB", ".glb", _write_glb),
    "bvh": Format("BVH", ".bvh", _write_bvh, _read_bvh),
    "npz": Format("npz", ".npz", _write_amass, _read_amass),
    "npy": Format("npy", ".npy", _write_features, _read_features),
    "joints": Format("joints", "-joints.npy", _write_joints, _read_joints),
}
