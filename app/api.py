"""Named endpoints with plain typed values, for scripts: generate, vote, status."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import api

from app.handlers import sentence_of
from core.engine import Engine
from core.request import Request, usual_steps

_LOADING_TIMEOUT_S = 120.0


class Api:
    """The endpoints /generate, /vote and /status. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        api(self.generate, api_name="generate")
        api(self.vote, api_name="vote", concurrency_limit=None)
        api(self.status, api_name="status", concurrency_limit=None)

    def generate(
        self,
        prompt: str,
        duration_s: float | None = None,
        seed: int | None = None,
        steps: int | None = None,
        guidance_scale: float = Request.guidance_scale,
        solver: str = Request.solver,
    ) -> dict:
        """Make and store a pair; waits while the models load. Returns its id, seed and length, not the names.

        steps: as many as the solver needs if not given.
        """
        try:
            steps = usual_steps(solver) if steps is None else steps
            request = Request(prompt, duration_s, seed, steps, guidance_scale, solver)
            self.engine.wait_until_ready(_LOADING_TIMEOUT_S)
            pair = self.engine.generate(request)
        except Exception as error:
            raise gr.Error(sentence_of(error), print_exception=False) from error
        return {
            "pair_id": pair.id,
            "seed": pair.left.seed,
            "frames": pair.left.frames,
            "duration_s": pair.left.duration_s,
        }

    def vote(self, pair_id: str, verdict: str, annotator: str = "anonymous", response_s: float | None = None) -> dict:
        """Record left, right, tie, both_bad or skip. Returned once it is on the disk, with the names of both sides."""
        try:
            vote = self.engine.vote(pair_id, verdict, annotator, response_s)
        except Exception as error:
            raise gr.Error(sentence_of(error), print_exception=False) from error
        return {"pair_id": pair_id, "verdict": vote.verdict, "left": vote.left_version, "right": vote.right_version}

    def status(self) -> dict[str, Any]:
        """Whether the models are loaded, and what is being loaded or went wrong."""
        status = self.engine.status()
        return {"ready": status.ready, "message": status.message, "error": status.error}
