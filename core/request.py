"""What a user asks for, checked before any model sees it."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Literal, get_args

from core.motion.skeleton import FPS, MAX_FRAMES, MIN_FRAMES

MIN_DURATION_S = MIN_FRAMES / FPS
MAX_DURATION_S = MAX_FRAMES / FPS
MAX_SEED = 2**31 - 1
MAX_STEPS = 1000  # the training noise schedule has no more
MAX_GUIDANCE_SCALE = 20.0

Solver = Literal["ddim", "dpm++"]
SOLVERS: tuple[str, ...] = get_args(Solver)


@dataclass(frozen=True)
class Request:
    """One pair to generate. ValueError, in one sentence, for anything out of range."""

    prompt: str
    duration_s: float | None = None  # None: suggested from the text
    seed: int | None = None  # of the noise that both takes start from; None: drawn at random
    steps: int = 50  # solver steps, MLD
    guidance_scale: float = 2.5  # classifier-free guidance weight
    solver: str = "ddim"

    def __post_init__(self) -> None:
        from core.text.encoder import check_prompt  # imports torch

        check_prompt(self.prompt)
        if self.duration_s is not None:
            in_range = f"{MIN_DURATION_S:.1f}-{MAX_DURATION_S:.1f} ({MAX_FRAMES} frames at {FPS} fps)"
            fix = "Choose a shorter clip." if _above(self.duration_s, MAX_DURATION_S) else "Choose a longer clip."
            _check("duration_s", self.duration_s, MIN_DURATION_S, MAX_DURATION_S, in_range, fix)
        if self.seed is not None:
            _check_whole("seed", self.seed, 0, MAX_SEED, "Choose another seed, or roll the dice.")
        _check_whole("steps", self.steps, 1, MAX_STEPS, "20 to 50 steps are usual.")
        allowed = f"0-{MAX_GUIDANCE_SCALE:g}"
        _check("guidance_scale", self.guidance_scale, 0.0, MAX_GUIDANCE_SCALE, allowed, "2 to 4 is usual.")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver={self.solver!r} is unknown. Choose one of {', '.join(SOLVERS)}.")


def random_seed() -> int:
    """A seed nobody chose."""
    return secrets.randbelow(MAX_SEED + 1)


def _above(value: object, limit: float) -> bool:
    return isinstance(value, int | float) and value > limit


def _check(name: str, value: object, low: float, high: float, allowed: str, fix: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{name}={value!r} is not a number. Give a number in {allowed}.")
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is outside {allowed}. {fix}")


def _check_whole(name: str, value: object, low: int, high: int, fix: str) -> None:
    _check(name, value, low, high, f"{low}-{high}", fix)
    if not isinstance(value, int):
        raise ValueError(f"{name}={value} is not a whole number. Give a whole number in {low}-{high}.")
