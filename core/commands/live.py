"""`python -m core live`: one step of the live loop, as the button "Refine & align" of the page does it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass

import tyro

from core.learning.step import LiveConfig, refine_and_align

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Live(LiveConfig):
    """Learn from the votes and make a new aligned version, which is then in use."""

    job: str = ""  # name of the work folder, for a program that watches it; empty: a random one
    attached: bool = False  # end when standard input ends: with the program that started this one


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Live, args=arguments, prog="python -m core live")
    if config.attached:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    version = refine_and_align(config, config.job or None)
    log.info("made %s from %s and %d votes: %s", version.name, version.parent, version.votes, version.folder)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)  # whatever the other threads are doing; the next start sweeps the work folder
