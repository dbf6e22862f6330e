"""Clips of SMPL poses and the compact archive they travel in.

The archive (npz) holds, for all clips end to end: local rotation vectors as int16 (pi / 32767 rad a unit, 1e-4 rad),
pelvis path as float32 metres, clip starts, labels and split; joints and features follow from it by forward kinematics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.motion.files import atomic_write
from core.motion.kinematics import forward_kinematics
from core.motion.rotations import rotvec_to_matrix
from core.motion.skeleton import N_JOINTS, PARENTS

SPLITS = ("train", "val", "test", "heldout")  # heldout: (action, style) combinations that are never trained on
_UNIT = np.pi / 32767  # radians per int16 step


@dataclass(frozen=True)
class Clip:
    """One motion-capture clip at 20 fps. rotvecs: (F, 22, 3) local rotations, radians; trans: (F, 3) pelvis, metres."""

    name: str
    source: str
    content: str
    style: str
    rotvecs: np.ndarray
    trans: np.ndarray
    split: str = "train"

    def __len__(self) -> int:
        return len(self.trans)


@dataclass(frozen=True)
class ClipArchive:
    """Clips and the rest joints (24, 3) of the body that they are posed on."""

    clips: tuple[Clip, ...]
    rest: np.ndarray

    def of(self, split: str) -> list[Clip]:
        """Clips of one split; ValueError for an unknown split."""
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is unknown. Choose one of {SPLITS}.")
        return [clip for clip in self.clips if clip.split == split]


def pose_joints(pose: np.ndarray, trans: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) of local rotations pose (F, 22, 3, 3) with the pelvis at trans (F, 3)."""
    positions = np.empty((*pose.shape[:2], 3))
    positions[:] = rest[:N_JOINTS] - rest[np.maximum(PARENTS, 0)]
    positions[:, 0] = trans
    return forward_kinematics(pose, positions, PARENTS)[0]


def clip_joints(clip: Clip, rest: np.ndarray) -> np.ndarray:
    """Joints (F, 22, 3) of a clip in metres."""
    return pose_joints(rotvec_to_matrix(clip.rotvecs), clip.trans, rest)


def save_archive(path: Path, archive: ClipArchive) -> None:
    """Write atomically; about 0.13 kB a frame before compression."""
    clips = archive.clips
    arrays = {
        "rotvecs": np.round(np.concatenate([c.rotvecs for c in clips]) / _UNIT).astype(np.int16),
        "trans": np.concatenate([c.trans for c in clips]).astype(np.float32),
        "starts": np.cumsum([0] + [len(c) for c in clips]),
        "labels": np.array([(c.name, c.source, c.content, c.style, c.split) for c in clips]),
        "rest": archive.rest.astype(np.float32),
    }
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))


def load_archive(path: Path) -> ClipArchive:
    """Read what save_archive wrote. FileNotFoundError names the command that makes it; ValueError for another file."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist. Make it with `python -m core prepare bandai-namco PATH`.")
    try:
        with np.load(path, allow_pickle=False) as z:
            rotvecs, trans, starts, labels, rest = (z[k] for k in ("rotvecs", "trans", "starts", "labels", "rest"))
        clips = []
        for (name, source, content, style, split), a, b in zip(labels.tolist(), starts[:-1], starts[1:], strict=True):
            clips.append(Clip(name, source, content, style, rotvecs[a:b] * np.float32(_UNIT), trans[a:b], split))
    except Exception as error:  # numpy and zipfile raise a dozen kinds for a damaged file
        raise ValueError(
            f"{path} is not a clip archive ({error}). Make it again with `python -m core prepare bandai-namco PATH`."
        ) from error
    return ClipArchive(tuple(clips), rest.astype(np.float64))
