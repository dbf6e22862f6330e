"""Cards tell the truth about checkpoints of any name: what it is, whose data and licence, what somebody noted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.models.card import write_card
from core.settings import ROOT

ALIGNED = "Aligned text-to-motion model"


def card(folder: Path, command: str = "make it", **described) -> str:
    """The card of a folder whose config.json says this."""
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text(json.dumps({"config": {}, **described}))
    write_card(folder, command)
    return (folder / "card.md").read_text()


@pytest.mark.parametrize("name", ["vae", "base", "mdm", "reward", "reward-b", "reward-spl", "judge", "aligned"])
def test_shipped_cards_are_what_their_config_tells(name: str, tmp_path: Path) -> None:
    """Prevents a shipped card that says something else than the program would write today."""
    folder = tmp_path / name
    shutil.copytree(ROOT / "checkpoints" / name, folder)
    shipped = (folder / "card.md").read_text()
    write_card(folder, shipped.split("## How it was made\n\n`")[1].split("`")[0])
    assert (folder / "card.md").read_text() == shipped


@pytest.mark.parametrize(
    ("name", "described", "what"),
    [
        ("my-base", {"architecture": "Denoiser"}, "Base text-to-motion model"),
        ("mine", {"architecture": "Denoiser", "from": "base"}, f"{ALIGNED}: the whole denoiser, fine-tuned"),
        ("mdm-aligned", {"architecture": "Mdm", "from": "mdm"}, f"{ALIGNED}: the whole denoiser of mdm, fine-tuned"),
        ("mdm-a", {"architecture": "LowRank", "config": {"from": "mdm"}}, f"{ALIGNED}: low-rank adapters on the denoi"),
        ("base", {"architecture": "RewardModel"}, "Reward: text-motion similarity"),
        ("sharp", {"architecture": "RewardModel", "training": {"Refine": {}}}, "Reward, sharpened on its own"),
    ],
)  # fmt: skip
def test_what_it_is_does_not_hang_on_its_name(name: str, described: dict, what: str, tmp_path: Path) -> None:
    assert f"# {name}\n\n{what}" in card(tmp_path / name, **described)


def test_data_and_licence_are_those_it_was_trained_on(tmp_path: Path) -> None:
    """Prevents Bandai-Namco's licence on weights of other data, and its loss where the base was trained on it."""
    data = {"TrainMdm": {"data": {"archive": "data/humanml3d.npz"}}}
    own = card(tmp_path / "mdm", "python -m core train mdm", architecture="MdmDiffusion", training=data)
    assert "`python -m core train mdm` on data/humanml3d.npz.\n" in own and "Bandai" not in own
    assert "The licence of data/humanml3d.npz holds for these weights too." in own
    card(tmp_path / "base", architecture="Denoiser", training={"T": {"data": {"archive": "data/bandai-namco.npz"}}})
    both = card(tmp_path / "a", architecture="LowRank", training={"archive": "data/humanml3d.npz"})
    assert "CC BY-NC 4.0" in both and "The licence of data/humanml3d.npz holds" in both
    card(tmp_path / "mld", architecture="MldDiffusion", imported="mld")
    of_published = card(tmp_path / "b", architecture="LowRank", config={"from": "mld"}, training={"archive": "x.npz"})
    assert "The licence of the published mld weights holds" in of_published and "Bandai" not in of_published
    (tmp_path / "mix.json").write_text(json.dumps({"sets": {"bandai-namco.npz": 1, "bvh.npz": 1}}))
    mixed = card(
        tmp_path / "c", architecture="Judge", training={"T": {"data": {"archive": str(tmp_path / "mix.json")}}}
    )
    assert "CC BY-NC 4.0" in mixed and f"The licence of {tmp_path / 'bvh.npz'} holds" in mixed


def test_notes_are_a_section_of_the_card(tmp_path: Path) -> None:
    """Prevents an explanation by hand from being lost whenever the card is written anew."""
    assert "## Notes" not in card(tmp_path / "base", architecture="Denoiser")
    (tmp_path / "base" / "notes.md").write_text("DRaFT-1 wins at equal time, because ...\n", encoding="utf-8")
    written = card(tmp_path / "base", architecture="Denoiser")
    assert "\n\n## Notes\n\nDRaFT-1 wins at equal time, because ...\n\n## Licence" in written
