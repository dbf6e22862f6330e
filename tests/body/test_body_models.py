"""SMPL, SMPL-H and SMPL-X of every gender, from .npz and from pickles as Python 2 and chumpy wrote them."""

from __future__ import annotations

import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from core.body.skeleton24 import BODY_PARENTS
from core.body.smpl_files import find_in_folder, load_body
from core.motion.skeleton import PARENTS

VERTICES = 80


def arrays_of(joints: int, shapes: int, seed: int = 0) -> dict:
    """A body with the keys, dtypes and tree of the official files; regressor rows and weights are random."""
    rng = np.random.default_rng(seed)
    regressor = rng.random((joints, VERTICES)) * (rng.random((joints, VERTICES)) < 0.2) + 1e-3
    weights = rng.random((VERTICES, joints))
    parents = [
        *PARENTS.tolist(),
        *{24: [20, 21], 52: [20] * 15 + [21] * 15, 55: [15] * 3 + [20] * 15 + [21] * 15}[joints],
    ]
    parents[0] = 2**32 - 1
    return {
        "v_template": rng.normal(size=(VERTICES, 3)),
        "shapedirs": 0.1 * rng.normal(size=(VERTICES, 3, shapes)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([parents, range(joints)], dtype=np.int64).astype(np.uint32),
        "f": np.arange(VERTICES - VERTICES % 3, dtype=np.uint32).reshape(-1, 3),
    }


@pytest.mark.parametrize(("joints", "shapes", "known"), [(24, 10, 10), (52, 16, 16), (55, 400, 300), (55, 20, 10)])
@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_every_model_is_a_body_of_24_joints(joints, shapes, known, suffix, tmp_path):
    """Prevents fingers that stay behind, expressions taken for shapes, and joints at another place."""
    arrays, path = arrays_of(joints, shapes), tmp_path / f"SMPLX_MALE{suffix}"
    path.write_bytes(pickle.dumps(arrays, 2)) if suffix == ".pkl" else np.savez(path, **arrays)
    betas = np.linspace(-1, 1, known)
    body = load_body(path, betas)
    shaped = arrays["v_template"] + arrays["shapedirs"][:, :, :known] @ betas
    np.testing.assert_allclose(body.joints[:22], (arrays["J_regressor"] @ shaped)[:22], atol=1e-6)
    np.testing.assert_allclose(body.weights.sum(1), 1.0, atol=1e-5)
    assert body.weights.shape == (VERTICES, 24) and np.array_equal(body.parents, BODY_PARENTS)
    with pytest.raises(ValueError, match=f"takes up to {known}"):
        load_body(path, np.zeros(known + 1))
    if joints > 24:
        first = {52: 22, 55: 25}[joints]
        np.testing.assert_allclose(body.weights[:, 22], arrays["weights"][:, first : first + 15].sum(1), atol=1e-6)
        knuckles = (arrays["J_regressor"] @ shaped)[[first, first + 3, first + 6, first + 9]].mean(0)
        np.testing.assert_allclose(body.joints[22], knuckles, atol=1e-6)


def as_python_2(data: bytes) -> bytes:
    """A protocol-2 pickle of Python 3 with the module names of Python 2 and its byte strings (SHORT_BINSTRING)."""
    for new, old in ((b"builtins", b"__builtin__"), (b"numpy._core.multiarray", b"numpy.core.multiarray")):
        data = data.replace(b"c" + new + b"\n", b"c" + old + b"\n")
    for text in (b"v_template", b"weights", b"f", b"shapedirs"):
        data = data.replace(b"X" + struct.pack("<I", len(text)) + text, b"U" + bytes([len(text)]) + text)
    return data


def test_an_official_looking_pickle_without_chumpy(tmp_path, monkeypatch):
    """Prevents the official .pkl (Python 2, chumpy objects, sparse regressor) from needing chumpy or moving a joint."""
    module, nested = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    nested.Ch = type("Ch", (), {"__module__": "chumpy.ch"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", module)
    monkeypatch.setitem(sys.modules, "chumpy.ch", nested)
    arrays = arrays_of(24, 10)
    wrapped = {}
    for key in ("v_template", "shapedirs", "weights"):
        wrapped[key] = nested.Ch()
        wrapped[key].x = arrays[key]
    official = {
        **arrays,
        **wrapped,
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "bs_type": "lrotmin",
    }
    path = tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"
    path.write_bytes(as_python_2(pickle.dumps(official, 2)))
    for name in ("chumpy", "chumpy.ch"):
        monkeypatch.delitem(sys.modules, name)
    betas = np.linspace(-2, 2, 10)
    np.savez(tmp_path / "same.npz", **arrays)
    joints = arrays["J_regressor"] @ (arrays["v_template"] + arrays["shapedirs"] @ betas)
    for file in (path, tmp_path / "same.npz"):
        np.testing.assert_allclose(load_body(file, betas).joints, joints, atol=1e-6)
    assert "chumpy" not in sys.modules


def test_genders_are_found_by_name(tmp_path):
    """Prevents a neutral body where a female one was asked for, and a silent default for a typing error."""
    for name in ("SMPL_FEMALE.pkl", "SMPLX_NEUTRAL.npz", "SMPLH_MALE.npz"):
        (Path(tmp_path) / name).touch()
    found = {gender: find_in_folder(tmp_path, gender) for gender in ("neutral", "female", "male")}
    assert [p.name for p in found.values() if p] == ["SMPLX_NEUTRAL.npz", "SMPL_FEMALE.pkl", "SMPLH_MALE.npz"]
    with pytest.raises(ValueError, match="gender='none' is unknown. Choose one of neutral, female, male"):
        find_in_folder(tmp_path, "none")
