"""Everything recorded, as plain values: from a store or from an exported folder, the same to the statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from core.preference.details import DetailStore, VoteDetails
from core.preference.statistics import Judgement
from core.preference.store import PreferenceStore
from core.preference.types import Pair, Take

_TAKE_FIELDS = [field.name for field in dataclasses.fields(Take)]


@dataclass(frozen=True)
class Records:
    """Pairs, vote events (the columns of vote_events by name) and details of votes, each oldest first."""

    pairs: tuple[Pair, ...]
    events: tuple[dict[str, Any], ...]
    details: tuple[VoteDetails, ...] = ()

    def standing_votes(self) -> list[dict[str, Any]]:
        """For each pair and annotator the last event, if it is no undo; oldest first, as the store's current_votes."""
        last = {(event["pair_id"], event["annotator"]): i for i, event in enumerate(self.events)}
        return [self.events[i] for i in sorted(last.values()) if self.events[i]["kind"] == "vote"]

    def judgements(self) -> list[Judgement]:
        """One for each standing vote, and one for each criterion answered with it."""
        pairs = {pair.id: pair for pair in self.pairs}
        criteria = {(entry.pair_id, entry.annotator): entry.criteria for entry in self.details}
        out: list[Judgement] = []
        for vote in self.standing_votes():
            overall = _judgement(pairs[vote["pair_id"]], vote)
            answers = criteria.get((overall.pair_id, overall.annotator), {})
            out.append(overall)
            out += [replace(overall, criterion=name, verdict=verdict) for name, verdict in answers.items()]
        return out


def _judgement(pair: Pair, vote: dict[str, Any]) -> Judgement:
    return Judgement(
        pair_id=pair.id,
        prompt=pair.left.prompt,
        annotator=vote["annotator"],
        left=pair.left.motion_sha256,
        right=pair.right.motion_sha256,
        left_version=pair.left.model_version,
        right_version=pair.right.model_version,
        verdict=vote["verdict"],
        blind=vote["blind"],
        response_s=vote["response_s"],
    )


def records_of(store: PreferenceStore, details: DetailStore) -> Records:
    """All that a store holds. Votes that come in meanwhile may be missing, never half there."""
    entries, events = tuple(details.standing()), tuple(store.events())  # pairs last: votes never name a missing one
    return Records(tuple(store.pairs()), events, entries)


def renamed(records: Records, name_of: Callable[[str], str]) -> Records:
    """The same with other names of annotators."""
    events = tuple({**event, "annotator": name_of(event["annotator"])} for event in records.events)
    details = tuple(replace(entry, annotator=name_of(entry.annotator)) for entry in records.details)
    return Records(records.pairs, events, details)


def pair_to_json(pair: Pair) -> dict[str, Any]:
    """A pair as JSON-able values."""
    return {**dataclasses.asdict(pair), "created": pair.created.isoformat()}


def pair_from_json(row: dict[str, Any]) -> Pair:
    """What pair_to_json made. KeyError, TypeError or ValueError for anything else."""
    left, right = (Take(**{name: row[side][name] for name in _TAKE_FIELDS}) for side in ("left", "right"))
    return Pair(row["id"], left, right, datetime.fromisoformat(row["created"]))


def motion_names(pairs: Iterable[Pair]) -> list[str]:
    """Hashes of all motions of the pairs, each once, sorted."""
    return sorted({take.motion_sha256 for pair in pairs for take in (pair.left, pair.right)})
