"""What a run was made from, compared before it goes on; and no checkpoint of another run is lost to it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from core.data.mixture import SUFFIX, read_mixture

log = logging.getLogger(__name__)


def content(archive: Path) -> str:
    """First 16 hex digits of the sha256 of an archive of motions; of a mixture, with all archives that it names."""
    digest = hashlib.sha256(archive.read_bytes())
    for part in read_mixture(archive) if archive.suffix == SUFFIX else ():
        digest.update(part.read_bytes())
    return digest.hexdigest()[:16]


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from JSON: tuples are lists, paths text."""
    return json.loads(json.dumps(settings, default=str))


def differences(old: Mapping[str, Any], new: Mapping[str, Any], group: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted name -> (old, new) of each plain setting that differs; one that only one side knows is left out."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in new:
        if name not in old or old[name] == new[name]:
            continue
        if isinstance(old[name], dict) and isinstance(new[name], dict):
            found |= differences(old[name], new[name], f"{group}{name}.")
        else:
            found[group + name] = old[name], new[name]
    return found


def refuse_other_run(folder: Path, differing: Mapping[str, tuple[Any, Any]]) -> None:
    """ValueError, as a sentence, where a run in `folder` was made with something that must not change on the way."""
    for name, (old, new) in differing.items():
        raise ValueError(
            f"{folder} holds a run with {name}={old!r}, not {new!r}. "
            "Choose another name for this one, or delete that folder to start anew."
        )


def check_target(name: str, used: Collection[str]) -> None:
    """ValueError for the name of a checkpoint to write that is no folder name, or one of those it is made with."""
    if not name or name in (".", "..") or Path(name).name != name:
        raise ValueError(f"name={name!r} is no folder name. Choose one word, such as mine.")
    if name in used:
        raise ValueError(f"name={name!r} would replace what it is made with ({', '.join(used)}). Choose another name.")


def whole(checkpoint: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return (checkpoint / "config.json").is_file() and (checkpoint / "model.safetensors").is_file()


def set_aside(target: Path, made_here: bool) -> Path | None:
    """Copy a checkpoint that another run has made to <name>-before, or -before-2 ..., since this run will replace it.

    made_here: whether a run of one's own, unfinished or not, stands behind the folder; then nothing happens, nor in any
    but the first of several processes. Returns where the copy is, an earlier one of the same weights included.
    """
    if made_here or not whole(target) or os.environ.get("RANK", "0") != "0":
        return None
    weights, kept, number = (target / "model.safetensors").read_bytes(), target.with_name(f"{target.name}-before"), 1
    while whole(kept) and (kept / "model.safetensors").read_bytes() != weights:
        number += 1
        kept = target.with_name(f"{target.name}-before-{number}")
    if not whole(kept):
        unfinished = kept.with_name(f".{kept.name}.{os.getpid()}")
        shutil.copytree(target, unfinished)
        unfinished.replace(kept)
    log.info("%s will be replaced; what it holds stays as %s", target, kept)
    return kept
