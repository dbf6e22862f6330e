"""card.md of a checkpoint, written from its config.json, so the two can't disagree, and from notes.md beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.data.captioned import is_prepared
from core.data.mixture import SUFFIX, read_mixture
from core.models.lineage import aligned_from
from core.motion.files import atomic_write

WHAT = {  # architecture -> what a checkpoint of it is, where nothing else tells
    "MotionVae": "Motion VAE: 263 features at 20 fps to latents at 5 Hz and back.",
    "Denoiser": "Base text-to-motion model: latent diffusion on the VAE's latents, conditioned on MiniLM tokens.",
    "MdmDiffusion": "MDM text-to-motion model: diffusion on the 263 features themselves, conditioned on MiniLM tokens.",
    "RewardModel": "Reward: text-motion similarity that alignment maximises.",
    "LatentReward": "Noise-aware reward: text-motion similarity of the VAE's latents at any noise level.",
    "Judge": (
        "Judge: text-motion evaluator that no alignment ever sees; R-precision, MM-Dist, FID and Diversity in the "
        "README are its."
    ),
}
REFINED = "Reward, sharpened on its own retrieval failures (SPL); votes build on it."
BANDAI_NAMCO = "bandai-namco"
LICENCE = """\
Trained on the Bandai-Namco Research Motion Dataset, (c) Bandai Namco Research Inc., CC BY-NC 4.0
(github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset; Kobayashi et al. 2023, arXiv 2306.08861).
These weights carry its attribution and its non-commercial condition: CC BY-NC 4.0. The code is MIT."""
OTHER_LICENCE = "The licence of {} holds for these weights too. The code is MIT."


def write_card(folder: Path, command: str) -> None:
    """Write folder/card.md from folder/config.json; `command` is what made the checkpoint.

    folder/notes.md, if somebody has written one, becomes its section "Notes": what figures mean, what was tried.
    """
    described = json.loads((folder / "config.json").read_text())
    size = (folder / "model.safetensors").stat().st_size / 1e6
    notes = folder / "notes.md"
    sections = [
        f"# {folder.name}",
        _what(described),
        f"Architecture `{described['architecture']}`, {size:.1f} MB, float16 matrices.",
        "## How it was made",
        f"`{command}`{_data(described)}.",
        "\n".join(f"- {name} there: `{made}`" for name, made in described.get("means", {}).items()),
        _facts(described, ("steps", "seed", "minutes", "device", "updates", "stopped", "note")),
        _table(described.get("validation") or described.get("monitors") or {}),
        _parting(described),
        "## Notes\n\n" + notes.read_text(encoding="utf-8").strip() if notes.is_file() else "",
        "## Licence",
        licence(origins(folder)),
        "## Settings",
        "```json\n" + json.dumps(_settings(described), indent=2) + "\n```",
    ]
    text = "\n\n".join(section for section in sections if section) + "\n"
    atomic_write(folder / "card.md", lambda file: file.write(text.encode()))


def _what(described: dict[str, Any]) -> str:
    """What a checkpoint is, by its architecture and what it says it was made from, whatever its name."""
    base = aligned_from(described)
    if base is not None:
        trained = (
            "low-rank adapters on the denoiser" if described["architecture"] == "LowRank" else "the whole denoiser"
        )
        return f"Aligned text-to-motion model: {trained}{f' of {base}' * (base != 'base')}, fine-tuned on the reward."
    if "Refine" in described.get("training", {}):
        return REFINED
    return WHAT.get(described["architecture"], "")


def _archives(described: dict[str, Any]) -> list[str]:
    """Archives of motions that the settings of a training, or of each alignment that was averaged, name."""
    members = described.get("averaged", {"": described}).values()
    trainings = [member.get("training", {}) for member in members]
    found = [training.get("archive") for training in trainings]
    parts = [part for training in trainings for part in training.values() if isinstance(part, dict)]
    found += [part["data"].get("archive") for part in parts if "data" in part]
    return list(dict.fromkeys(str(archive) for archive in found if archive))


def _data(described: dict[str, Any]) -> str:
    archives = _archives(described)
    hint = f" (`python -m core prepare {BANDAI_NAMCO} PATH`)" if archives == [f"data/{BANDAI_NAMCO}.npz"] else ""
    return f" on {', '.join(archives)}{hint}" if archives else ""


def origins(folder: Path) -> list[str]:
    """What the weights of a checkpoint folder come from: archives of motions, published weights; its base's included.

    A mixture counts as the archives it names, as long as it is there.
    """
    described = json.loads((folder / "config.json").read_text())
    found = [f"the published {described['imported']} weights"] if "imported" in described else []
    for archive in _archives(described):
        mixed = archive.endswith(SUFFIX) and Path(archive).is_file()
        found += map(str, read_mixture(Path(archive))) if mixed else [archive]
    base = folder.parent / (aligned_from(described) or "")
    if base != folder.parent and (base / "config.json").is_file():
        found += origins(base)
    return list(dict.fromkeys(found))


def licence(origins: Sequence[str]) -> str:
    """What licence weights of these origins stand under."""
    others = [name for name in origins if not _is_bandai_namco(Path(name))]
    told = [LICENCE] if len(others) < len(origins) else []
    return "\n\n".join([*told, *(OTHER_LICENCE.format(name) for name in others)]) or OTHER_LICENCE.format("its data")


def _is_bandai_namco(archive: Path) -> bool:
    """By its name, or because it holds clips: all other data is prepared with captions of its own."""
    return BANDAI_NAMCO in archive.stem or (archive.is_file() and not is_prepared(archive))


def _parting(described: dict[str, Any]) -> str:
    """What is said of reward and judge, of an alignment or of each that was averaged, each with its picture."""
    members = {"": described, **described.get("averaged", {})}
    told = [
        f"{_member(name, one)}{one['parting']}\n\n![Reward and judge](curve{name and '-'}{name}.png)"
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
