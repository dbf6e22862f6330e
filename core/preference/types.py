"""What the arena shows and what people answer: `Take`, `Pair`, `Vote`.

A take names everything needed to make its motion again; the motion itself lies in a content-addressed file
(`core.preference.motions`), named here by its hash. All three are plain values: no database, no torch.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast, get_args

from core.motion.skeleton import FPS

Verdict = Literal["left", "right", "tie", "both_bad", "skip"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
Side = Literal["left", "right"]
SIDES: tuple[str, ...] = get_args(Side)
MAX_ANNOTATOR_LETTERS = 80
REAL, NOISE = "real", "noise"  # in place of versions, of the takes in an attention check with a recorded motion


@dataclass(frozen=True)
class Take:
    """One generated motion and all that made it."""

    prompt: str
    seed: int  # of the starting noise; two takes with one seed start from the same noise
    frames: int  # at 20 fps
    steps: int  # solver steps
    guidance_scale: float  # classifier-free guidance weight
    solver: str  # "ddim" or "dpm++"
    model_version: str  # name of the checkpoint, such as "base" or "aligned"
    weights_sha256: str  # first 16 hex digits of the hash of that checkpoint's files
    text_encoder: str
    device: str  # "cpu", "cuda", "mps": other devices round otherwise
    code_version: str
    torch_version: str
    motion_sha256: str  # of the float32 features, see core.preference.motions

    @property
    def duration_s(self) -> float:
        return self.frames / FPS


@dataclass(frozen=True)
class Pair:
    """Two takes of one prompt, side by side. The sides are drawn at random: each take names its own version."""

    id: str
    left: Take
    right: Take
    created: datetime  # UTC

    @property
    def is_check(self) -> bool:
        """Whether it is an attention check: a motion beside itself, or a recorded one beside noise."""
        versions = (self.left.model_version, self.right.model_version)
        return self.left.motion_sha256 == self.right.motion_sha256 or NOISE in versions

    def take(self, side: str) -> Take:
        """The take on "left" or "right"; ValueError on any other word."""
        if side not in SIDES:
            raise ValueError(f"side={side!r} is unknown. Choose one of {', '.join(SIDES)}.")
        return self.left if side == "left" else self.right


@dataclass(frozen=True)
class Vote:
    """One answer to one pair, with the versions it was given on."""

    pair_id: str
    verdict: Verdict
    annotator: str
    created: datetime  # UTC
    left_version: str
    right_version: str
    code_version: str
    response_s: float | None  # from showing the pair to the click; None if unknown
    blind: bool  # False when this annotator had already seen the names (a changed or repeated vote)


def new_pair_id() -> str:
    """Twelve random hex digits; nothing about the versions can be read from them."""
    return secrets.token_hex(6)


def now() -> datetime:
    """This moment in UTC, to the microsecond."""
    return datetime.now(UTC)


def check_verdict(verdict: str) -> Verdict:
    """The verdict itself; ValueError if it is not one of VERDICTS."""
    if verdict not in VERDICTS:
        raise ValueError(f"verdict={verdict!r} is unknown. Choose one of {', '.join(VERDICTS)}.")
    return cast(Verdict, verdict)


def check_annotator(annotator: str) -> str:
    """The name without surrounding space; ValueError if it is empty or too long."""
    name = annotator.strip()
    if not 0 < len(name) <= MAX_ANNOTATOR_LETTERS:
        raise ValueError(
            f"The annotator's name has {len(name)} letters, allowed are 1-{MAX_ANNOTATOR_LETTERS}. Enter a short name."
        )
    return name
