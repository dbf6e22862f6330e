"""Motion files: NPZ in the layout of AMASS, NPY of features or joints. All writes are atomic.

AMASS (Mahmood et al. 2019) is Z up and stores SMPL-H parameters: `poses` (F, 156) rotation vectors of 52 joints, the
first 22 as ours, fingers zero here; `trans` (F, 3) is added to the rest position of the whole body, so the pelvis
stands at trans + pelvis_rest, where pelvis_rest is the pelvis of the unposed body in the body's own axes. Since those
axes don't turn with the world, changing the world's up axis needs pelvis_rest: (0, 0, 0) for our default body, about
(0, -0.2, 0) for SMPL's. Files are never unpickled.
"""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from core.motion.rotations import matrix_to_rotvec, rotvec_to_matrix
from core.motion.skeleton import N_FEATURES, N_JOINTS

_N_SMPLH = 52  # joints of SMPL-H: 22 of the body, 15 for each hand
_N_BETAS = 16
_POSE_WIDTHS = (66, 72, 156, 165)  # body only, SMPL, SMPL-H, SMPL-X: the first 66 numbers mean the same
_READ = ("poses", "trans", "mocap_framerate", "mocap_frame_rate", "betas", "gender")
_GENDERS = ("neutral", "female", "male")
_R_ZUP_YUP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # a quarter turn about +X


@dataclass(frozen=True, eq=False)
class AmassClip:
    """A clip read from an AMASS file, in this project's axes (Y up)."""

    rotations: np.ndarray  # (F, 22, 3, 3) R_parent_joint, pelvis: R_world_pelvis
    trans: np.ndarray  # (F, 3) metres, as core.body.skin takes it: pelvis = pelvis_rest + trans
    betas: np.ndarray  # (16,) shape coefficients
    gender: str
    fps: float


def save_amass_npz(
    path: str | Path,
    poses: np.ndarray,
    trans: np.ndarray,
    betas: np.ndarray | None = None,
    gender: str = "neutral",
    fps: float = 20.0,
    pelvis_rest: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
) -> None:
    """Write an AMASS-layout NPZ, Z up.

    poses (F, J >= 22, 3, 3) local rotation matrices and trans (F, 3) in metres, both Y up, as `core.body.skin` takes
    them; betas (<= 16,), padded with zeros; pelvis_rest (3,): joint 0 of the unposed body, `body.joints[0]`.
    Raises ValueError for shapes or a gender that don't fit and for numbers that are not finite. The frame rate stands
    under both names in use, mocap_framerate and mocap_frame_rate.
    """
    poses, trans = np.asarray(poses, np.float64), np.asarray(trans, np.float64)
    betas = np.zeros(_N_BETAS) if betas is None else np.asarray(betas, np.float64)
    pelvis_rest = np.asarray(pelvis_rest, np.float64)
    n_frames = len(trans)
    if poses.ndim != 4 or poses.shape[1] < N_JOINTS or poses.shape != (n_frames, poses.shape[1], 3, 3) or not n_frames:
        raise ValueError(f"poses have shape {poses.shape}, needed is (F, 22 or more, 3, 3) with F = {n_frames} >= 1.")
    if trans.shape != (n_frames, 3) or betas.ndim != 1 or len(betas) > _N_BETAS:
        raise ValueError(f"trans {trans.shape} and betas {betas.shape} must be (F, 3) and at most (16,).")
    if gender not in _GENDERS:
        raise ValueError(f"gender={gender!r} is unknown, allowed are {', '.join(_GENDERS)}.")
    if not (np.isfinite(poses).all() and np.isfinite(trans).all()):
        raise ValueError("the motion holds values that are not finite. Nothing was written, generate it again.")
    R = poses[:, :N_JOINTS].copy()
    R[:, 0] = _R_ZUP_YUP @ R[:, 0]
    rotvecs = np.zeros((n_frames, _N_SMPLH * 3))
    rotvecs[:, : N_JOINTS * 3] = matrix_to_rotvec(R).reshape(n_frames, -1)
    arrays = {
        "poses": rotvecs,
        "trans": (trans + pelvis_rest) @ _R_ZUP_YUP.T - pelvis_rest,
        "betas": np.pad(betas, (0, _N_BETAS - len(betas))),
        "gender": np.array(gender),
        "mocap_framerate": np.array(float(fps)),
        "mocap_frame_rate": np.array(float(fps)),
    }
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))


def load_amass_npz(path: str | Path, pelvis_rest: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0)) -> AmassClip:
    """Read an AMASS-layout NPZ (ours, or AMASS' own for SMPL-H, SMPL-X or SMPL) into Y-up axes.

    pelvis_rest (3,): joint 0 of the unposed body with which the file was made. Raises FileNotFoundError, ValueError.
    """
    path, pelvis_rest = _existing(path), np.asarray(pelvis_rest, np.float64)
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files if key in _READ}  # SMPL-X files hold Python objects too
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(
            f"{path.name} can't be read as an NPZ file ({error}). It is damaged, export it again."
        ) from error
    if missing := [key for key in ("poses", "trans") if key not in data]:
        raise ValueError(f"{path.name} has no {missing[0]!r}, it is not in AMASS layout. Choose an AMASS .npz.")
    rate = next((data[key] for key in ("mocap_framerate", "mocap_frame_rate") if key in data), None)
    if rate is None:
        raise ValueError(f"{path.name} has no 'mocap_framerate', it is not in AMASS layout. Choose an AMASS .npz.")
    poses, trans = data["poses"].astype(np.float64), data["trans"].astype(np.float64)
    if poses.ndim != 2 or poses.shape[1] not in _POSE_WIDTHS or trans.shape != (len(poses), 3) or not len(poses):
        raise ValueError(f"{path.name}: poses {poses.shape}, trans {trans.shape}, needed are (F, 66-165) and (F, 3).")
    if not (np.isfinite(poses).all() and np.isfinite(trans).all()):
        raise ValueError(f"{path.name} holds values that are not finite. Repair it or choose another file.")
    R = rotvec_to_matrix(poses[:, : N_JOINTS * 3].reshape(-1, N_JOINTS, 3))
    R[:, 0] = _R_ZUP_YUP.T @ R[:, 0]
    betas = data.get("betas", np.zeros(_N_BETAS)).astype(np.float64).ravel()[:_N_BETAS]
    gender = data.get("gender", np.array("neutral")).item()
    return AmassClip(
        rotations=R,
        trans=(trans + pelvis_rest) @ _R_ZUP_YUP - pelvis_rest,
        betas=np.pad(betas, (0, _N_BETAS - len(betas))),
        gender=gender.decode() if isinstance(gender, bytes) else str(gender),
        fps=float(rate),
    )


def save_features_npy(path: str | Path, features: np.ndarray) -> None:
    """Write features (F, 263) as float32 NPY, the file format of HumanML3D's new_joint_vecs. ValueError if not so."""
    _save_npy(path, features, (N_FEATURES,), "features")


def load_features_npy(path: str | Path) -> np.ndarray:
    """Features (F, 263) float32. Raises FileNotFoundError, ValueError."""
    return _load_npy(path, (N_FEATURES,), "features")


def save_joints_npy(path: str | Path, joints: np.ndarray) -> None:
    """Write joints (F, 22, 3), metres, as float32 NPY, the format of HumanML3D's new_joints. ValueError if not so."""
    _save_npy(path, joints, (N_JOINTS, 3), "joints")


def load_joints_npy(path: str | Path) -> np.ndarray:
    """Joints (F, 22, 3) float32, metres. Raises FileNotFoundError, ValueError."""
    return _load_npy(path, (N_JOINTS, 3), "joints")


def _save_npy(path: str | Path, array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    array = _check_clip(np.asarray(array, dtype=np.float32), shape, what)
    atomic_write(path, lambda file: np.save(file, array, allow_pickle=False))


def load_numbers(path: Path) -> np.ndarray:
    """The array of an NPY file of real numbers; ValueError naming the file for anything else, nothing is unpickled."""
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # numpy raises a dozen kinds for a damaged file, and advises to unpickle others
        raise ValueError(
            f"{path} can't be read as a numeric NPY file. Choose another file or copy it again."
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {array.dtype} in place of real numbers. Choose another file.")
    return array


def _load_npy(path: str | Path, shape: tuple[int, ...], what: str) -> np.ndarray:
    path = _existing(path)
    return _check_clip(load_numbers(path).astype(np.float32), shape, f"{path.name}: {what}")


def _check_clip(array: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    if array.shape[1:] != shape or not len(array):
        raise ValueError(f"{what} have shape {array.shape}, needed is (F, {', '.join(map(str, shape))}) with F >= 1.")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} hold values that are not finite. Repair the clip or leave it out.")
    return array


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Give the path of a motion file.")
    return path


def atomic_write(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write(file)` fill a temporary file beside `path`, then put it in place at once.

    A crash at any moment leaves the old file or the new one, never half of one. Makes missing folders.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
