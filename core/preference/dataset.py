"""Preference data as a folder that others can train on, and back.

    README.md                   dataset card: licence, counts, columns, figures
    preferences.jsonl, .parquet prompt, chosen, rejected (TRL's names; paths of motions) with provenance
    pairs.jsonl                 what was shown, with all that made it
    events.jsonl                every vote and every undo, as recorded
    details.jsonl               answers to criteria, comments, plays
    motions/ab/abcd....npz      features (F, 263) float32, named by their SHA-256
    views/                      the same votes in the columns of Pick-a-Pic and MotionCritic

pairs, events and details are the whole truth: `read_dataset` needs no other file, and gives the same statistics.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core.body.ik import pose_from_features
from core.body.smpl_files import Body
from core.motion.files import atomic_write
from core.preference.dataset_card import CardFacts, dataset_card
from core.preference.dataset_records import Records, motion_names, pair_from_json, pair_to_json, records_of, renamed
from core.preference.dataset_views import (
    PREFERENCE_COLUMNS,
    motioncritic_motion,
    motioncritic_path,
    motioncritic_rows,
    pickapic_rows,
    preference_rows,
)
from core.preference.details import DetailStore, VoteDetails
from core.preference.motions import MotionFiles
from core.preference.store import PreferenceStore, utc
from core.preference.types import Take, check_annotator, check_verdict

Progress = Callable[[int, int], object]  # motions done, motions in all
Event = Mapping[str, Any]  # columns of vote_events by name
Entry = TypeVar("Entry")


def write_dataset(
    records: Records,
    motions: MotionFiles,
    folder: Path,
    body: Body,
    pseudonym: Callable[[str], str] | None,
    facts: CardFacts | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the folder and return it; files of an earlier export are replaced, each whole.

    body: what MotionCritic's rotations are of. pseudonym: core.preference.pseudonyms.Pseudonyms, or None to publish the
    annotators' names. FileNotFoundError where a motion is missing; the card is written last, so a folder with a card is
    complete.
    """
    records = renamed(records, pseudonym) if pseudonym else records
    _write_motions(records, motions, folder, body, progress)
    rows = preference_rows(records)
    _write_lines(folder / "pairs.jsonl", map(pair_to_json, records.pairs))
    _write_lines(folder / "events.jsonl", ({**e, "created": e["created"].isoformat()} for e in records.events))
    _write_lines(folder / "details.jsonl", map(_details_to_json, records.details))
    _write_lines(folder / "preferences.jsonl", rows)
    _write_parquet(folder / "preferences.parquet", rows)
    _write_lines(folder / "views" / "pickapic.jsonl", pickapic_rows(records))
    _write_lines(folder / "views" / "motioncritic.jsonl", motioncritic_rows(records))
    card = dataset_card(records, len(rows), facts or CardFacts(), named=pseudonym is None)
    atomic_write(folder / "README.md", lambda file: file.write(card.encode()))
    return folder


def read_dataset(folder: Path) -> Records:
    """The records of an exported folder.

    FileNotFoundError where a file is missing; ValueError, with file and line, for anything that is not a record.
    """
    pairs = tuple(_read_lines(folder / "pairs.jsonl", pair_from_json))
    known = {pair.id for pair in pairs}
    events = tuple(_read_lines(folder / "events.jsonl", lambda row: _event_from_json(row, known)))
    details = tuple(_read_lines(folder / "details.jsonl", _details_from_json))
    return Records(pairs, events, details)


def import_dataset(folder: Path, store: PreferenceStore, details: DetailStore) -> tuple[int, int]:
    """Add what an exported folder holds to a store; returns how many pairs and events were new.

    Of what an annotator said to a pair only what is newer than the store's last word is added: importing twice, or
    again after a crash, changes nothing, a later export adds the later votes, an older one supersedes none. Who is
    stored under another name, as after an export with names, keeps that one.
    Raises as read_dataset, and FileNotFoundError or ValueError where a motion is missing or not what its name says.
    """
    records, files, stored = read_dataset(folder), MotionFiles(folder / "motions"), records_of(store, details)
    known = {pair.id for pair in stored.pairs}
    new = [pair for pair in records.pairs if pair.id not in known]
    for name in motion_names(new):
        store.motions.save(files.load(name))
    for pair in new:
        store.add_pair(pair)
    names = _stored_names(records.events, stored.events)
    records = renamed(records, lambda name: names.get(name, name))
    details.record(*_newer(records.details, stored.details, vars))
    events = _newer(records.events, stored.events, dict)
    store.add_events(events)
    return len(new), len(events)


def _stored_names(events: Sequence[Event], stored: Sequence[Event]) -> dict[str, str]:
    """Name in a dataset -> name in the store, of people who are there under another: the same event tells them."""
    columns = ("pair_id", "kind", "verdict", "created", "response_s")

    def content(event: Event) -> tuple[Any, ...]:
        return tuple(event.get(column) for column in columns)

    stored_name = {content(event): event["annotator"] for event in stored}
    present = {event["annotator"] for event in events}
    found = ((event["annotator"], stored_name.get(content(event))) for event in events)
    return {name: known for name, known in found if known is not None and known not in present}


def _newer(given: Sequence[Entry], stored: Sequence[Entry], fields: Callable[[Entry], Event]) -> list[Entry]:
    """The entries made after the last stored one of their annotator on their pair."""

    def who(entry: Entry) -> tuple[str, str]:
        return fields(entry)["pair_id"], fields(entry)["annotator"]

    last: dict[tuple[str, str], datetime] = {}
    for entry in stored:
        last[who(entry)] = max(fields(entry)["created"], last.get(who(entry), fields(entry)["created"]))
    return [entry for entry in given if who(entry) not in last or fields(entry)["created"] > last[who(entry)]]


def _write_motions(records: Records, motions: MotionFiles, folder: Path, body: Body, progress: Progress | None) -> None:
    """Copy the features, and write them as MotionCritic wants them; what is there already stays."""
    names, files = motion_names(records.pairs), MotionFiles(folder / "motions")
    for done, name in enumerate(names, start=1):
        target, view = files.path(name), folder / motioncritic_path(name)
        if not (target.exists() and view.exists()):
            pose, trans = pose_from_features(motions.load(name), body)
            critic = motioncritic_motion(pose, trans + body.joints[0])
            atomic_write(view, _npy_writer(critic))
            _copy(motions.path(name), target)
        if progress is not None:
            progress(done, len(names))


def _copy(source: Path, target: Path) -> None:
    def write(file: Any) -> None:
        with source.open("rb") as original:
            shutil.copyfileobj(original, file)

    atomic_write(target, write)


def _npy_writer(array: np.ndarray) -> Callable[[Any], object]:
    return lambda file: np.save(file, array, allow_pickle=False)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write(path, lambda file: file.write(text.encode()))


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """The columns have their types even where every value is missing, or no row is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {"int": pa.int64(), "float": pa.float64(), "str": pa.string()}
    takes = {f"{side}_{f.name}": numbers[str(f.type)] for side in ("chosen", "rejected") for f in fields(Take)}
    types = takes | {"blind": pa.bool_(), "response_s": pa.float64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in PREFERENCE_COLUMNS])
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), data, compression="zstd")
    atomic_write(path, lambda file: file.write(data.getvalue()))


def _read_lines(path: Path, parse: Callable[[dict[str, Any]], Any]) -> list[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Give a folder that `python -m core export` has written.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(parse(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name}, line {number} is no record ({error}). Export the dataset again.") from error
    return rows


def _event_from_json(row: dict[str, Any], pairs: set[str]) -> dict[str, Any]:
    if row["pair_id"] not in pairs:
        raise ValueError(f"pair {row['pair_id']!r} is not in pairs.jsonl")
    if row["kind"] not in ("vote", "undo"):
        raise ValueError(f"kind={row['kind']!r} is neither vote nor undo")
    if row["kind"] == "vote":
        check_verdict(row["verdict"])
    name, created = check_annotator(row["annotator"]), utc(datetime.fromisoformat(row["created"]))
    return {**row, "annotator": name, "created": created}


def _details_to_json(entry: VoteDetails) -> dict[str, Any]:
    return {**asdict(entry), "created": entry.created.isoformat()}


def _details_from_json(row: dict[str, Any]) -> VoteDetails:
    return VoteDetails(**{**row, "created": utc(datetime.fromisoformat(row["created"]))})
