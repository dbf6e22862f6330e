"""SMPL-format bodies from files: the default asset, or a user's own SMPL, SMPL-H or SMPL-X, .npz or .pkl.

Used keys: v_template, shapedirs, J_regressor, weights, kintree_table, f. Pose correctives (posedirs) are left out;
joints beyond SMPL's 24 (fingers, jaw, eyes) are folded into hands and head, see core.body.reduce.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from core.body.reduce import MODELS, to_24_joints
from core.body.safe_pickle import load_arrays_pickle
from core.body.skeleton24 import BODY_PARENTS, N_BODY_JOINTS

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "body"
DEFAULT_BODY = ASSETS / "default_body.npz"
BODY_ENVIRONMENT_VARIABLE = "EASYTUNE_BODY"
GENDERS = ("neutral", "female", "male")
_REQUIRED = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
_READ = (*_REQUIRED, "name", "licence")


@dataclass(frozen=True, eq=False)
class Body:
    """One shaped body in its rest pose (T-pose), metres, Y up, facing +Z, left on +X. Treat arrays as read-only.

    vertices (V, 3) float32, faces (T, 3) int32 counter-clockwise from outside, weights (V, 24) float32 rows sum to 1,
    joints (24, 3) float32, parents (24,) int, -1 at the root.
    """

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    joints: np.ndarray
    parents: np.ndarray
    name: str
    licence: str
    path: Path

    @cached_property
    def skinning_basis(self) -> np.ndarray:
        """(24*4, V) float32: weight times homogeneous rest position; see core.body.skinning.skin."""
        homogeneous = np.concatenate([self.vertices, np.ones((len(self.vertices), 1))], 1)
        basis = self.weights[:, :, None] * homogeneous[:, None, :]  # (V, 24, 4)
        return np.ascontiguousarray(basis.reshape(len(basis), -1).T, dtype=np.float32)


def find_user_body() -> Path | None:
    """The user's own body file: $EASYTUNE_BODY, else that of assets/body (find_in_folder), else None.

    Raises FileNotFoundError when $EASYTUNE_BODY names a file that is not there.
    """
    named = os.environ.get(BODY_ENVIRONMENT_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise FileNotFoundError(
                f"{BODY_ENVIRONMENT_VARIABLE}={named} is not a file. Point it to an SMPL .npz or .pkl, or unset it."
            )
        return Path(named)
    return find_in_folder(ASSETS)


def find_in_folder(folder: Path, gender: str = "neutral") -> Path | None:
    """SMPL_, SMPLH_ or SMPLX_GENDER.npz or .pkl in a folder, the first that is there, or None.

    Raises ValueError for a gender other than neutral, female, male.
    """
    if gender not in GENDERS:
        raise ValueError(f"gender={gender!r} is unknown. Choose one of {', '.join(GENDERS)}.")
    names = [f"{model}_{gender.upper()}{suffix}" for model in MODELS for suffix in (".npz", ".pkl")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def bodies_beside(path: Path) -> dict[str, Path]:
    """Name -> file: `path` itself, and every SMPL, SMPL-H or SMPL-X body of any gender in assets/body and beside it."""
    names = [f"{m}_{g.upper()}{end}" for m in MODELS for g in GENDERS for end in (".npz", ".pkl")]
    files = [path, *(folder / name for folder in (ASSETS, path.parent) for name in names)]
    return {file.stem: file for file in files if file.is_file()}


def load_body(path: str | Path | None = None, betas: Sequence[float] | np.ndarray | None = None) -> Body:
    """The body of a file, shaped by betas (up to the file's number of shape directions; None is the mean shape).

    path None: find_user_body(), else the default asset. Cached. Raises FileNotFoundError (no such file) and
    ValueError (not an SMPL-format body, truncated, or a pickle that asks for code; nothing is executed).
    """
    path = Path(path) if path is not None else (find_user_body() or DEFAULT_BODY)
    if not path.is_file():
        raise FileNotFoundError(f"Body file {path} does not exist. `python -m core build-body` makes the default one.")
    shape = () if betas is None else tuple(float(b) for b in np.asarray(betas).ravel())
    stat = path.stat()
    return _load_cached(path.resolve(), stat.st_mtime_ns, stat.st_size, shape)


@lru_cache(maxsize=8)
def _load_cached(path: Path, mtime_ns: int, size: int, betas: tuple[float, ...]) -> Body:
    arrays = read_smpl_arrays(path)
    n_shapes = arrays["shapedirs"].shape[2]
    if len(betas) > n_shapes or not np.isfinite(betas).all():
        raise ValueError(f"betas has {len(betas)} numbers, {path.name} takes up to {n_shapes} finite ones.")
    vertices = arrays["v_template"] + arrays["shapedirs"][:, :, : len(betas)] @ np.asarray(betas, dtype=np.float64)
    return Body(
        vertices=vertices.astype(np.float32),
        faces=arrays["f"],
        weights=arrays["weights"].astype(np.float32),
        joints=(arrays["J_regressor"] @ vertices).astype(np.float32),
        parents=BODY_PARENTS,
        name=arrays["name"],
        licence=arrays["licence"],
        path=path,
    )


def read_smpl_arrays(path: Path) -> dict[str, Any]:
    """Validated arrays of an SMPL-format .npz or .pkl: float64, dense, kintree_table and faces int32.

    v_template (V,3), shapedirs (V,3,B), J_regressor (24,V), weights (V,24), kintree_table (2,24), f (T,3), and the
    strings name and licence. Raises ValueError in one sentence when the file is not such a body.
    """
    raw = load_arrays_pickle(path, _READ) if path.suffix.lower() == ".pkl" else _read_npz(path)
    missing = [key for key in _REQUIRED if key not in raw]
    if missing:
        raise ValueError(
            f"{path} is not an SMPL-format body: it lacks {', '.join(missing)}. Needed: {', '.join(_REQUIRED)}."
        )
    try:
        arrays: dict[str, Any] = {k: _dense(raw[k]).astype(np.float64) for k in _REQUIRED[:4]}
        parents = _dense(raw["kintree_table"])[0].astype(np.uint32).astype(np.int32)  # SMPL writes -1 as 2**32 - 1
        arrays, parents = to_24_joints(arrays, parents)
        arrays["f"] = _dense(raw["f"]).astype(np.int64).astype(np.int32)
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        raise ValueError(f"{path} is not an SMPL-format body: an array in it is not numeric ({error}).") from None
    problem = _shape_problem(arrays, parents)
    if problem:
        raise ValueError(f"{path} is not an SMPL-format body with 24 joints: {problem}.")
    arrays["kintree_table"] = np.stack([BODY_PARENTS, np.arange(N_BODY_JOINTS)]).astype(np.int32)
    arrays["name"] = str(raw.get("name", path.stem))
    arrays["licence"] = str(raw.get("licence", "the user's own file"))
    return arrays


def _read_npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):  # numpy would take it for a pickle and say so
        raise ValueError(f"{path} is not an .npz body, or is cut short. Give an SMPL-format .npz or .pkl file.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key in _READ}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, AttributeError, KeyError):
        raise ValueError(
            f"{path} is not a readable .npz body: it is damaged, or holds Python objects in place of numbers. "
            "Copy or download it again."
        ) from None


def _dense(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == object:
        raise ValueError("found objects in place of numbers")
    return array


def _shape_problem(arrays: dict[str, Any], parents: np.ndarray) -> str | None:
    """What is wrong with the arrays of a would-be body, in words, or None."""
    n = len(arrays["v_template"]) if arrays["v_template"].ndim else 0
    expected = {"v_template": (n, 3), "J_regressor": (N_BODY_JOINTS, n), "weights": (n, N_BODY_JOINTS)}
    for key, shape in expected.items():
        if arrays[key].shape != shape or n == 0:
            return f"{key} has shape {arrays[key].shape}, expected {shape}"
    if arrays["shapedirs"].ndim != 3 or arrays["shapedirs"].shape[:2] != (n, 3):
        return f"shapedirs has shape {arrays['shapedirs'].shape}, expected {(n, 3, 10)}"
    if any(not np.isfinite(arrays[key]).all() for key in (*expected, "shapedirs")):
        return "it holds NaN or infinite numbers"
    if parents.shape != BODY_PARENTS.shape or not np.array_equal(parents[1:], BODY_PARENTS[1:]):
        return f"kintree_table is not SMPL's tree of 24 joints ({parents.tolist()})"
    faces = arrays["f"]
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min(initial=0) < 0 or faces.max(initial=0) >= n:
        return f"f (shape {faces.shape}) does not index {n} vertices by triangles"
    return None
