"""What a run was made from: kept in its folder and compared before anything goes on there, or replaces a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.data.mixture import SUFFIX, read_mixture


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


def refuse_to_replace(target: Path, made_here: bool, options: str) -> None:
    """ValueError, as a sentence, for a whole checkpoint folder that another run has made.

    made_here: whether a run of one's own, unfinished or not, stands behind the folder. options: how to go on.
    """
    if not made_here and (target / "config.json").is_file() and (target / "model.safetensors").is_file():
        raise ValueError(f"{target} exists already, and no run kept here has made it. {options}")
