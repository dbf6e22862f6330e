"""Named endpoints of a study with plain typed values, for scripts and other pages: next, answer, undo."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from app.handlers import sentence_of
from core.study import Answer, Screen, StudyDesk


class StudyApi:
    """The endpoints /study_next, /study_answer and /study_undo. Build inside a gr.Blocks context."""

    def __init__(self, desk: StudyDesk) -> None:
        self.desk = desk
        for endpoint in (self.next, self.answer, self.undo):
            api(endpoint, api_name=f"study_{endpoint.__name__}", concurrency_limit=None)

    def next(self, annotator: str) -> dict[str, Any]:
        """The pair that this annotator is to judge now, the same until it is answered.

        Returns pair_id (null at the end), prompt, motions (the player's value), answered and total.
        """
        return _plain(lambda: self.desk.screen(annotator))

    def answer(
        self,
        annotator: str,
        pair_id: str,
        verdict: str,
        criteria: dict[str, str] | None = None,
        comment: str = "",
        response_s: float | None = None,
        plays: int | None = None,
    ) -> dict[str, Any]:
        """Record left, right, tie, both_bad or skip; returned once it is on the disk, with the next pair.

        An answer that was given already changes nothing, so a request may be sent again. criteria: a verdict for each
        criterion of the study.
        """
        answer = Answer(verdict, criteria or {}, comment, response_s, plays)
        return _plain(lambda: self.desk.answer(annotator, pair_id, answer))

    def undo(self, annotator: str) -> dict[str, Any]:
        """Take the annotator's newest answer back; its pair is the next one again."""
        return _plain(lambda: self.desk.undo(annotator))


def _plain(made: Any) -> dict[str, Any]:
    try:
        screen: Screen = made()
    except Exception as error:
        raise gr.Error(sentence_of(error), print_exception=False) from error
    at = {"answered": screen.progress.answered, "total": screen.progress.total}
    return {"pair_id": screen.pair_id, "prompt": screen.prompt, "motions": screen.pack, **at}
