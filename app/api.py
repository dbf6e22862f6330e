"""Named endpoints with plain typed values, for scripts: generate, vote, undo, export, report, status.

`examples/api_client.py` shows them at work; `gradio_client.Client(URL).view_api()` tells what each takes and gives.
Gradio reads the annotations of what is returned as they stand here, so this module does not postpone them.
"""

from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import gradio as gr
from gradio.events import api

from app.handlers import sentence_of
from core.engine import Engine
from core.preference.dataset_records import records_of
from core.preference.details import DetailStore
from core.preference.report import PreferenceReport
from core.request import Request, usual_steps

_LOADING_TIMEOUT_S = 120.0
_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")

Verdict = Literal["left", "right", "tie", "both_bad", "skip"]
Side = Literal["left", "right"]
ExportKind = Literal["mp4", "glb", "bvh", "npz", "npy", "joints"]
Solver = Literal["dpm++", "ddim"]


class Api:
    """The endpoints. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._details = DetailStore(engine.store.database)
        api(self.generate, api_name="generate")
        for endpoint in (self.vote, self.undo, self.export, self.report, self.status):
            api(endpoint, api_name=endpoint.__name__, concurrency_limit=None)

    def generate(
        self,
        prompt: str,
        duration_s: float | None = None,
        seed: int | None = None,
        steps: int | None = None,
        guidance_scale: float = Request.guidance_scale,
        solver: Solver = Request.solver,  # pyright: ignore[reportArgumentType]
        telling: bool = False,
    ) -> dict[str, Any]:
        """Make and store a pair of motions from one text and the same noise, one by each model; waits while they load.

        Parameters:
            prompt: what to act out, in English
            duration_s: length in seconds, 2.0 to 9.8; suggested from the text if not given
            seed: of the noise that both motions start from; drawn at random if not given
            steps: network steps; as many as the solver needs if not given
            guidance_scale: weight of the text; 1 is none
            solver: dpm++ is fast, ddim is the reference
            telling: of several takes from different noise the two that tell most about the taste of those who voted
        Returns:
            pair_id, seed, frames (20 a second) and duration_s; which side is which model is told by vote
        """
        pair = _sentences(self._generate, prompt, duration_s, seed, steps, guidance_scale, solver, telling)
        take = pair.left
        return {"pair_id": pair.id, "seed": take.seed, "frames": take.frames, "duration_s": take.duration_s}

    def _generate(
        self,
        prompt: str,
        duration_s: float | None,
        seed: int | None,
        steps: int | None,
        scale: float,
        solver: str,
        telling: bool,
    ) -> Any:
        steps = usual_steps(solver) if steps is None else steps
        request = Request(prompt, duration_s, seed, steps, scale, solver, telling=telling)
        self.engine.wait_until_ready(_LOADING_TIMEOUT_S)
        return self.engine.generate(request)

    def vote(
        self, pair_id: str, verdict: Verdict, annotator: str = "anonymous", response_s: float | None = None
    ) -> dict[str, Any]:
        """Record which motion is better; returned once it is on the disk. A second vote on a pair is a change of mind.

        Parameters:
            pair_id: as generate returned it
            verdict: left, right, tie, both_bad or skip
            annotator: whose vote it is, 1-80 letters
            response_s: seconds from seeing the pair to the answer, where they are known
        Returns:
            pair_id, verdict, and the names of the models on the left and on the right
        """
        vote = _sentences(self.engine.vote, pair_id, verdict, annotator, response_s)
        return {"pair_id": pair_id, "verdict": vote.verdict, "left": vote.left_version, "right": vote.right_version}

    def undo(self, pair_id: str, annotator: str = "anonymous") -> dict[str, Any]:
        """Take the annotator's vote on a pair back; both events stay recorded.

        Parameters:
            pair_id: as generate returned it
            annotator: whose vote it was
        Returns:
            pair_id, and the verdict that no longer counts
        """
        vote = _sentences(self.engine.undo_vote, pair_id, annotator)
        return {"pair_id": pair_id, "verdict": vote.verdict}

    def export(self, pair_id: str, side: Side = "left", kind: ExportKind = "glb") -> gr.FileData:
        """A motion as a file; its name does not tell the model.

        Parameters:
            pair_id: as generate returned it
            side: left or right; mp4 shows both
            kind: mp4, glb (skinned, animated), bvh, npz (AMASS), npy (features, F x 263) or joints (F x 22 x 3, metres)
        Returns:
            the file; gradio_client downloads it and gives its path
        """
        path = _sentences(self.engine.export, pair_id, side, kind)
        return gr.FileData(path=str(path), orig_name=path.name)

    def report(self) -> dict[str, Any]:
        """The statistics of all votes, as `python -m core report` writes them.

        Returns:
            win rates, ranking, agreement, consistency, checks and position bias; undefined figures are null
        """
        return _sentences(
            lambda: PreferenceReport.of(records_of(self.engine.store, self._details).judgements()).to_dict()
        )

    def status(self) -> dict[str, Any]:
        """Whether the models are loaded, and what is being loaded or went wrong.

        Returns:
            ready, message, error (a sentence, or null), pairs and votes (how many are stored)
        """
        status, (pairs, votes) = self.engine.status(), self.engine.store.counts()
        told = {"ready": status.ready, "message": status.message, "error": status.error}
        return {**told, "pairs": pairs, "votes": votes}


def _sentences(do: Callable[_Given, _Made], *given: _Given.args, **named: _Given.kwargs) -> _Made:
    """What `do` makes; an error becomes one sentence for the client."""
    try:
        return do(*given, **named)
    except Exception as error:
        raise gr.Error(sentence_of(error), print_exception=False) from error
