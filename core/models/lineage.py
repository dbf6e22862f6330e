"""Which model a checkpoint was aligned from, and that one from which; read from config.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def aligned_from(described: Mapping[str, Any]) -> str | None:
    """The folder of the model that an alignment began with, by its config.json; None for anything else."""
    if described.get("architecture") == "LowRank":
        return described.get("config", {}).get("from", "base")
    return described.get("from")


def lineage(checkpoints: Path, version: str) -> list[str]:
    """A model's folder and those below checkpoints that it was aligned from, the nearest first.

    It ends where a folder can't be read. ValueError where it goes round: such a model can't be loaded.
    """
    names: list[str] = []
    following: str | None = version
    while following:
        if following in names:
            told = " from ".join([*names, following])
            raise ValueError(f"{checkpoints / version} goes round: {told}. Put back the folder that was replaced.")
        names.append(following)
        try:
            following = aligned_from(json.loads((checkpoints / following / "config.json").read_text()))
        except (OSError, ValueError):
            following = None
    return names
