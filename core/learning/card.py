"""card.md of a version that votes have made, written from its config.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.models.card import licence, origins
from core.motion.files import atomic_write


def write_card(folder: Path, checkpoints: Path) -> None:
    """Write folder/card.md from folder/config.json; checkpoints: where the model is that it was made from."""
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    live = described["live"]
    sections = [
        "# A version made by votes",
        f"Low-rank adapters on the model '{described['config']['from']}', aligned by EasyTune with a reward that has "
        f"learnt from {live['votes']} votes of {live['annotator'] or 'everyone'}. It started from '{live['parent']}'.",
        "## What the votes prefer",
        "\n".join(f"- {words}" for words in live["learnt"]) or "Nothing that is sure yet.",
        "## Measured",
        _table(described),
        "## Licence",
        licence(origins(checkpoints / described["config"]["from"])),
        "## Settings",
        "```json\n" + json.dumps(described["training"], indent=2) + "\n```",
    ]
    text = "\n\n".join(sections) + "\n"
    atomic_write(folder / "card.md", lambda file: file.write(text.encode()))


def _table(described: dict[str, Any]) -> str:
    live = described["live"]
    values = {
        "made (UTC)": live["created"],
        "updates": described["updates"],
        "stopped by": described["stopped"],
        "pair accuracy on held-out votes": live["pair_accuracy"],
        "... of the reward without votes": live["base_accuracy"],
        **{f"{name} on held-out prompts": value for name, value in described["monitors"].items()},
        **{f"{phase} done after, s": seconds for phase, seconds in live["seconds"].items()},
    }
    rows = "".join(f"| {name} | {_show(value)} |\n" for name, value in values.items() if value is not None)
    return f"| | |\n| --- | --- |\n{rows}"


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
