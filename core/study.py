"""A study under way: what each annotator sees next, ready before it is asked for, and what becomes of the answer.

The pair after the one on the screen is handed out, made and stored while the person still looks (`_prepare_next`), so
that an answer is followed at once by the next pair. Names are never told, so votes after an undo are blind as well.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import core
from core.engine import Engine
from core.preference.details import DetailStore, VoteDetails
from core.preference.studies import Study
from core.preference.studies_queue import Item, StudyProgress, StudyQueue
from core.preference.studies_takes import TakeShelf
from core.preference.types import Pair, Take, check_annotator, check_verdict, new_pair_id, now
from core.render.player_pack import pack_pair, side_by_side
from core.study_takes import StudyTakes

log = logging.getLogger(__name__)

_KEPT_MOTIONS = 400  # packed for the player, about 0.27 kB a frame
_WORKERS = 2  # that prepare pairs
_LOCKS = 64  # annotators share them; one annotator has the same always


@dataclass(frozen=True)
class Screen:
    """What one annotator sees: a pair to judge, or, where pair_id is None, that nothing is left."""

    progress: StudyProgress
    pair_id: str | None = None
    prompt: str = ""
    pack: dict[str, Any] = field(default_factory=dict)  # core.render.player_pack's value, labelled A and B


@dataclass(frozen=True)
class Answer:
    """What the annotator says to a pair."""

    verdict: str
    criteria: Mapping[str, str] = field(default_factory=dict)  # criterion -> verdict
    comment: str = ""
    response_s: float | None = None  # from showing the pair to the answer
    plays: int | None = None  # how often the motions were watched to the end


class StudyDesk:
    """Hands out pairs and takes in answers, for one study. Thread-safe; many servers may share the database."""

    def __init__(self, engine: Engine, study: Study, folder: Path) -> None:
        """folder: of the study file. ValueError for unknown versions, a changed study or a database it can't use."""
        database = engine.store.database
        self.engine, self.study = engine, study
        self.queue, self.details = StudyQueue(study, database), DetailStore(database)
        self.takes = StudyTakes(engine, study, TakeShelf(study.name, database), folder)
        self._packed = lru_cache(_KEPT_MOTIONS)(self._pack_take)
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="study")
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def start(self) -> None:
        """Make all pairs in the background as soon as the models are there."""

        def work() -> None:
            if self.engine.wait_until_ready().ready:
                self.takes.make_all()

        threading.Thread(target=work, name="study-takes", daemon=True).start()

    def screen(self, annotator: str) -> Screen:
        """What the annotator is to see now; the same until it is answered, also after a restart.

        Waits where the pair is still to be made. Side effect: the one after it is prepared in the background.
        """
        annotator = check_annotator(annotator)
        with self._lock(annotator):
            item = self.queue.next_item(annotator)
            pair = None if item is None else self._pair(item)
        progress = self.queue.progress(annotator)
        if item is None or pair is None:
            return Screen(progress)
        self._workers.submit(self._prepare_next, annotator)
        return Screen(progress, pair.id, item.prompt, self._pack(pair))

    def answer(self, annotator: str, pair_id: str, answer: Answer) -> Screen:
        """Record an answer durably and return what comes next. An answer that was given already changes nothing.

        ValueError, as a sentence, for a pair of somebody else, an unknown verdict or a criterion left out.
        """
        annotator = check_annotator(annotator)
        item = self.queue.item_of(annotator, pair_id)
        if item.verdict is None:
            self._check(answer)
            criteria = {name: answer.criteria[name] for name in self.study.criteria if name in answer.criteria}
            comment = answer.comment if self.study.comment else ""
            self.details.record(VoteDetails(pair_id, annotator, criteria, comment, answer.plays))
            seconds = answer.response_s
            seconds = seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None
            record = self.engine.store.record_vote
            record(pair_id, answer.verdict, annotator, core.__version__, seconds, hidden=True, once=True)
        return self.screen(annotator)

    def undo(self, annotator: str) -> Screen:
        """Take the annotator's newest answer back and show its pair again; ValueError if there is none."""
        item = self.queue.last_answered(annotator)
        if item is None or item.pair_id is None:
            raise ValueError("There is no answer to take back yet.")
        self.engine.store.undo_vote(item.pair_id, annotator)
        return self.screen(annotator)

    def _check(self, answer: Answer) -> None:
        check_verdict(answer.verdict)
        if answer.verdict == "skip":
            return
        if missing := [name for name in self.study.criteria if name not in answer.criteria]:
            raise ValueError(f"Please compare the two by {missing[0]} as well, then answer.")

    def _prepare_next(self, annotator: str) -> None:
        """Have the annotator's next pair stored and packed; what fails is tried again, and told, when it is due."""
        try:
            with self._lock(annotator):
                item = self.queue.next_item(annotator, ahead=1)
                pair = None if item is None else self._pair(item)
            if pair is not None:
                self._pack(pair)
        except Exception:
            log.warning("The next pair of %r could not be prepared", annotator, exc_info=True)

    def _pair(self, item: Item) -> Pair:
        """The stored pair of an item; made, stored and attached where there is none yet."""
        if item.pair_id is not None:
            return self.engine.store.pair(item.pair_id)
        left, right = self.takes.of(item)
        pair = Pair(new_pair_id(), left, right, now())
        self.engine.store.add_pair(pair)
        attached = self.queue.attach(item.id, pair.id)
        return pair if attached == pair.id else self.engine.store.pair(attached)

    def _pack(self, pair: Pair) -> dict[str, Any]:
        return side_by_side(self._packed(pair.left), self._packed(pair.right))

    def _pack_take(self, take: Take) -> dict[str, Any]:
        return pack_pair(*self.engine.poses(take))

    def _lock(self, annotator: str) -> threading.Lock:
        return self._locks[hash(annotator) % _LOCKS]
