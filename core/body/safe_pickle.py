"""Reads SMPL's .pkl files without running what they say: only arrays, sparse matrices and plain containers.

A pickle is a program. `load_arrays_pickle` lets it name a short list of harmless constructors and refuses all else
before anything is called. Old SMPL files hold chumpy objects; an inert stand-in keeps their state, and
`as_array` takes the array out of it. No chumpy needed.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

_SPARSE = {f"{kind}_{suffix}" for kind in ("csc", "csr", "coo") for suffix in ("matrix", "array")}
_SPARSE_MODULES = {"scipy.sparse", *(f"scipy.sparse.{m}" for k in ("csc", "csr", "coo") for m in (k, f"_{k}"))}
_NUMPY = {
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
}
_BUILTINS = {"set": set, "frozenset": frozenset, "list": list, "dict": dict, "tuple": tuple, "int": int,
             "float": float, "bool": bool, "str": str, "complex": complex, "bytearray": bytearray}  # fmt: skip


class ChumpyStandIn:
    """Takes the place of any chumpy class: keeps the pickled state, computes nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> ChumpyStandIn:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: dict = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {"x": state}


def as_array(value: Any) -> Any:
    """The plain or sparse array inside a value: chumpy's Ch holds it as `x`, older ones as `r`; Select as `a[idxs]`."""
    if not isinstance(value, ChumpyStandIn):
        return value
    for key in ("x", "r", "_cached_r", "_r"):
        if value.state.get(key) is not None:
            return as_array(value.state[key])
    if "a" in value.state and "idxs" in value.state:
        picked = np.asarray(as_array(value.state["a"])).ravel()[np.asarray(as_array(value.state["idxs"]))]
        shape = value.state.get("preferred_shape")
        return picked if shape is None else picked.reshape(shape)
    raise ValueError(f"a chumpy object holds no array (its fields: {sorted(value.state)})")


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return ChumpyStandIn
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"):
            if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
                return getattr(np, name)
            if (module.rsplit(".", 1)[-1], name) in _NUMPY:
                return super().find_class(module, name)
        if module in _SPARSE_MODULES and name in _SPARSE:
            import scipy.sparse

            return getattr(scipy.sparse, name)
        if module in ("builtins", "__builtin__") and name in _BUILTINS:
            return _BUILTINS[name]
        if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return _reconstruct_plain
        if (module, name) in (("builtins", "object"), ("__builtin__", "object")):
            return object
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them in protocol 2
            return _encode_latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _reconstruct_plain(cls: type, base: type, state: Any) -> Any:
    """Protocol 0-1 object creation, only for the classes find_class hands out."""
    if cls is ChumpyStandIn:
        return ChumpyStandIn()
    if cls in _BUILTINS.values() and cls is base:
        return cls(state)
    raise pickle.UnpicklingError(f"it builds an object of {cls!r}")


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def load_arrays_pickle(path: Path) -> dict[str, Any]:
    """The pickled dictionary of a .pkl file (Python 2 or 3), chumpy values as arrays.

    Raises ValueError when the file asks for anything but arrays and plain containers, is truncated or is not a
    pickled dictionary. Nothing in the file is executed.
    """
    try:
        with open(path, "rb") as file:
            content = _RestrictedUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was refused: {error}, but a body file may only hold arrays and plain containers. "
            "Nothing in it was run. Download the file again from its official source, or convert it to .npz."
        ) from None
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged stream can raise nearly anything: EOFError, IndexError, ValueError, ...
        raise ValueError(f"{path} is not a readable pickle ({type(error).__name__}: {error}). Copy it again.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of body arrays.")
    return {str(key): as_array(value) for key, value in content.items()}
