"""One step of the live loop on tiny models: votes in, a whole version out, or nothing at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.align.config import GuardConfig
from core.learning.progress import Progress, fraction, read_rows
from core.learning.step import LiveConfig, refine_and_align
from core.learning.versions import VersionStore
from core.models.checkpoint import save_checkpoint
from core.models.mdm import MdmConfig
from core.models.mdm_diffusion import MdmDiffusion, MdmDiffusionConfig
from core.preference.store import PreferenceStore
from core.text.features import TextFeatures
from tests.learning.conftest import QUICK


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A step sets the number of threads of its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def config(live_checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveConfig:
    monkeypatch.setattr("os.nice", lambda _: 0)  # what gives way once can't take it back
    return LiveConfig(data_dir=tmp_path, checkpoints=live_checkpoints, device="cpu", held_out_prompts=2, align=QUICK)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, locks aside."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_votes_become_a_version_with_parent_votes_and_card(
    config: LiveConfig, versions: VersionStore, voted: PreferenceStore
) -> None:
    """Prevents a version that can't be told from another, or does not differ from its parent."""
    version = refine_and_align(config, "job")
    assert (version.name, version.parent, version.votes, version.annotator) == ("v1", "aligned", 12, "")
    assert versions.sides() == ("base", "v1") and versions.made_by("job") == version
    assert version.monitors and version.monitors["distance"] > 0
    ours, before = versions.load("v1").state_dict(), versions.load("aligned").state_dict()
    assert any(not torch.equal(ours[name], before[name]) for name in before)
    assert "12 votes of everyone" in (version.folder / "card.md").read_text()
    assert not list(versions.folder.glob(".work-*")) and not (version.folder / "align").exists()
    assert refine_and_align(config).parent == "v1"


def test_the_curves_begin_at_the_base_and_move(config: LiveConfig, voted: PreferenceStore) -> None:
    """Prevents a page without curves, or with curves that have nothing to be compared with."""
    rows = read_rows(refine_and_align(config).folder)
    for figure in ("held_out_reward_0", "held_out_distance", "held_out_diversity"):
        assert [row["done"] for row in rows if figure in row] == [0.0, 0.5, 1.0]
        assert len({row[figure] for row in rows if figure in row}) == 3
    assert next(row["held_out_distance"] for row in rows if "held_out_distance" in row) == 0.0
    assert any("accuracy" in row for row in rows) and fraction(rows) == 1.0


def test_each_taste_learns_from_its_own_votes(
    config: LiveConfig, versions: VersionStore, voted: PreferenceStore
) -> None:
    """Prevents a head that mixes the votes of two people who keep their tastes apart."""
    versions.keep_apart(True)
    made = {name: refine_and_align(replace(config, annotator=name, min_votes=4)) for name in ("ada", "ben")}
    assert {name: version.votes for name, version in made.items()} == {"ada": 8, "ben": 4}
    assert {version.parent for version in made.values()} == {"aligned"}
    assert [versions.sides(name)[1] for name in ("ada", "ben", "")] == ["v1", "v2", "aligned"]
    heads = [(version.folder / "reward" / "model.safetensors").read_bytes() for version in made.values()]
    assert heads[0] != heads[1]


def test_too_few_votes_are_one_sentence_and_leave_nothing(
    config: LiveConfig, versions: VersionStore, voted: PreferenceStore
) -> None:
    """Prevents a version that has learnt from nothing."""
    before = contents(versions.folder)
    with pytest.raises(ValueError, match="There are 4 votes of 'ben' to learn from, 5 are needed. Vote more."):
        refine_and_align(replace(config, annotator="ben"))
    assert contents(versions.folder) == before and versions.sides() == ("base", "aligned")


def test_a_limit_broken_at_once_makes_no_version(
    config: LiveConfig, versions: VersionStore, voted: PreferenceStore
) -> None:
    """Prevents a version that is its parent under another name."""
    before = contents(versions.folder)
    strict = GuardConfig(monitor_every=1, max_distance=0.0)
    with pytest.raises(ValueError, match="No version was made: distance to base"):
        refine_and_align(replace(config, align=replace(QUICK, guards=strict)))
    assert contents(versions.folder) == before


def test_only_one_step_at_a_time(config: LiveConfig, versions: VersionStore, voted: PreferenceStore) -> None:
    """Prevents two jobs, of two servers perhaps, that make the same version."""
    with versions.lock(), pytest.raises(ValueError, match="A version is already being made"):
        refine_and_align(config)


def test_a_version_with_an_encoder_of_its_own_learns_too(
    config: LiveConfig, versions: VersionStore, voted: PreferenceStore, tmp_path: Path
) -> None:
    """Prevents captions in MiniLM's features for a model that reads another encoder."""
    torch.manual_seed(0)
    network = MdmConfig(width=16, ff_width=16, layers=1, heads=2, text_width=512, mask_frames=True)
    model = MdmDiffusion(MdmDiffusionConfig(network, text_encoder="clip-vit-base-patch32"))
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(config.checkpoints, checkpoints)
    save_checkpoint(checkpoints / "aligned", model, {})
    asked: list[str] = []

    class Clip:
        name = "clip-vit-base-patch32"

        def encode(self, captions: list[str]) -> TextFeatures:
            asked.extend(captions)
            tokens = torch.ones(len(captions), 2, 512)
            return TextFeatures(tokens, tokens[..., 0] > 0, tokens[:, 0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.models.checkpoint.load_text_encoder", lambda *_: Clip())
        version = refine_and_align(replace(config, checkpoints=checkpoints))
    assert version.parent == "aligned" and version.monitors and "a person bows" in asked


def test_settings_that_can_make_no_version_are_one_sentence(config: LiveConfig) -> None:
    """Prevents a division by zero, and a diversity of one motion, which stops every step."""
    with pytest.raises(ValueError, match="align.lora_rank=0: a version is kept as adapters. Set --align.lora-rank to"):
        replace(config, align=replace(QUICK, lora_rank=0))
    for count in (1, -1):
        with pytest.raises(ValueError, match=f"held_out_prompts={count} must be 2 or more"):
            replace(config, held_out_prompts=count)


def test_progress_is_readable_while_it_is_written(tmp_path: Path) -> None:
    """Prevents a page that fails on half a line, and a bar that runs backwards."""
    assert read_rows(tmp_path) == [] and fraction([]) == 0.0
    with Progress(tmp_path) as progress:
        progress.report("load", 1.0)
        progress.report("align", 0.5, reward=0.25)
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"phase": "align"})[:8])
            file.flush()
        rows = read_rows(tmp_path)
    assert [row["phase"] for row in rows] == ["load", "align"] and rows[1]["reward"] == 0.25
    assert fraction(rows[:1]) < fraction(rows) < 1.0
