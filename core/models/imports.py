"""Published checkpoints -> ours: nothing in the file is run, sizes are read from the shapes, keys checked one by one.

A torch file is read with weights_only, which builds tensors and plain containers and refuses all else. The classes
carry the published names, so a key is either known or named in the error.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.models.imports_sizes import ImportOptions, build_model, check_text
from core.motion.files import load_numbers

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]
MOST_NAMED = 40  # keys of one sort that an error lists


@dataclass(frozen=True)
class Kind:
    """What a published file of one kind looks like. optional: first words of entries that belong to other software."""

    inside: str  # attribute of our module that takes the keys, "" for the module itself
    optional: tuple[str, ...]
    networks: Mapping[str, str]  # prefix of a network -> a key by which a file of that network alone is known


_LATENT = Kind(
    inside="",
    optional=("text_encoder.", "t2m_textencoder.", "t2m_moveencoder.", "t2m_motionencoder.", "denoiser.mem_pos."),
    networks={"vae.": "skel_embedding.weight", "denoiser.": "time_embedding.linear_1.weight"},
)
KINDS: dict[str, Kind] = {
    "mld": _LATENT,
    "motionlcm": _LATENT,
    "mdm": Kind("denoiser", ("clip_model.",), {}),
    "spm": Kind("spm", ("clip.",), {}),
    "t2m-evaluator": Kind("evaluator", ("opt_", "epoch", "iter", "total_it"), {}),
}


def import_weights(
    kind: str, files: Sequence[Path], statistics: Path | None = None, options: ImportOptions | None = None
) -> nn.Module:
    """The frozen module of published files, in eval mode; see core.models.imports_sizes for its class.

    files: one file, or several that hold one network each. statistics: folder with the Mean.npy and Std.npy that the
    weights were trained with; None leaves mean 0 and spread 1. Raises FileNotFoundError, and ValueError for an unknown
    kind, a damaged file, one that asks for code, one whose keys don't fit, naming every such key, and one that reads
    texts of another encoder.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown. Choose one of {', '.join(KINDS)}.")
    found: Tensors = {}
    for file in files:
        found |= _named(read_tensors(file), KINDS[kind])
    names = " + ".join(str(file) for file in files)
    what = f"{names} is no {kind} checkpoint"
    try:
        model = build_model(kind, found, options or ImportOptions())
    except ValueError as error:  # sizes that can't belong together
        raise ValueError(f"{what}: {error}") from None
    target = model.get_submodule(KINDS[kind].inside)
    statistics_keys = {"feature_mean", "feature_std"}
    expected = {k: v.shape for k, v in target.state_dict().items() if k not in statistics_keys}
    check_keys(found, expected, what)
    check_text(model, names)
    target.load_state_dict({k: v.float() for k, v in found.items()}, strict=False)
    if statistics is not None:
        set_statistics(model, *read_statistics(statistics))
    return model.eval().requires_grad_(False)


def read_tensors(path: Path) -> dict[str, Any]:
    """Flat content of a .safetensors file or of a torch file (.ckpt, .pt, .tar ...), wrappers taken off.

    Nested dictionaries become dotted keys. Raises FileNotFoundError and ValueError; nothing in the file is executed.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {problem}. Give the path of a downloaded checkpoint file.")
    content: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary of weights.")
    wrappers = ("state_dict", "model_avg", "model")  # Lightning; MDM's averaged weights come before the others
    inside = [content[name] for name in wrappers if isinstance(content.get(name), Mapping)]
    flat = _flatten(inside[0] if inside else content)
    shared = all(key.startswith("module.") for key in flat)  # a model that was wrapped for several GPUs
    return {key.removeprefix("module."): value for key, value in flat.items()} if shared else flat


def _flatten(content: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        flat |= _flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut ({error}). Download it again.") from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # PyTorch asks for an issue about pickles that are refused right after
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):  # out of a page of advice
            raise ValueError(
                f"{path} was refused: it asks for {named[1]}, but a checkpoint may only hold tensors and "
                "plain containers. Nothing in it was run. Take the file from its source; if you trust it, keep "
                "only its 'state_dict' and save that as .safetensors."
            ) from None
        raise ValueError(
            f"{path} is damaged or cut, or no file of torch.save; nothing in it was run. Download it again."
        ) from None
    except Exception as error:  # a cut file raises RuntimeError, EOFError, OSError, KeyError ...
        raise ValueError(f"{path} is damaged or cut ({type(error).__name__}). Download it again.") from None


def _named(content: dict[str, Any], kind: Kind) -> Tensors:
    """Without what belongs to other software; a network that came alone gets its prefix."""
    kept = {k: v for k, v in content.items() if not k.startswith(kind.optional)}
    if left_out := len(content) - len(kept):
        log.info("%d entries left out: text encoder, evaluator or optimiser, not part of the model", left_out)
    if kind.networks and not any(key.startswith(tuple(kind.networks)) for key in kept):
        alone = [prefix for prefix, known_by in kind.networks.items() if known_by in kept]
        return {f"{prefix}{key}": value for prefix in alone[:1] for key, value in kept.items()} or kept
    return kept


def check_keys(found: Mapping[str, Any], expected: Mapping[str, torch.Size], what: str) -> None:
    """One ValueError that names every unknown, missing or mis-shaped key; `what` is its beginning.

    Where not one key is known, the first of each side is enough: it is a file of another kind.
    """
    if found and not any(key in expected for key in found):
        raise ValueError(
            f"{what}: none of its {len(found)} keys ({next(iter(found))} ...) is one of the {len(expected)} needed "
            f"({next(iter(expected))} ...). Choose the right kind of file."
        )
    wrong = {
        k: f"{k} is {_shape(found[k])}, needed {tuple(shape)}"
        for k, shape in expected.items()
        if k in found and _shape(found[k]) != tuple(shape)
    }
    unfit = [k for k in expected if k in found and k not in wrong and not bool(torch.isfinite(found[k].float()).all())]
    sorts = {
        "unknown": [k for k in found if k not in expected],
        "missing": [k for k in expected if k not in found],
        "of another shape": list(wrong.values()),
        "not finite": unfit,
    }
    problems = [f"{len(keys)} {sort}: {_list(keys)}" for sort, keys in sorts.items() if keys]
    if problems:
        raise ValueError(f"{what}. Of {len(expected)} keys {'; '.join(problems)}. Choose the right kind of file.")


def _shape(value: Any) -> Any:
    """The shape of a tensor of plain numbers; of anything else, sparse and complex tensors too, what it is."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    plain = value.layout == torch.strided and not (value.is_complex() or value.is_quantized or value.is_meta)
    return tuple(value.shape) if plain else f"a tensor of {value.dtype} and {value.layout}"


def _list(keys: Sequence[str]) -> str:
    rest = len(keys) - MOST_NAMED
    return ", ".join(keys[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def read_statistics(folder: Path) -> tuple[Tensor, Tensor]:
    """Mean (D,) and spread (D,) from Mean.npy and Std.npy, as datasets in the layout of HumanML3D have them.

    Raises FileNotFoundError, and ValueError for files that can't be read, arrays that don't fit or a spread that is not
    positive.
    """
    arrays = []
    for name in ("Mean.npy", "Std.npy"):
        path = next((p for p in (folder / name, folder / name.lower()) if p.is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"{folder / name} is missing. Give the folder with the data's Mean.npy and Std.npy."
            )
        arrays.append(load_numbers(path).astype(np.float32).ravel())
    mean, std = arrays
    if mean.shape != std.shape or not np.isfinite(mean).all() or not (np.isfinite(std) & (std > 0)).all():
        raise ValueError(f"{folder}: Mean.npy and Std.npy must be of one length, finite, and Std.npy positive.")
    return torch.from_numpy(mean), torch.from_numpy(std)


def set_statistics(model: nn.Module, mean: Tensor, std: Tensor) -> None:
    """What the model subtracts from features and divides them by; ValueError for another length."""
    for name, value in (("feature_mean", mean), ("feature_std", std)):
        own = model.get_buffer(name)
        if own.shape != value.shape:
            raise ValueError(
                f"the statistics have {len(value)} features, the model {len(own)}. Give those of its data."
            )
        own.copy_(value)
