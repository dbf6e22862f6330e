"""`python -m core refine`: SPL on a shipped reward, and on votes; a table of retrieval before and after."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping

import tyro

from core.align.processes import leave_together
from core.commands.console import ProgressLine
from core.motion.files import atomic_write
from core.train.refine import Figures, Refine, refine_reward
from core.train.run_record import set_aside

log = logging.getLogger(__name__)
ROWS = {
    "plain_1": "R@1 (pools of 32, no meaning twice)",
    "near_1": "near-miss R@1 (pools of 6, the same actions, as drawn)",
    "edited_1": "near-miss R@1 (pools of 6, one motion and edits of style, side, order)",
}


def main(arguments: list[str]) -> None:
    """Parse, run, print the table and write it beside the weights as retrieval.json."""
    config = tyro.cli(Refine, args=arguments, prog="python -m core refine")
    set_aside(config.folder, made_here=any(config.data.runs.glob(f"refine-{config.folder.name}*/state.pt")))
    command = None if config.database else shlex.join(["python", "-m", "core", "refine", *arguments])
    report = refine_reward(config, ProgressLine("refining"), command)  # without a database's URL and its password
    path = config.folder / "retrieval.json"
    atomic_write(path, lambda file: file.write(json.dumps(report, indent=2).encode()))
    log.info("wrote %s", config.folder)
    print(to_markdown(report))
    leave_together()


def to_markdown(report: Mapping[str, Figures]) -> str:
    """split -> before, after -> figures, as one table."""
    lines = ["| text -> motion | before | after | change, points |", "| --- | ---: | ---: | ---: |"]
    for split, figures in report.items():
        for name in figures["before"]:
            before, after = figures["before"][name], figures["after"][name]
            lines.append(f"| {split}: {ROWS[name]} | {before:.3f} | {after:.3f} | {100 * (after - before):+.1f} |")
    return "\n".join(lines)
