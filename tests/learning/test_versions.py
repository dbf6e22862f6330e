"""Versions on disk: whole or absent, immutable, chosen by one small file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.learning.versions import VersionStore


def test_a_new_version_is_listed_in_use_and_loads(versions: VersionStore, make_version: Callable[[], str]) -> None:
    """Prevents a version that is made but can't be used, or a parent that is forgotten."""
    assert versions.names() == ["base", "aligned"] and versions.sides() == ("base", "aligned")
    assert make_version() == "v1"
    assert versions.names() == ["base", "aligned", "v1"] and versions.sides() == ("base", "v1")
    version = versions.version("v1")
    assert (version.parent, version.votes, version.learnt, version.shipped) == ("aligned", 12, ("calmer arms",), False)
    ours, shipped = versions.load("v1").state_dict(), versions.load("aligned").state_dict()
    assert all(torch.equal(ours[name], shipped[name]) for name in shipped)


def test_rolling_back_and_comparing_with_the_parent(versions: VersionStore, make_version: Callable[[], str]) -> None:
    """Prevents a roll back that loses the newer version, and a comparison of a version with itself."""
    make_version(), make_version()
    assert versions.sides() == ("base", "v2")
    versions.compare_with_parent("v2")
    assert versions.sides() == ("v1", "v2")
    versions.use("v1")
    assert versions.sides() == ("aligned", "v1") and "v2" in versions.names()
    versions.use("base")
    assert versions.sides() == ("aligned", "base")
    with pytest.raises(ValueError, match="Both sides are 'v2'"):
        versions.choose("v2", "v2")
    with pytest.raises(ValueError, match="made from no other"):
        versions.compare_with_parent("base")
    with pytest.raises(ValueError, match="Version 'v9' is unknown. Choose one of base, aligned, v1, v2"):
        versions.use("v9")


def test_leftovers_are_swept_at_the_start_only_while_nobody_works(versions: VersionStore, tmp_path: Path) -> None:
    """Prevents work folders that pile up, and a page whose start deletes the work of a running job."""
    work = versions.work_folder("dead")
    work.mkdir(parents=True)
    (work / "metrics.jsonl").write_text("{}")
    with versions.lock():
        VersionStore(versions.checkpoints, tmp_path)
        assert work.exists()
    VersionStore(versions.checkpoints, tmp_path)
    assert not work.exists()


def test_half_a_version_is_none(versions: VersionStore, make_version: Callable[[], str]) -> None:
    """Prevents a folder without weights, or with a damaged config.json, from breaking the list or a choice."""
    make_version(), make_version()
    (versions.folder / "v3").mkdir()
    assert versions.names() == ["base", "aligned", "v1", "v2"]
    (versions.folder / "v2" / "config.json").write_text("{")
    assert [version.name for version in versions.versions()] == ["base", "aligned", "v1"]
    with pytest.raises(ValueError, match="config.json is damaged"):
        versions.version("v2")
    (versions.folder / "v2" / "model.safetensors").unlink()
    assert versions.sides() == versions.default


@pytest.mark.parametrize(
    "content", ["", "{", "[]", json.dumps({"shared": "base"}), json.dumps({"shared": ["base"], "own": {}})]
)
def test_damaged_choice_falls_back_to_the_default(versions: VersionStore, content: str) -> None:
    """Prevents a page that doesn't start because of one small file."""
    versions.choose("aligned", "base")
    (versions.folder / "choices.json").write_text(content)
    assert versions.sides() == ("base", "aligned")


def test_adapters_of_another_base_are_refused(versions: VersionStore, make_version: Callable[[], str]) -> None:
    """Prevents noise from adapters that were made for other weights."""
    make_version()
    path = versions.folder / "v1" / "config.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["config"]["base"], "0" * 16))
    with pytest.raises(ValueError, match="aligned from another base"):
        versions.load("v1")


def test_tastes_apart_have_versions_and_sides_of_their_own(
    versions: VersionStore, make_version: Callable[..., str]
) -> None:
    """Prevents one person's taste from being shown to, or built upon by, another who keeps theirs apart."""
    versions.keep_apart(True)
    assert make_version("job1", "ada") == "v1"
    assert versions.sides("ada") == ("base", "v1") and versions.sides("ben") == versions.sides() == ("base", "aligned")
    assert (versions.parent_for("ada"), versions.parent_for("ben")) == ("v1", "aligned")
    assert make_version("job2", "ben") == "v2" and versions.version("v2").parent == "aligned"
    versions.use("v1", "ben")
    assert versions.parent_for("ben") == "aligned", "ben's next version would start from ada's taste"
    assert [version and version.name for version in map(versions.newest, ("ada", "ben", ""))] == ["v1", "v2", None]
    versions.keep_apart(False)
    assert versions.sides("ada") == ("base", "aligned")
    assert make_version("job3") == "v3" and versions.sides("ada") == ("base", "v3")
    versions.keep_apart(True)
    assert versions.sides("ada") == ("base", "v1"), "the switch has lost what ada had in use"


def test_what_was_chosen_survives_a_restart(versions: VersionStore, tmp_path: Path) -> None:
    """Prevents switches that fall back when the program starts again."""
    versions.keep_apart(True)
    versions.learn_every(25)
    versions.choose("aligned", "base", "ada")
    choices = VersionStore(versions.checkpoints, tmp_path).choices()
    assert (choices.apart, choices.every, choices.sides("ada")) == (True, 25, ("aligned", "base"))
    with pytest.raises(ValueError, match="every=3 votes is not offered. Choose one of 0, 10, 25, 50"):
        versions.learn_every(3)


def test_adapters_keep_their_meaning_at_another_scale(versions: VersionStore, make_version: Callable[..., str]) -> None:
    """Prevents a next version that begins at another model than its parent."""
    make_version()
    start = versions.start("v1")
    scaled, adapters = start.scaled(3 * start.scale), start.adapters
    assert scaled is not None and adapters is not None
    for name in adapters:
        if name.endswith(".b"):
            a, before, after = adapters[name[:-1] + "a"], adapters[name], scaled[name]
            torch.testing.assert_close(3 * start.scale * after @ a, start.scale * before @ a)
