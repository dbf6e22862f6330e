"""Users' own SMPL files: old chumpy pickles load, pickles that run code do not, damaged files get one sentence."""

from __future__ import annotations

import io
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from core.body import safe_pickle, smpl_files
from core.body.safe_pickle import load_arrays_pickle
from core.body.skeleton24 import BODY_PARENTS
from core.body.smpl_files import DEFAULT_BODY, bodies_beside, find_user_body, load_body


@pytest.fixture
def arrays() -> dict:
    """A 60-vertex body with SMPL's keys and types (uint32 tree with 2**32 - 1 at the root)."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=(60, 3))
    return {
        "v_template": v,
        "shapedirs": rng.normal(size=(60, 3, 10)),
        "J_regressor": scipy.sparse.csc_matrix(np.eye(24, 60)),
        "weights": np.eye(24)[np.arange(60) % 24],
        "kintree_table": np.stack([BODY_PARENTS, np.arange(24)]).astype(np.uint32),
        "f": np.arange(60, dtype=np.uint32).reshape(20, 3),
        "bs_style": "lbs",
    }


class _RunsCode:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def _write(path: Path, content, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_plain_pickle_loads(tmp_path, arrays, protocol):
    body = load_body(_write(tmp_path / "SMPL_NEUTRAL.pkl", arrays, protocol))
    np.testing.assert_allclose(body.vertices, arrays["v_template"], atol=1e-6)
    np.testing.assert_allclose(body.joints, arrays["v_template"][:24], atol=1e-6)
    assert body.parents[0] == -1


@pytest.mark.parametrize("protocol", [0, 2])
def test_chumpy_pickle_loads_without_chumpy(tmp_path, arrays, monkeypatch, protocol):
    """Failure prevented: the official files, which hold chumpy objects, ask for a package that no longer installs."""
    module, nested = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    reorder = type("Select", (), {"__module__": "chumpy.ch"})
    nested.Ch, nested.Select = ch, reorder
    monkeypatch.setitem(sys.modules, "chumpy", module)
    monkeypatch.setitem(sys.modules, "chumpy.ch", nested)
    template, shapes = ch(), reorder()
    template.x = arrays["v_template"]
    shapes.a, shapes.idxs, shapes.preferred_shape = ch(), np.arange(1800), (60, 3, 10)
    shapes.a.x = arrays["shapedirs"].ravel()
    path = _write(tmp_path / "basic_model.pkl", {**arrays, "v_template": template, "shapedirs": shapes}, protocol)
    monkeypatch.delitem(sys.modules, "chumpy")
    monkeypatch.delitem(sys.modules, "chumpy.ch")
    body = load_body(path, betas=[1.0])
    np.testing.assert_allclose(body.vertices, arrays["v_template"] + arrays["shapedirs"][..., 0], atol=1e-5)
    assert "chumpy" not in sys.modules


def _chumpy_class(monkeypatch, **methods):
    """A class of a package `chumpy` that is there for as long as the test runs, as the files' own writers had it."""
    nested = types.ModuleType("chumpy.ch")
    nested.Ch = type("Ch", (), {"__module__": "chumpy.ch", "__qualname__": "Ch", **methods})
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", nested)
    return nested.Ch


def _called_again(self):
    return type(self), (self.x,)


@pytest.mark.parametrize("methods", [{}, {"__slots__": ("x",)}, {"__reduce__": _called_again}])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_way_to_pickle_a_chumpy_object_loads(tmp_path, arrays, monkeypatch, methods, protocol):
    """Failure prevented: a good file that is refused since its arrays stand in slots or in the call of their class."""

    def take(self, x=None):
        self.x = x

    ch = _chumpy_class(monkeypatch, __init__=take, **methods)
    path = _write(tmp_path / "body.pkl", {**arrays, "v_template": ch(arrays["v_template"])}, protocol)
    np.testing.assert_allclose(load_body(path).vertices, arrays["v_template"], atol=1e-6)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_only_needed_arrays_must_be_there(tmp_path, arrays, monkeypatch, protocol):
    """Failure prevented: a good body refused for a pose nobody reads, and a traceback where an array is missing."""
    ch = _chumpy_class(monkeypatch)
    blank, none, own = ch(), ch(), ch()
    none.x, own.x = None, own
    for odd, told in ((blank, "holds no array"), (none, "holds no array"), (own, "holds itself")):
        good = _write(tmp_path / "good.pkl", {**arrays, "pose_training": odd}, protocol)
        np.testing.assert_allclose(load_body(good).vertices, arrays["v_template"], atol=1e-6)
        bad = _write(tmp_path / "bad.pkl", {**arrays, "shapedirs": odd}, protocol)
        with pytest.raises(ValueError, match=f"bad.pkl is not readable .*{told}"):
            load_body(bad)


@pytest.mark.parametrize(
    "named",
    [
        "_codecs\nencode",
        "copy_reg\n_reconstructor",
        "numpy.core.numeric\n_frombuffer",
        "numpy.core.multiarray\n_reconstruct",
        "numpy.core.multiarray\nscalar",
        "chumpy.ch\nCh",
        "scipy.sparse\ncsc_matrix",
        "numpy\nndarray",
        "numpy\ndtype",
        "__builtin__\ndict",
    ],
)
@pytest.mark.parametrize("state", ["(N}S'__defaults__'\n(S'x'\ntst", "}S'__defaults__'\n(S'x'\nts"])
def test_pickles_change_nothing_of_ours(tmp_path, named, state):
    """Failure prevented: a file that opens wrongly, or harms the next one, by setting attributes of our functions."""
    (tmp_path / "evil.pkl").write_bytes(f"c{named}\n{state}b.".encode())
    found = [safe_pickle._RestrictedUnpickler(io.BytesIO(f"c{named}\n.".encode())).load() for _ in range(2)]
    assert found[0] is found[1]
    before = {name: repr(getattr(found[0], name, None)) for name in ("__defaults__", "__dict__")}
    with pytest.raises(ValueError, match="evil.pkl is not a readable pickle"):
        load_arrays_pickle(tmp_path / "evil.pkl")
    assert before == {name: repr(getattr(found[0], name, None)) for name in ("__defaults__", "__dict__")}


def test_python_2_pickle_loads(tmp_path):
    """Failure prevented: byte strings of Python 2 that Python 3 reads as text and numpy then rejects."""
    content = b"(dp0\nS'name'\np1\nS'caf\\xe9'\np2\nsS'n'\np3\nI7\ns."
    path = tmp_path / "old.pkl"
    path.write_bytes(content)
    assert load_arrays_pickle(path) == {"name": "caf\xe9", "n": 7}


def test_malicious_pickles_are_refused_and_nothing_runs(tmp_path, arrays):
    """Failure prevented: opening a body file runs a stranger's program. The proof file must not appear."""
    proof = tmp_path / "ran.txt"
    command = f"open({str(proof)!r}, 'w').close()"
    import os
    import subprocess

    attacks = [
        _RunsCode(os.system, f"touch {proof}"),
        _RunsCode(eval, command),
        _RunsCode(exec, command),
        _RunsCode(subprocess.check_call, ["touch", str(proof)]),
        _RunsCode(getattr, "x", "upper"),
        _RunsCode(np.save, str(proof), np.zeros(1)),
        _RunsCode(np.load, str(proof)),
        _RunsCode(scipy.sparse.save_npz, str(proof), arrays["J_regressor"]),
        _RunsCode(__import__, "os"),
    ]
    for attack in attacks:
        for protocol in (0, 2, 4):
            path = _write(tmp_path / "evil.pkl", {**arrays, "weights": attack}, protocol)
            with pytest.raises(ValueError, match=r"refused.*Nothing in it was run"):
                load_body(path)
    assert list(tmp_path.iterdir()) == [tmp_path / "evil.pkl"]
    pickle.loads(pickle.dumps(_RunsCode(eval, command)))  # the attack itself works where nothing guards
    assert proof.exists()


def test_object_arrays_in_npz_are_refused(tmp_path, arrays):
    """Failure prevented: a pickle smuggled in through an .npz object array."""
    path = tmp_path / "evil.npz"
    proof = tmp_path / "ran.txt"
    np.savez(path, **{**arrays, "weights": np.array([_RunsCode(eval, f"open({str(proof)!r}, 'w')")], dtype=object)})
    with pytest.raises(ValueError, match="not a readable"):
        load_body(path)
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.95])
def test_truncated_files_get_one_sentence(tmp_path, arrays, suffix, keep):
    path = tmp_path / f"body{suffix}"
    if suffix == ".pkl":
        _write(path, arrays)
    else:
        np.savez(path, **{**arrays, "J_regressor": arrays["J_regressor"].toarray()})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match="body"):
        load_body(path)


def test_text_named_npz_is_told_in_our_words(tmp_path):
    """Failure prevented: numpy's advice to allow pickles, in front of someone who has mixed up two files."""
    (tmp_path / "body.npz").write_text("not a body\n" * 100)
    with pytest.raises(ValueError, match=r"is not an \.npz body, or is cut short") as caught:
        load_body(tmp_path / "body.npz")
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "lacks weights"),
        ({"weights": np.zeros((60, 55))}, "weights has shape"),
        ({"f": np.full((2, 3), 60)}, "does not index 60 vertices"),
        ({"v_template": np.full((60, 3), np.nan)}, "NaN"),
        ({"kintree_table": np.zeros((2, 24), int)}, "kintree_table"),
        ({"shapedirs": np.zeros((60, 30))}, "shapedirs has shape"),
        ({"v_template": "text"}, "not numeric"),
    ],
)
def test_wrong_content_is_named(tmp_path, arrays, change, message):
    content = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        load_body(_write(tmp_path / "body.pkl", content))


def test_a_pickle_of_something_else_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds a list"):
        load_body(_write(tmp_path / "list.pkl", [1, 2]))


def test_missing_file_and_too_many_betas(tmp_path):
    with pytest.raises(FileNotFoundError, match="build-body"):
        load_body(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="betas has 11 numbers"):
        load_body(DEFAULT_BODY, np.zeros(11))


def test_users_own_body_is_found(tmp_path, arrays, monkeypatch):
    """Failure prevented: a user's SMPL file is ignored, or a wrong path silently gives the default body."""
    monkeypatch.setattr(smpl_files, "ASSETS", tmp_path)
    monkeypatch.delenv("EASYTUNE_BODY", raising=False)
    assert find_user_body() is None
    assert load_body().path == DEFAULT_BODY
    beside = _write(tmp_path / "SMPL_NEUTRAL.pkl", arrays)
    assert find_user_body() == beside
    named = _write(tmp_path / "mine.pkl", arrays)
    monkeypatch.setenv("EASYTUNE_BODY", str(named))
    assert load_body().path == named
    assert load_body() is load_body()
    monkeypatch.setenv("EASYTUNE_BODY", str(tmp_path / "gone.pkl"))
    with pytest.raises(FileNotFoundError, match="EASYTUNE_BODY"):
        load_body()


def test_bodies_of_every_model_and_gender_are_offered(tmp_path, arrays, monkeypatch):
    """Failure prevented: a female SMPL-X file beside the neutral SMPL one that the page never offers."""
    monkeypatch.setattr(smpl_files, "ASSETS", tmp_path / "assets")
    own = _write(tmp_path / "mine.pkl", arrays)
    for name in ("SMPL_MALE.pkl", "SMPLX_FEMALE.pkl", "SMPLH_NEUTRAL.pkl", "SMPL_OTHER.pkl"):
        _write(tmp_path / name, arrays)
    assert set(bodies_beside(own)) == {"mine", "SMPL_MALE", "SMPLX_FEMALE", "SMPLH_NEUTRAL"}
    assert next(iter(bodies_beside(own))) == "mine"
