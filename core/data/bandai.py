"""Bandai-Namco Research Motion Dataset -> SMPL poses on the default body.

The dataset's skeleton is anatomical: with all rotations zero a limb is straight, bones lie along local +X (left, trunk)
or -X (right), knees and elbows hinge about local Y. So retargeting is a constant change of axes per joint:
G_smpl = G_source @ AXES.T, with one extra rotation where the body's rest bone is not exactly along its nominal
direction. Rotations (and so true twist) are kept; bone lengths become the body's own.

Source: github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset, Kobayashi et al. 2023, CC BY-NC 4.0.
"""

from __future__ import annotations

import logging
import lzma
import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from core.data.clips import Clip
from core.data.compose import interpolate, resample
from core.motion.bvh import Bvh, read_bvh
from core.motion.rotations import matrix_to_rotvec, normalize, rotation_between
from core.motion.skeleton import FPS, JOINT, N_JOINTS, PARENTS

log = logging.getLogger(__name__)

FILE_NAME = re.compile(r"dataset-(\d)_([a-z-]+?)_([a-z-]+)_(\d+)\.bvh$")

# World axes (columns x, y, z) of each kind of source joint in the T-pose that SMPL calls zero.
_HIPS = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # X up, Y right, Z forward
_TRUNK = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # X up, Y forward, Z left
_ARM_L = np.eye(3)
_ARM_R = np.diag([1.0, -1, -1])
_LEG_L = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # X down, Y left, Z forward
_LEG_R = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])  # X up, Y left, Z backward

# SMPL joint -> (source joint, its T-pose axes, nominal direction of the bone that leaves it or None)
_MAP: dict[str, tuple[str, np.ndarray, tuple[float, float, float] | None]] = {
    "pelvis": ("Hips", _HIPS, None),
    "spine2": ("Spine", _TRUNK, None),
    "spine3": ("Chest", _TRUNK, None),
    "neck": ("Neck", _TRUNK, None),
    "head": ("Head", _TRUNK, None),
    "left_collar": ("Shoulder_L", _ARM_L, None),
    "left_shoulder": ("UpperArm_L", _ARM_L, (1, 0, 0)),
    "left_elbow": ("LowerArm_L", _ARM_L, (1, 0, 0)),
    "left_wrist": ("Hand_L", _ARM_L, None),
    "right_collar": ("Shoulder_R", _ARM_R, None),
    "right_shoulder": ("UpperArm_R", _ARM_R, (-1, 0, 0)),
    "right_elbow": ("LowerArm_R", _ARM_R, (-1, 0, 0)),
    "right_wrist": ("Hand_R", _ARM_R, None),
    "left_hip": ("UpperLeg_L", _LEG_L, (0, -1, 0)),
    "left_knee": ("LowerLeg_L", _LEG_L, (0, -1, 0)),
    "left_ankle": ("Foot_L", _LEG_L, None),
    "left_foot": ("Toes_L", _LEG_L, None),
    "right_hip": ("UpperLeg_R", _LEG_R, (0, -1, 0)),
    "right_knee": ("LowerLeg_R", _LEG_R, (0, -1, 0)),
    "right_ankle": ("Foot_R", _LEG_R, None),
    "right_foot": ("Toes_R", _LEG_R, None),
}
_BONE_END = {"left_shoulder": "left_elbow", "left_elbow": "left_wrist", "right_shoulder": "right_elbow",
             "right_elbow": "right_wrist", "left_hip": "left_knee", "left_knee": "left_ankle",
             "right_hip": "right_knee", "right_knee": "right_ankle"}  # fmt: skip
# Local rotation about Y of Foot and Toes when the sole is flat, in degrees (median over 3,400 standing frames).
FLAT_FOOT_DEGREES = -50.4
FLAT_TOES_DEGREES = -16.6


def _foot_axes(axes: np.ndarray, degrees: float) -> np.ndarray:
    """Axes of a foot joint whose source rotation is `degrees` about local Y when the sole lies flat."""
    a = np.radians(degrees)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return axes @ about_y


def _axes_from_rest(rest: np.ndarray) -> dict[str, np.ndarray]:
    """SMPL joint -> (3, 3) A such that G_smpl = G_source @ A, for a body with rest joints (22+, 3)."""
    out = {}
    for name, (_, axes, nominal) in _MAP.items():
        if name.endswith("ankle"):
            axes = _foot_axes(axes, FLAT_FOOT_DEGREES)
        elif name.endswith("foot"):
            axes = _foot_axes(axes, FLAT_FOOT_DEGREES + FLAT_TOES_DEGREES)
        swing = np.eye(3)
        if nominal is not None:
            bone = rest[JOINT[_BONE_END[name]]] - rest[JOINT[name]]
            swing = rotation_between(normalize(bone), np.array(nominal, dtype=np.float64))
        out[name] = axes.T @ swing
    return out


def retarget(bvh: Bvh, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A source clip on the body with rest joints `rest` (22+, 3), metres.

    Returns pose (F, 22, 3, 3) local rotation matrices and trans (F, 3), the pelvis joint in metres, at the clip's own
    frame rate. Raises ValueError when a joint of the dataset's skeleton is missing.
    """
    axes = _axes_from_rest(rest)
    index = {name: i for i, name in enumerate(bvh.names)}
    missing = sorted({source for source, _, _ in _MAP.values()} - set(index))
    if missing:
        raise ValueError(f"not a Bandai-Namco skeleton: joints {missing} are missing. Use `prepare bvh` for other BVH.")
    positions, rotations = bvh.forward()
    G = np.empty((len(positions), N_JOINTS, 3, 3))
    for name, (source, _, _) in _MAP.items():
        G[:, JOINT[name]] = rotations[:, index[source]] @ axes[name]
    G[:, JOINT["spine1"]] = interpolate(G[:, JOINT["pelvis"]], G[:, JOINT["spine2"]], np.array(0.5))
    pose = G.copy()
    pose[:, 1:] = np.swapaxes(G[:, PARENTS[1:]], -1, -2) @ G[:, 1:]
    return pose, _pelvis_path(positions, G[:, 0], index, rest)


def _pelvis_path(positions: np.ndarray, R_pelvis: np.ndarray, index: dict[str, int], rest: np.ndarray) -> np.ndarray:
    """Pelvis (F, 3): the source's hip centre scaled by leg length, minus the body's own hip offset."""
    hip, knee, ankle = (positions[:, index[f"{part}_L"]] for part in ("UpperLeg", "LowerLeg", "Foot"))
    source_leg = np.linalg.norm(hip - knee, axis=-1).mean() + np.linalg.norm(knee - ankle, axis=-1).mean()
    chain = rest[[JOINT["left_hip"], JOINT["left_knee"], JOINT["left_ankle"]]]
    body_leg = np.linalg.norm(np.diff(chain, axis=0), axis=-1).sum()
    centre = 0.5 * (hip + positions[:, index["UpperLeg_R"]]) * (body_leg / source_leg)
    offset = rest[[JOINT["left_hip"], JOINT["right_hip"]]].mean(0) - rest[0]
    return centre - R_pelvis @ offset


def read_clip(path: Path, rest: np.ndarray) -> Clip:
    """One BVH of the dataset at 20 fps on the body with rest joints `rest` (22+, 3); labels from the file name.

    Raises ValueError for another file name, another skeleton or a damaged file, FileNotFoundError for none.
    """
    match = FILE_NAME.search(path.name)
    if match is None:
        raise ValueError(f"{path.name}: expected dataset-N_content_style_id.bvh")
    bvh = read_bvh(path)
    pose, trans = retarget(bvh, rest)
    pose, trans = resample(pose, trans, 1.0 / (FPS * bvh.frame_time))
    rotvecs = matrix_to_rotvec(pose).astype(np.float32)
    return Clip(path.stem, f"dataset-{match[1]}", match[2], match[3], rotvecs, trans.astype(np.float32))


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The dataset's folder: `path` itself, or a temporary one with the files of a .tar.xz; else ValueError."""
    if path.is_dir():
        yield path
        return
    if not tarfile.is_tarfile(path):
        raise ValueError(f"{path} is neither a folder nor a tar archive. Give the unpacked dataset or its .tar.xz.")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
        try:
            archive.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise ValueError(f"{path} is damaged ({error}). Download it again.") from error
        yield Path(folder)


def read_dataset(path: Path, rest: np.ndarray, callback: Callable[[int, int, str], None] | None = None) -> list[Clip]:
    """All readable clips below `path`, sorted by name; unreadable ones are logged and skipped.

    Raises FileNotFoundError when `path` does not exist and ValueError when it holds no clip of the dataset.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Clone the Bandai-Namco motion dataset and give its folder.")
    clips = []
    with unpacked(path) as folder:
        files = sorted(f for f in folder.rglob("*.bvh") if FILE_NAME.search(f.name))
        if not files:
            raise ValueError(f"{path} holds no file named dataset-N_content_style_id.bvh.")
        for i, file in enumerate(files):
            try:
                clips.append(read_clip(file, rest))
            except ValueError as error:
                log.warning("skipped %s: %s", file.name, error)
            if callback:
                callback(i + 1, len(files), file.name)
    if not clips:
        raise ValueError(f"none of the {len(files)} clips in {path} can be read. Download the dataset again.")
    return clips
