"""`python -m core prepare bandai-namco PATH`: dataset -> data/bandai-namco.npz."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core.body.smpl_files import load_body
from core.commands.console import ProgressLine
from core.data.prepare import prepare_bandai

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepare:
    """Turn a motion dataset into one compact archive: poses on the default body, labels, splits."""

    dataset: Annotated[Literal["bandai-namco"], tyro.conf.Positional]
    path: Annotated[Path, tyro.conf.Positional]  # the unpacked dataset or its .tar.xz
    out: Path = Path("data/bandai-namco.npz")


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Prepare, args=arguments, prog="python -m core prepare")
    log.info("%s", prepare_bandai(config.path, config.out, load_body().joints, ProgressLine("reading")))
