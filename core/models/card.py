"""card.md of a checkpoint, written from its config.json alone, so the two can't disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.motion.files import atomic_write

WHAT = {
    "vae": "Motion VAE: 263 features at 20 fps to latents at 5 Hz and back.",
    "base": "Base text-to-motion model: latent diffusion on the VAE's latents, conditioned on MiniLM tokens.",
    "mdm": "MDM text-to-motion model: diffusion on the 263 features themselves, conditioned on MiniLM tokens.",
    "reward": "Reward: text-motion similarity that alignment maximises.",
    "reward-spl": "Reward, sharpened on its own retrieval failures (SPL); votes build on it.",
    "judge": "Judge: text-motion evaluator that no alignment ever sees; every figure in the README is measured by it.",
}
ALIGNED = "Aligned text-to-motion model: low-rank adapters on the denoiser, fine-tuned on the reward."
LICENCE = """\
Trained on the Bandai-Namco Research Motion Dataset, (c) Bandai Namco Research Inc., CC BY-NC 4.0
(github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset; Kobayashi et al. 2023, arXiv 2306.08861).
These weights carry its attribution and its non-commercial condition: CC BY-NC 4.0. The code is MIT."""


def write_card(folder: Path, command: str) -> None:
    """Write folder/card.md from folder/config.json; `command` is what made the checkpoint."""
    described = json.loads((folder / "config.json").read_text())
    size = (folder / "model.safetensors").stat().st_size / 1e6
    sections = [
        f"# {folder.name}",
        _what(folder.name, described["architecture"]),
        f"Architecture `{described['architecture']}`, {size:.1f} MB, float16 matrices.",
        "## How it was made",
        f"`{command}` on data/bandai-namco.npz (`python -m core prepare bandai-namco PATH`).",
        _facts(described, ("steps", "seed", "minutes", "device", "updates", "stopped", "note")),
        _table(described.get("validation") or described.get("monitors") or {}),
        _parting(described),
        "## Licence",
        LICENCE,
        "## Settings",
        "```json\n" + json.dumps(_settings(described), indent=2) + "\n```",
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    atomic_write(folder / "card.md", lambda file: file.write(text.encode()))


def _what(name: str, architecture: str) -> str:
    """What a checkpoint is: adapters are of an alignment, whatever their name; reward-b is a reward."""
    return ALIGNED if architecture == "LowRank" else WHAT.get(name) or WHAT.get(name.partition("-")[0], ALIGNED)


def _parting(described: dict[str, Any]) -> str:
    """What is said of reward and judge, of an alignment or of each that was averaged, each with its picture."""
    members = described.get("averaged", {"": described})
    told = [
        f"{_member(name, one)}{one['parting']}\n\n![Reward and judge against updates](curve{name and '-'}{name}.png)"
        for name, one in members.items()
        if one.get("parting")
    ]
    return "\n\n".join(["## Reward and judge", *told]) if told else ""


def _member(name: str, one: dict[str, Any]) -> str:
    """The heading of an alignment that was averaged."""
    facts = _facts(one, ("minutes", "updates", "note"))
    return f"### {name}\n\n`{one['command']}`\n\n{facts}\n\n" if name else ""


def _settings(described: dict[str, Any]) -> dict[str, Any]:
    """How it was trained, or how each alignment that was averaged was."""
    averaged = described.get("averaged", {})
    return {name: one.get("training", {}) for name, one in averaged.items()} or described.get("training", {})


def _facts(described: dict[str, Any], names: tuple[str, ...]) -> str:
    return "\n".join(f"- {name}: {described[name]}" for name in names if described.get(name) is not None)


def _table(values: dict[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in values.items())
    return "## Measured\n\n| on the validation split | |\n| --- | --- |\n" + rows if values else ""
