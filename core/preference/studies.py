"""A study: what is compared, by how many people, and what they are told; read from a TOML file.

    name = "base-vs-aligned"
    instructions = "Which motion fits the sentence better?"
    prompts = ["a person waves", "a tired person walks forward"]
    versions = ["base", "aligned"]
    votes_per_pair = 3
    pairs_per_person = 20
    criteria = ["text match", "realism", "style"]
    comment = true
    repeats = 0.1
    attention_checks = 0.1
    seed = 7

    [[real_motions]]
    prompt = "a person waves"
    file = "waves.npz"

Every prompt is acted out by every version, from one seed a prompt; every two versions are compared on every prompt.
An attention check shows a motion beside itself, or, every other time where real motions are named, one of them beside
noise. docs/studies.md tells how to run a study.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

_EXPECTED = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
    "tuple[RealMotion, ...]": "a list of tables with prompt and file",
}


@dataclass(frozen=True)
class Comparison:
    """Two versions on one prompt, from the same noise."""

    prompt: str
    seed: int
    first: str  # versions, in the order of the study file; which side each stands on is drawn per item
    second: str


@dataclass(frozen=True)
class RealMotion:
    """A recorded motion for attention checks."""

    prompt: str  # what it shows
    file: str  # .npz in AMASS layout, .npy of features or .bvh, as core.formats reads them; relative to the study file


@dataclass(frozen=True)
class Study:
    """ValueError, in one sentence that names the field, for anything a study can't be run with."""

    name: str
    prompts: tuple[str, ...]
    versions: tuple[str, ...]
    votes_per_pair: int = 3  # different people for each comparison
    pairs_per_person: int = 20  # comparisons, without repeats and attention checks; all, where there are fewer
    criteria: tuple[str, ...] = ()  # asked beside the overall verdict
    comment: bool = False  # whether a free comment is offered
    repeats: float = 0.0  # share of a person's comparisons that come a second time, sides swapped
    attention_checks: float = 0.0  # as a share of a person's comparisons, added as pairs whose answer is known
    real_motions: tuple[RealMotion, ...] = ()  # shown beside noise in every other attention check
    seed: int = 0
    instructions: str = ""

    def __post_init__(self) -> None:
        self._check_texts()
        for name in ("votes_per_pair", "pairs_per_person"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is too small. At least 1 is needed.")
        for name in ("repeats", "attention_checks"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(
                    f"{name}={getattr(self, name)} is outside 0-1. It is a share of a person's comparisons."
                )

    def _check_texts(self) -> None:
        if not self.name.strip():
            raise ValueError("name is empty. Give the study a name; its answers are stored under it.")
        for field, least in (("prompts", 1), ("versions", 2), ("criteria", 0)):
            values = getattr(self, field)
            if len(values) < least or len(set(values)) < len(values) or not all(value.strip() for value in values):
                raise ValueError(f"{field}={list(values)} must be {least} or more different texts, none empty.")
        shown = [real.prompt for real in self.real_motions]
        if twice := [prompt for prompt in shown if shown.count(prompt) > 1]:
            raise ValueError(f"real_motions name prompt {twice[0]!r} twice. Give each a prompt of its own.")

    @property
    def share(self) -> int:
        """How many comparisons one person judges: nobody sees one twice, repeats aside."""
        return min(self.pairs_per_person, len(self.prompts) * math.comb(len(self.versions), 2))

    def comparisons(self) -> list[Comparison]:
        """Everything that is to be judged, in a fixed order; a comparison is known by its place in it."""
        return [
            Comparison(prompt, self._seed_of(prompt), *versions)
            for prompt in self.prompts
            for versions in itertools.combinations(self.versions, 2)
        ]

    def plan(self) -> list[int]:
        """Places in comparisons(), each votes_per_pair times: whoever comes n-th takes the n-th share.

        Rounds over all comparisons, each in an order of its own; nobody's share holds a comparison twice. So
        exactly as many people as are needed leave nothing over, in whatever order they work: handing out the least
        judged alone ends in places whose last free person has seen them.
        """
        n, share = len(self.comparisons()), self.share
        plan: list[int] = []
        for round_ in range(self.votes_per_pair):
            begun = set(plan[len(plan) - len(plan) % share :])  # of the share that reaches into this round
            shuffled = sorted(range(n), key=lambda i: self.draw("plan", str(round_), str(i)))
            plan += sorted(shuffled, key=lambda i: i in begun)
        return plan

    def people_needed(self) -> int:
        """How many complete shares give each comparison its votes, skips aside."""
        return math.ceil(self.votes_per_pair * len(self.comparisons()) / self.share)

    def schedule(self, annotator: str) -> list[str]:
        """The kinds of this annotator's items in order: "comparison", "repeat" or "check"; always the same.

        A repeat stands in the second half, so that something is there to be repeated.
        """
        n_repeats, n_checks = round(self.repeats * self.share), round(self.attention_checks * self.share)
        kinds = ["comparison"] * self.share
        for kind, count, start in (("repeat", n_repeats, 0.5), ("check", n_checks, 0.0)):
            for i in range(count):
                place = self.draw(annotator, kind, str(i))
                kinds.insert(round(len(kinds) * (start + (1.0 - start) * place)), kind)
        return kinds

    def draw(self, *names: str) -> float:
        """A number in [0, 1) that depends on the study's seed and the names alone."""
        digest = hashlib.sha256("\0".join((str(self.seed), self.name, *names)).encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def _seed_of(self, prompt: str) -> int:
        return int(self.draw("noise", prompt) * 2**31)


def load_study(path: Path) -> Study:
    """The study of a TOML file. FileNotFoundError; ValueError that names file and field."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. Give the path of a study file (TOML).")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Study(**{name: _typed(name, value) for name, value in _known(values).items()})
    except ValueError as error:  # TOML's own errors and bad UTF-8 are ValueErrors too
        raise ValueError(f"{path.name}: {error}") from error


def _known(values: dict[str, Any]) -> dict[str, Any]:
    allowed = {field.name: field.default is MISSING for field in fields(Study)}
    if unknown := [name for name in values if name not in allowed]:
        raise ValueError(f"field {unknown[0]!r} is unknown. Allowed are {', '.join(allowed)}.")
    if missing := [name for name, required in allowed.items() if required and name not in values]:
        raise ValueError(f"field {missing[0]!r} is missing. Needed are name, prompts and versions.")
    return values


def _typed(name: str, value: Any) -> Any:
    """The value as its field wants it; ValueError for another type."""
    wanted = next(str(field.type) for field in fields(Study) if field.name == name)
    if wanted == "tuple[RealMotion, ...]" and _are_real_motions(value):
        return tuple(RealMotion(**entry) for entry in value)
    if wanted == "tuple[str, ...]" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if wanted == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value).__name__ == wanted:
        return value
    raise ValueError(f"{name}={value!r} has the wrong type. Needed is {_EXPECTED[wanted]}.")


def _are_real_motions(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict)
        and set(entry) == {"prompt", "file"}
        and all(isinstance(text, str) and text.strip() for text in entry.values())
        for entry in value
    )
