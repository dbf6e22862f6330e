"""The exported dataset says what the store says, in the columns others read, and comes home unchanged."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.__main__ import main
from core.body.ik import pose_from_features
from core.body.skinning import forward_joints
from core.body.smpl_files import load_body
from core.engine import Engine
from core.exports_batch import zip_exports
from core.motion.features import recover_joints
from core.preference.dataset import import_dataset, read_dataset, write_dataset
from core.preference.dataset_card import CardFacts
from core.preference.dataset_records import Records, records_of
from core.preference.details import DetailStore, VoteDetails
from core.preference.motions import MotionFiles
from core.preference.pseudonyms import Pseudonyms
from core.preference.report import PreferenceReport
from core.preference.store import PreferenceStore, default_database
from core.preference.types import Pair, Take, now
from core.settings import Settings

TAKE = Take("a person waves", 3, 40, 12, 2.5, "dpm++", "base", "0123456789abcdef", "minilm", "cpu", "0.1", "2.13", "")


def fill(store: PreferenceStore, details: DetailStore) -> None:
    """Six pairs over two prompts, three annotators, every verdict, an undo, a change of mind, details."""
    rng = np.random.default_rng(0)
    for i in range(6):
        motions = [store.save_motion(0.1 * rng.standard_normal((40, 263))) for _ in range(2)]
        left = replace(TAKE, prompt=f"prompt {i % 2}", motion_sha256=motions[0])
        right = replace(left, model_version="aligned", motion_sha256=motions[1])
        left, right = (left, right) if i % 2 else (right, left)
        store.add_pair(Pair(f"pair{i}", left, right, now()))
        for name, verdict in zip(("Ada L.", "bob", "cleo"), np.roll(["left", "right", "tie"], i), strict=True):
            store.record_vote(f"pair{i}", str(verdict), name, "0.1", response_s=1.5 + i)
    store.record_vote("pair0", "both_bad", "bob", "0.1")  # a change of mind
    store.undo_vote("pair1", "cleo")
    store.record_vote("pair2", "skip", "dan – née 走", "0.1")
    details.record(VoteDetails("pair0", "Ada L.", {"realism": "left", "style": "tie"}, 'a "comment"\nof two lines', 3))
    details.record(VoteDetails("pair0", "Ada L.", {"realism": "right"}, "better so", 4))


def open_stores(folder: Path) -> tuple[PreferenceStore, DetailStore]:
    return PreferenceStore(folder), DetailStore(default_database(folder))


def export(arena: Path, out: Path, named: bool = False) -> Path:
    """The dataset of what the arena holds now."""
    records = records_of(*open_stores(arena))
    pseudonym = None if named else Pseudonyms(default_database(arena))
    return write_dataset(records, MotionFiles(arena / "motions"), out, load_body(), pseudonym)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("arena")
    fill(*open_stores(folder))
    yield folder


@pytest.fixture(scope="module")
def records(arena: Path) -> Records:
    return records_of(*open_stores(arena))


@pytest.fixture(scope="module")
def dataset(arena: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(arena, tmp_path_factory.mktemp("out"))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def figures(records: Records) -> dict:
    return PreferenceReport.of(records.judgements()).to_dict()


def test_standing_votes_are_the_stores_own(arena: Path, records: Records) -> None:
    """Prevents two truths: the votes derived from events are those of the database's view."""
    votes = [(vote["pair_id"], vote["annotator"], vote["verdict"]) for vote in records.standing_votes()]
    store = PreferenceStore(arena)
    assert votes == [(vote.pair_id, vote.annotator, vote.verdict) for vote in store.votes()]
    assert len(records.events) == 21 and len(votes) == 18


def test_import_gives_the_same_statistics(records: Records, dataset: Path, tmp_path: Path) -> None:
    """Prevents a published dataset from which nobody gets the published figures: from the folder and from a store."""
    expected = figures(records)
    assert expected["votes"] == 17 and expected["not_blind"] == 1 and expected["krippendorff_alpha"] is not None
    assert expected["criteria"]["realism"]["aligned over base"]["losses"] == 1
    assert figures(read_dataset(dataset)) == expected
    store, details = open_stores(tmp_path / "new")
    assert import_dataset(dataset, store, details) == (6, 21)
    assert figures(records_of(store, details)) == expected
    assert import_dataset(dataset, store, details) == (0, 0)
    assert figures(records_of(store, details)) == expected
    motion = records.pairs[0].left
    assert np.array_equal(store.load_motion(motion), MotionFiles(dataset / "motions").load(motion.motion_sha256))


def test_preferences_have_trls_columns_and_paths_that_exist(records: Records, dataset: Path) -> None:
    """Prevents chosen and rejected from changing places, and Parquet that differs from JSONL."""
    rows = lines(dataset / "preferences.jsonl")
    table = pq.read_table(dataset / "preferences.parquet")
    assert table.column_names[:3] == ["prompt", "chosen", "rejected"] and table.to_pylist() == rows
    decided = [vote for vote in records.standing_votes() if vote["verdict"] in ("left", "right")]
    assert len(rows) == len(decided) > 0
    pairs = {pair.id: pair for pair in records.pairs}
    for row, vote in zip(rows, decided, strict=True):
        chosen = pairs[vote["pair_id"]].take(vote["verdict"])
        assert row["chosen"].endswith(f"{chosen.motion_sha256}.npz") and row["chosen_model_version"] in vote.values()
        assert row["prompt"] == chosen.prompt and row["chosen"] != row["rejected"]
        assert (dataset / row["chosen"]).is_file() and (dataset / row["rejected"]).is_file()


def test_names_become_pseudonyms(records: Records, arena: Path, dataset: Path, tmp_path: Path) -> None:
    """Prevents publishing who voted, where nobody asked for it."""
    texts = "".join(path.read_text() for path in dataset.rglob("*") if path.suffix in (".jsonl", ".md"))
    assert "Ada" not in texts and "cleo" not in texts
    assert len(set(re.findall("annotator-[0-9a-f]{10}", texts))) == 4
    assert b"Ada" not in (dataset / "preferences.parquet").read_bytes()
    named = export(arena, tmp_path, named=True)
    assert read_dataset(named).events[0]["annotator"] == "Ada L." and read_dataset(named).details == records.details


def test_later_exports_add_later_votes(tmp_path: Path) -> None:
    """Prevents votes that are lost because somebody else's vote on the same pair came earlier."""
    store, details = open_stores(tmp_path / "arena")
    motion = store.save_motion(np.zeros((40, 263)))
    take = replace(TAKE, motion_sha256=motion)
    store.add_pair(Pair("pair", take, replace(take, model_version="aligned"), now()))
    home = open_stores(tmp_path / "home")
    folders = []
    for name, verdict in (("anna", "left"), ("ben", "right"), ("anna", "tie")):
        details.record(VoteDetails("pair", name, {"style": verdict}))
        store.record_vote("pair", verdict, name, "0.1")
        folders.append(export(tmp_path / "arena", tmp_path / str(len(folders))))
        assert import_dataset(folders[-1], *home) == (int(len(folders) == 1), 1)
    assert figures(records_of(*home)) == figures(records_of(store, details))
    assert [vote.verdict for vote in home[0].votes()] == ["right", "tie"]
    assert [entry.criteria["style"] for entry in home[1].standing()] == ["right", "tie"]
    named = export(tmp_path / "arena", tmp_path / "named", named=True)
    for folder in (*folders, named):  # an older export, or one with other names, changes nothing
        assert import_dataset(folder, *home) == import_dataset(folder, store, details) == (0, 0)
    assert {vote.annotator for vote in store.votes()} == {"anna", "ben"}


def test_people_of_two_arenas_stay_apart(tmp_path: Path) -> None:
    """Prevents one annotator made of two people, and one person who becomes two by way of another arena."""
    for arena in ("a", "b"):
        fill(*open_stores(tmp_path / arena))
    store, details = open_stores(tmp_path / "both")
    folders = {arena: export(tmp_path / arena, tmp_path / f"{arena}-out") for arena in ("a", "b")}
    names = {arena: {event["annotator"] for event in read_dataset(folder).events} for arena, folder in folders.items()}
    assert len(names["a"] | names["b"]) == 8
    import_dataset(folders["a"], store, details)
    again = export(tmp_path / "both", tmp_path / "both-out")
    assert {event["annotator"] for event in read_dataset(again).events} == names["a"]


def test_an_arena_has_one_key(database: str, tmp_path: Path) -> None:
    """Prevents pseudonyms that change with the next export, or that anybody can compute from a name."""
    PreferenceStore(tmp_path, database)
    first, again, other = Pseudonyms(database), Pseudonyms(database), Pseudonyms(f"sqlite:///{tmp_path / 'other.db'}")
    assert first("anna") == again("anna") == first(again("anna")) != first("ben")
    assert first("anna") != other("anna") and other(first("anna")) == first("anna")


def test_exports_with_numbered_annotators_can_be_imported(dataset: Path, tmp_path: Path) -> None:
    """Prevents people counted twice where an earlier version of this program had numbered them."""
    names = list(dict.fromkeys(event["annotator"] for event in read_dataset(dataset).events))
    shutil.copytree(dataset, tmp_path / "old")
    for file in ("events.jsonl", "details.jsonl"):
        text = (dataset / file).read_text(encoding="utf-8")
        for number, name in enumerate(names, start=1):
            text = text.replace(name, f"annotator-{number:03d}")
        (tmp_path / "old" / file).write_text(text, encoding="utf-8")
    store, details = open_stores(tmp_path / "new")
    assert import_dataset(tmp_path / "old", store, details) == (6, 21)
    assert import_dataset(dataset, store, details) == (0, 0)
    assert "annotator-001" in store.answers_by_annotator()


def test_pickapic_view(dataset: Path) -> None:
    """Prevents labels of the wrong side; ties are halves, skips have no label."""
    rows = lines(dataset / "views" / "pickapic.jsonl")
    assert len(rows) == 18 and sum(not row["has_label"] for row in rows) == 1
    for row in rows:
        best = {1.0: row["motion_0_uid"], 0.0: row["motion_1_uid"]}.get(row["label_0"])
        assert not row["has_label"] or row["label_0"] + row["label_1"] == 1.0
        assert row["label_0"] == 0.5 or not row["has_label"] or row["best_motion_uid"] == best


def test_motioncritic_view_is_the_motion(dataset: Path) -> None:
    """Prevents rotations or roots in other axes: our forward kinematics gives the exported motion's joints."""
    from core.motion.rotations import rotvec_to_matrix

    rows, preferences = lines(dataset / "views" / "motioncritic.jsonl"), lines(dataset / "preferences.jsonl")
    critic, body = np.load(dataset / rows[0]["motion_better"]), load_body()
    features = MotionFiles(dataset / "motions").load(Path(preferences[0]["chosen"]).stem)
    assert critic.shape == (40, 25, 3) and critic.dtype == np.float32 and len(rows) == len(preferences)
    posed = forward_joints(body, rotvec_to_matrix(critic[:, :24]), critic[:, 24] - body.joints[0])
    np.testing.assert_allclose(posed, forward_joints(body, *pose_from_features(features, body)), atol=1e-4)
    np.testing.assert_allclose(critic[:, 24], recover_joints(features)[:, 0], atol=1e-5)


def test_card_has_licence_counts_and_figures(dataset: Path) -> None:
    """Prevents a dataset that nobody may use, or whose card counts something else."""
    card = (dataset / "README.md").read_text()
    assert card.startswith('---\npretty_name: "EasyTune Arena preferences"\nlicense: cc-by-nc-4.0\n')
    assert "| pairs shown | 6 |" in card and "| standing votes: both bad | 1 |" in card and "| annotators | 4 |" in card
    assert "Krippendorff" in card and "Bandai Namco" in card
    with pytest.raises(ValueError, match="one line each"):
        CardFacts(licence="")


def test_an_empty_store_makes_an_empty_dataset(tmp_path: Path) -> None:
    """Prevents divisions by zero, and Parquet without columns."""
    folder = export(tmp_path / "arena", tmp_path / "out")
    assert pq.read_table(folder / "preferences.parquet").column_names[:3] == ["prompt", "chosen", "rejected"]
    assert figures(read_dataset(folder))["votes"] == 0


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("events.jsonl", "{", "events.jsonl, line 1 is no record"),
        ("events.jsonl", '{"pair_id": "x"}', "pair 'x' is not in pairs.jsonl"),
        ("events.jsonl", '{"pair_id": "pair0", "kind": "bribe"}', "kind='bribe' is neither vote nor undo"),
        ("pairs.jsonl", '{"id": "pair0"}', "pairs.jsonl, line 1 is no record"),
        ("pairs.jsonl", "[]", "pairs.jsonl, line 1 is no record"),
        ("details.jsonl", '{"created": 3}', "details.jsonl, line 1 is no record"),
    ],
)
def test_damaged_datasets_are_named(dataset: Path, tmp_path: Path, name: str, line: str, message: str) -> None:
    """Prevents a traceback, or half an import, from somebody else's file."""
    for file in ("pairs.jsonl", "events.jsonl", "details.jsonl"):
        (tmp_path / file).write_text((dataset / file).read_text())
    (tmp_path / name).write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_dataset(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
        read_dataset(tmp_path)


def test_commands_export_report_and_import(arena: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents commands that say other things than the store."""
    out = str(tmp_path / "dataset")
    assert main(["export", "preferences", "--data-dir", str(arena), "--out", out]) == 0
    assert main(["report", "--data-dir", str(arena), "--out", str(tmp_path / "a")]) == 0
    assert main(["report", "--dataset", out, "--out", str(tmp_path / "b")]) == 0
    assert "aligned over base" in capsys.readouterr().out
    assert (tmp_path / "a" / "report.json").read_text() == (tmp_path / "b" / "report.json").read_text()
    assert (tmp_path / "b" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert main(["import-preferences", out, "--data-dir", str(tmp_path / "new")]) == 0
    assert PreferenceStore(tmp_path / "new").counts() == (6, 18)
    assert main(["report", "--data-dir", str(tmp_path / "none")]) == 1
    assert main(["import-preferences", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_batch_refuses_what_is_no_batch(arena: Path, tmp_path: Path) -> None:
    """Prevents an empty zip that looks like an export, and half a file after a refusal."""
    engine, target = Engine(Settings(data_dir=arena)), tmp_path / "batch.zip"
    for ids, kinds, sentence in (
        ([], ["npy"], "nothing to export"),
        (["pair0"], [], "nothing to export"),
        (["pair0"], ["fbx"], "kind='fbx' is unknown"),
        (["pair0", "nopair"], ["npy"], "Pair 'nopair' is unknown"),
    ):
        with pytest.raises(ValueError, match=sentence):
            zip_exports(engine, ids, kinds, target)
    assert not list(tmp_path.iterdir())
    with zipfile.ZipFile(zip_exports(engine, ["pair0", "pair1"], ["npy", "joints"], target)) as archive:
        assert len(archive.namelist()) == 2 * 2 * 2 + 1 and "aligned" not in archive.read("index.csv").decode()


def test_command_exports_one_all_and_files(arena: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a batch that skips motions or names models."""
    paths = ["--data-dir", str(arena), "--out", str(tmp_path / "out")]
    assert main(["export", "all", "--kinds", "bvh", "npy", *paths]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"arena-pair{i}-{side}.{kind}" for i in range(6) for side in "AB" for kind in ("bvh", "npy")}
    features = str(tmp_path / "out" / "arena-pair0-A.npy")
    assert main(["export", features, "--kinds", "glb", "npz", "--out", str(tmp_path / "one")]) == 0
    assert {path.suffix for path in (tmp_path / "one").iterdir()} == {".glb", ".npz"}
    for arguments, sentence in (
        (["export", "nopair", *paths], "Pair 'nopair' is unknown"),
        (["export", features, "--kinds", "mp4"], "mp4 shows a pair"),
        (["export", str(tmp_path / "no.npy")], "does not exist"),
    ):
        assert main(arguments) == 1 and sentence in capsys.readouterr().err
    for arguments, sentence in (
        (["export"], "nothing to export was given"),
        (["export", "all", "--kinds", "fbx"], "kinds='fbx' is unknown. Choose from mp4, glb"),
    ):
        with pytest.raises(SystemExit):  # tyro's way to refuse an option
            main(arguments)
        assert sentence in " ".join(capsys.readouterr().err.split())
