"""A clip in the dataset's own skeleton, written as BVH, and synthetic clips on the default body."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from core.body.smpl_files import DEFAULT_BODY, load_body
from core.data.clips import Clip
from core.motion.skeleton import N_JOINTS

# The dataset's skeleton: joint -> (parent, offset in centimetres).
SKELETON: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "joint_Root": (None, (0, 0, 0)),
    "Hips": ("joint_Root", (0, 93.9241, -3)),
    "Spine": ("Hips", (15.7357, 0, 0)),
    "Chest": ("Spine", (8.98455, -0.406207, 0)),
    "Neck": ("Chest", (16.3773, 0, 0)),
    "Head": ("Neck", (6.45672, 0, 0)),
    "Shoulder_L": ("Chest", (12.9942, -0.242716, 4.98039)),
    "UpperArm_L": ("Shoulder_L", (5.34809, 0, 0)),
    "LowerArm_L": ("UpperArm_L", (24.3286, 0, 0)),
    "Hand_L": ("LowerArm_L", (22.2916, 0, 0)),
    "Shoulder_R": ("Chest", (12.9945, -0.242716, -4.98039)),
    "UpperArm_R": ("Shoulder_R", (-5.34813, 0, 0)),
    "LowerArm_R": ("UpperArm_R", (-24.3289, 0, 0)),
    "Hand_R": ("LowerArm_R", (-22.2915, 0, 0)),
    "UpperLeg_L": ("Hips", (-2.19246, -6.46943, 0)),
    "LowerLeg_L": ("UpperLeg_L", (39.0811, 0, 0)),
    "Foot_L": ("LowerLeg_L", (40.9854, 0, 0)),
    "Toes_L": ("Foot_L", (11.7543, 0, 0)),
    "UpperLeg_R": ("Hips", (-2.19246, 6.46943, 0)),
    "LowerLeg_R": ("UpperLeg_R", (-39.0811, 0, 0)),
    "Foot_R": ("LowerLeg_R", (-40.9854, 0, 0)),
    "Toes_R": ("Foot_R", (-11.7543, 0, 0)),
}
CHANNELS = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"


def columns(x: tuple[int, ...], y: tuple[int, ...], z: tuple[int, ...]) -> np.ndarray:
    """A rotation from where its local axes point in the world."""
    return np.array([x, y, z], dtype=np.float64).T


# Where the local axes of the joints point in a T-pose that faces +Z (left is +X), by limb.
_TRUNK = columns((0, 1, 0), (0, 0, 1), (1, 0, 0))
_LEG_L, _LEG_R = columns((0, -1, 0), (1, 0, 0), (0, 0, 1)), columns((0, 1, 0), (1, 0, 0), (0, 0, -1))
T_POSE: dict[str, np.ndarray] = {"joint_Root": np.eye(3), "Hips": columns((0, 1, 0), (-1, 0, 0), (0, 0, 1))}
T_POSE |= dict.fromkeys(("Spine", "Chest", "Neck", "Head"), _TRUNK)
T_POSE |= {name: np.eye(3) for name in ("Shoulder_L", "UpperArm_L", "LowerArm_L", "Hand_L")}
T_POSE |= {name: np.diag([1.0, -1, -1]) for name in ("Shoulder_R", "UpperArm_R", "LowerArm_R", "Hand_R")}
for _side, _axes in (("L", _LEG_L), ("R", _LEG_R)):
    T_POSE |= {f"UpperLeg_{_side}": _axes, f"LowerLeg_{_side}": _axes}
    for _name, _degrees in (("Foot", -50.4), ("Toes", -50.4 - 16.6)):  # so that the sole is flat
        T_POSE[f"{_name}_{_side}"] = _axes @ Rotation.from_euler("y", _degrees, degrees=True).as_matrix()


def bvh_text(R_world: Mapping[str, np.ndarray], root: np.ndarray) -> str:
    """BVH of global rotations per joint (F, 3, 3) and a path of joint_Root (F, 3) in centimetres, 30 fps."""
    names = list(SKELETON)

    def joint(name: str) -> list[str]:
        parent, offset = SKELETON[name]
        head = "JOINT" if parent else "ROOT"
        lines = [f"{head} {name}", "{", f"  OFFSET {offset[0]} {offset[1]} {offset[2]}", f"  {CHANNELS}"]
        children = [child for child in names if SKELETON[child][0] == name]
        inside = [line for child in children for line in joint(child)]
        lines += [f"  {line}" for line in inside or ["End Site", "{", "  OFFSET 0 0 0", "}"]]
        return [*lines, "}"]

    values = []
    for name in names:
        parent, offset = SKELETON[name]
        local = np.swapaxes(R_world[parent], -1, -2) @ R_world[name] if parent else R_world[name]
        values.append(np.broadcast_to(offset, root.shape) if parent else root)
        with warnings.catch_warnings():  # the T-pose has angles of 90 degrees, any of the equal triples will do
            warnings.simplefilter("ignore")
            values.append(Rotation.from_matrix(local).as_euler("ZXY", degrees=True))
    rows = [" ".join(f"{v:.9f}" for v in row) for row in np.concatenate(values, 1)]
    header = ["HIERARCHY", *joint("joint_Root"), "MOTION", f"Frames: {len(root)}", "Frame Time: 0.0333333"]
    return "\n".join([*header, *rows]) + "\n"


@pytest.fixture(scope="session")
def rest() -> np.ndarray:
    """Rest joints (24, 3) of the default body."""
    return load_body(DEFAULT_BODY).joints.astype(np.float64)


@pytest.fixture
def write_clip(tmp_path: Path) -> Callable[..., Path]:
    """write_clip(name, frames=4, wobble=0.0) -> path: the T-pose, every joint turned by up to `wobble` radians."""

    def write(name: str = "dataset-1_walk_normal_001.bvh", frames: int = 4, wobble: float = 0.0) -> Path:
        rng = np.random.default_rng(0)
        turns = {n: Rotation.from_rotvec(rng.uniform(-wobble, wobble, (frames, 3))).as_matrix() for n in SKELETON}
        R_world = {n: (T_POSE[n] @ turns[n] if wobble else np.tile(T_POSE[n], (frames, 1, 1))) for n in SKELETON}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(bvh_text(R_world, np.linspace([0, 0, 0], [0, 0, 5.0 * frames], frames)))
        return path

    return write


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Clip]:
    """make_clip(content, style, number, frames=120, source="dataset-1"): smooth swinging while walking a curve."""

    def make(
        content: str = "walk", style: str = "normal", number: int = 0, frames: int = 120, source: str = "dataset-1"
    ) -> Clip:
        name = f"{source}_{content}_{style}_{number:03d}"
        rng = np.random.default_rng([ord(c) for c in name])
        t = np.arange(frames)[:, None, None] / 20.0
        swing = rng.uniform(-0.5, 0.5, (N_JOINTS, 3)) * np.sin(2 * t + rng.uniform(0, 6, (N_JOINTS, 3)))
        swing[:, 0] = np.array([0, 1, 0]) * (rng.uniform(-3, 3) + 0.3 * t[:, 0])  # the pelvis turns
        trans = np.stack([0.8 * np.sin(t[:, 0, 0]), 0.9 + 0.02 * np.cos(9 * t[:, 0, 0]), 0.7 * t[:, 0, 0]], 1)
        return Clip(name, source, content, style, swing.astype(np.float32), trans.astype(np.float32))

    return make
