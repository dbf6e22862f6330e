"""What a user asks for, checked before any model sees it."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.motion.skeleton import FPS, MAX_FRAMES, MIN_FRAMES

if TYPE_CHECKING:
    from core.diffusion.rollout import SamplerConfig

MIN_DURATION_S = MIN_FRAMES / FPS
MAX_DURATION_S = MAX_FRAMES / FPS
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Sampler:
    """A solver with the number of steps it needs, under the name that people choose it by."""

    label: str
    solver: str  # of core.diffusion.rollout.SOLVERS
    steps: int


FAST = Sampler("Fast (DPM-Solver++ 12)", "dpm++", 12)  # a quarter of the network calls
REFERENCE = Sampler("Reference (DDIM 50)", "ddim", 50)  # what the paper reports
SAMPLERS = {sampler.solver: sampler for sampler in (FAST, REFERENCE)}


def usual_steps(solver: str) -> int:
    """Network steps that a solver needs; those of FAST for an unknown one, which Request refuses."""
    return SAMPLERS.get(solver, FAST).steps


@dataclass(frozen=True)
class Request:
    """One pair to generate. ValueError, in one sentence, for anything out of range.

    The sampler is FAST unless told otherwise; core.diffusion.rollout.SamplerConfig checks its three numbers.
    """

    prompt: str
    duration_s: float | None = None  # None: suggested from the text
    seed: int | None = None  # of the noise that both takes start from; None: drawn at random
    steps: int = FAST.steps
    guidance_scale: float = 2.5  # classifier-free guidance weight; 1 = none
    solver: str = FAST.solver
    annotator: str = ""  # whose versions are compared, where tastes are kept apart (core.learning.choices)
    telling: bool = False  # takes whose comparison tells most about the taste, from different noise

    def __post_init__(self) -> None:
        from core.text.encoder import check_prompt  # imports torch

        check_prompt(self.prompt)
        if self.duration_s is not None:
            _check_duration(self.duration_s)
        if self.seed is not None and not 0 <= _whole("seed", self.seed) <= MAX_SEED:
            raise ValueError(f"seed={self.seed} is outside 0-{MAX_SEED}. Choose another seed, or roll the dice.")
        _whole("steps", self.steps)
        _number("guidance_scale", self.guidance_scale)
        self.sampler()

    def sampler(self) -> SamplerConfig:
        """The sampler's part of the request."""
        from core.diffusion.rollout import SamplerConfig

        return SamplerConfig(steps=self.steps, guidance_scale=float(self.guidance_scale), solver=self.solver)


def random_seed() -> int:
    """A seed nobody chose."""
    return secrets.randbelow(MAX_SEED + 1)


def _check_duration(duration_s: float) -> None:
    if MIN_DURATION_S <= _number("duration_s", duration_s) <= MAX_DURATION_S:
        return
    raise ValueError(
        f"duration_s={duration_s} is outside {MIN_DURATION_S:.1f}-{MAX_DURATION_S:.1f} ({MAX_FRAMES} frames at {FPS} "
        f"fps). Choose a {'shorter' if duration_s > MAX_DURATION_S else 'longer'} clip."
    )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}={value!r} is not a number. Give a number.")
    return value


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={value!r} is not a whole number. Give a whole number.")
    return value
