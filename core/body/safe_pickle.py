"""Reads SMPL's .pkl files without running what they say: only arrays, sparse matrices and plain containers.

A pickle is a program. `load_arrays_pickle` lets it name a short list of harmless constructors and refuses all else
before anything is called. Old SMPL files hold chumpy objects and sparse matrices; inert stand-ins keep
their state, and `as_array` takes the array out of it. No chumpy needed.

A pickle may also set attributes of what it was given, so functions are given as objects that have none.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, cast

import numpy as np

_SPARSE_CLASS = re.compile(r"scipy\.sparse(?:\._?\w+)?\.(csc|csr|coo)_(?:matrix|array)")
_NUMPY_MODULE = re.compile(r"numpy\._?core\.(multiarray|numeric)")
_PLAIN = (set, frozenset, list, dict, tuple, int, float, bool, str, complex, bytearray, object)
_BUILTINS = {cls.__name__: cls for cls in _PLAIN}
_DEEPEST = 20  # chumpy objects inside chumpy objects; more of them hold themselves


class StandIn:
    """Takes the place of any chumpy or sparse-matrix class: keeps what was pickled, computes nothing."""

    kind = "chumpy"
    args: tuple[Any, ...]  # what its class was called with
    state: dict[str, Any]

    def __new__(cls, *args: Any, **named: Any) -> StandIn:  # pickles may leave __init__ out
        made = super().__new__(cls)
        made.args, made.state = args, named
        return made

    def __setstate__(self, state: Any) -> None:
        """Attributes, or a pair of attributes and slots, either of which may be None; anything else is the array."""
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, dict):
                self.state |= part
            elif part is not None:
                self.state["x"] = part


_STAND_INS = {kind: type(f"{kind}StandIn", (StandIn,), {"kind": kind}) for kind in ("csc", "csr", "coo")}


def as_array(value: Any, depth: int = 0) -> Any:
    """The array inside a value, dense: sparse matrices filled in, chumpy's Ch opened at `x` (or a cached `r`, or what
    it was called with), chumpy's Select at `a[idxs]`. Anything else comes back as it is.

    Raises ValueError for a chumpy object without an array; what scipy raises for odd parts of a sparse matrix.
    """
    if not isinstance(value, StandIn):
        return value
    if depth > _DEEPEST:
        raise ValueError("a chumpy object holds itself")
    state = value.state
    if value.kind != "chumpy":
        return _dense_from_sparse(value.kind, state)
    for key in ("x", "r", "_cached_r", "_r"):
        if state.get(key) is not None:
            return as_array(state[key], depth + 1)
    if "a" in state and "idxs" in state:
        picked = np.asarray(as_array(state["a"], depth + 1)).ravel()[np.asarray(as_array(state["idxs"], depth + 1))]
        shape = state.get("preferred_shape")
        return picked if shape is None else picked.reshape(shape)
    if value.args and value.args[0] is not None:
        return as_array(value.args[0], depth + 1)
    raise ValueError(f"a chumpy object holds no array (its fields: {sorted(state)})")


def _dense_from_sparse(kind: str, state: dict) -> np.ndarray:
    """Checked reconstruction from the state's parts, whatever scipy version wrote it."""
    import scipy.sparse

    shape = state.get("_shape", state.get("shape"))
    if kind == "coo":
        coords = state["coords"] if "coords" in state else (state["row"], state["col"])
        matrix = scipy.sparse.coo_matrix((state["data"], coords), shape=shape)
    else:
        build = scipy.sparse.csc_matrix if kind == "csc" else scipy.sparse.csr_matrix
        matrix = build((state["data"], state["indices"], state["indptr"]), shape=shape)
        matrix.check_format(full_check=True)
    return matrix.toarray()


class _ReconstructPlain:
    """Protocol 0-1 object creation, only for the classes find_class hands out."""

    __slots__ = ()

    def __call__(self, cls: type, base: type, state: Any) -> Any:
        if isinstance(cls, type) and issubclass(cls, StandIn):
            return cls()
        if cls in _BUILTINS.values() and cls is base:
            return cls(state)
        raise pickle.UnpicklingError(f"it builds an object of {cls!r}")


class _EncodeLatin1:
    """Bytes, as Python 3 writes them in protocol 2."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str = "latin1") -> bytes:
        return text.encode("latin1")


class _FromBuffer:
    """numpy's arrays in protocol 5."""

    __slots__ = ()

    def __call__(self, *args: Any) -> np.ndarray:
        return cast(Callable[..., np.ndarray], np.zeros(1).__reduce_ex__(5)[0])(*args)


_NUMPY_FUNCTIONS = {  # the first two are C functions
    "_reconstruct": np.zeros(1).__reduce__()[0],
    "scalar": np.float64(1).__reduce__()[0],
    "_frombuffer": _FromBuffer(),
}
_RECONSTRUCT_PLAIN, _ENCODE_LATIN1 = _ReconstructPlain(), _EncodeLatin1()


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return StandIn
        if sparse := _SPARSE_CLASS.fullmatch(f"{module}.{name}"):
            return _STAND_INS[sparse[1]]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if _NUMPY_MODULE.fullmatch(module) and name in _NUMPY_FUNCTIONS:
            return _NUMPY_FUNCTIONS[name]
        if module in ("builtins", "__builtin__") and name in _BUILTINS:
            return _BUILTINS[name]
        if module in ("copy_reg", "copyreg") and name == "_reconstructor":
            return _RECONSTRUCT_PLAIN
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("_codecs", "encode"):
            return _ENCODE_LATIN1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load_arrays_pickle(path: Path, keys: Collection[str] | None = None) -> dict[str, Any]:
    """The pickled dictionary of a .pkl file (Python 2 or 3), chumpy and sparse values as dense arrays.

    keys: those that are needed, None for all; the others are left out, whatever they hold. Raises ValueError when the
    file asks for anything but arrays and plain containers, is truncated, is not a pickled dictionary, or holds no
    array where one is needed. Nothing in the file is executed.
    """
    try:
        with open(path, "rb") as file:
            content = _RestrictedUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was refused: {error}, but such a file may only hold arrays and plain containers. "
            "Nothing in it was run. Download the file again from its official source, or convert it to .npz."
        ) from None
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged stream can raise nearly anything: EOFError, IndexError, ValueError, ...
        raise ValueError(f"{path} is not a readable pickle ({type(error).__name__}: {error}). Copy it again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of arrays.")
    wanted = {str(key): value for key, value in content.items() if keys is None or str(key) in keys}
    try:
        return {key: as_array(value) for key, value in wanted.items()}
    except Exception as error:  # scipy and numpy raise a dozen kinds for odd parts
        raise ValueError(f"{path} is not readable ({type(error).__name__}: {error}). Copy it again.") from None
