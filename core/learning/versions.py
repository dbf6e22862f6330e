"""Model versions: those shipped with the program, and v1, v2 ... that people's votes have made.

A version is a folder that never changes: adapters on a shipped model, the reward head they were aligned on, config.json
(parent, votes used, settings, monitors), card.md, metrics.jsonl and curves.png. It is made in a work folder beside and
renamed when it is whole, so that a name always stands for a whole version, whatever moment a process dies. Which two
versions the arena compares stands in a small file beside them (core.learning.choices).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.learning.choices import EVERY, Choices, Sides, change_choices, read_choices

if TYPE_CHECKING:
    from torch import Tensor

    from core.models.checkpoint import WholeModel
    from core.models.latent import LatentDiffusion

log = logging.getLogger(__name__)

SHIPPED = ("base", "aligned")
VOTES_BUILD_ON = "reward-spl"  # shipped reward
_USER_MADE = re.compile(r"v([1-9]\d*)")
_WORK = ".work-"
_LOCK_WAIT_S = 0.0  # whoever holds the lock is at work; nobody waits for it


@dataclass(frozen=True)
class Version:
    """What the page tells about a version without loading it."""

    name: str
    folder: Path
    parent: str | None  # the version that it was made from
    job: str = ""  # identifier of the job that made it; empty for shipped ones
    created: datetime | None = None  # UTC
    votes: int = 0  # votes that its reward head learnt from
    annotator: str = ""  # whose votes they are; empty: everyone's
    pair_accuracy: float | None = None  # of its reward head on votes held out
    learnt: tuple[str, ...] = ()  # what the head prefers, in words
    monitors: dict[str, float] | None = None  # held-out figures of core.align.monitor, at the end
    stopped: str | None = None  # the limit that ended its alignment early, as a sentence

    @property
    def shipped(self) -> bool:
        return self.created is None


@dataclass(frozen=True)
class Start:
    """Where the next version begins: a shipped model, and adapters on it."""

    parent: str
    base: str  # shipped model that the adapters belong to
    adapters: dict[str, Tensor] | None = None  # as core.align.run.AlignResult has them; None: begin at `base` itself
    rank: int = 0
    scale: float = 1.0

    def scaled(self, scale: float) -> dict[str, Tensor] | None:
        """The same adapters for another scale."""
        if self.adapters is None:
            return None
        ratio = self.scale / scale
        return {name: value * ratio if name.endswith(".b") else value for name, value in self.adapters.items()}


class VersionStore:
    """The versions of one data folder. Safe for many processes: they meet in files only."""

    def __init__(self, checkpoints: Path, data_dir: Path, default: tuple[str, str] = SHIPPED) -> None:
        """checkpoints: shipped ones. default: what the arena compares until something else is chosen.

        Creates nothing; removes what killed jobs have left behind.
        """
        self.checkpoints, self.folder, self.default = checkpoints, data_dir / "versions", default
        if self.folder.is_dir():
            self.sweep()

    # What there is

    def names(self) -> list[str]:
        """Shipped ones and the defaults first, then those made here, oldest first."""
        shipped = [name for name in dict.fromkeys((*SHIPPED, *self.default)) if _is_whole(self.checkpoints / name)]
        return shipped + [f"v{number}" for number in sorted(self._numbers())]

    def versions(self) -> list[Version]:
        """All whole versions, in the order of names(); damaged ones are logged and left out."""
        return list(self._readable())

    def _readable(self) -> Iterator[Version]:
        for name in self.names():
            try:
                yield self.version(name)
            except ValueError as error:
                log.warning("%s", error)

    def version(self, name: str) -> Version:
        """The version of this name; ValueError if there is none or its config.json is damaged."""
        folder = self._folder(name)
        if not _is_whole(folder):
            raise ValueError(f"Version {name!r} is unknown. Choose one of {', '.join(self.names()) or 'none'}.")
        try:
            described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            return _described(name, folder, described)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / 'config.json'} is damaged ({error}). Remove that folder.") from error

    def made_by(self, job: str) -> Version | None:
        """The version that a job has made; None while it hasn't."""
        return next((version for version in reversed(self.versions()) if version.job == job), None)

    def load(self, name: str, device: str = "cpu") -> LatentDiffusion | WholeModel:
        """The model of a version. FileNotFoundError or ValueError, as a sentence, as core.models.checkpoint raises."""
        from core.models.checkpoint import apply_adapters, load_diffusion  # imports torch

        if not _USER_MADE.fullmatch(name):
            return load_diffusion(self.checkpoints, device, name)
        folder = self.version(name).folder
        base = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]["from"]
        model = load_diffusion(self.checkpoints, device, base)
        apply_adapters(model.denoiser, folder, self.checkpoints)
        return model

    def start(self, name: str) -> Start:
        """What a version made from this one begins with. ValueError if it is unknown or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file  # imports torch

        folder = self.version(name).folder
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if described["architecture"] != "LowRank":
            return Start(name, name)
        try:
            adapters = {key: tensor.float() for key, tensor in load_file(folder / "model.safetensors").items()}
        except SafetensorError as error:
            raise ValueError(f"{folder / 'model.safetensors'} is damaged ({error}). Choose another version.") from error
        rank = next(len(tensor) for key, tensor in adapters.items() if key.endswith(".a"))
        config = described["config"]
        return Start(name, config.get("from", "base"), adapters, rank, float(config["scale"]))

    def _folder(self, name: str) -> Path:
        return (self.folder if _USER_MADE.fullmatch(name) else self.checkpoints) / name

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = ((_USER_MADE.fullmatch(path.name), path) for path in self.folder.iterdir())
        return [int(match[1]) for match, path in found if match and _is_whole(path)]

    # What is compared

    def choices(self) -> Choices:
        """What was chosen here; see core.learning.choices."""
        return read_choices(self.folder, self.default)

    def sides(self, annotator: str = "") -> Sides:
        """(baseline, candidate) that this annotator compares; the candidate is the version in use."""
        sides = self.choices().sides(annotator)
        return sides if all(_is_whole(self._folder(name)) for name in sides) else self.default

    def choose(self, baseline: str, candidate: str, annotator: str = "") -> None:
        """Compare these two from now on. ValueError if one is unknown or both are the same.

        annotator: whose choice it is while tastes are kept apart; without one, everyone's.
        """
        if baseline == candidate:
            raise ValueError(f"Both sides are {baseline!r}. Choose two different versions.")
        sides = self.version(baseline).name, self.version(candidate).name
        change_choices(self.folder, self.default, lambda kept: kept.with_sides(sides, annotator))

    def use(self, name: str, annotator: str = "") -> None:
        """Take a version into use (rolling back is using an earlier one); the other side stays if it can."""
        baseline = self.sides(annotator)[0]
        if baseline == name:
            baseline = self.version(name).parent or next(other for other in self.names() if other != name)
        self.choose(baseline, name, annotator)

    def compare_with_parent(self, name: str, annotator: str = "") -> None:
        """Compare a version with the one that it was made from; ValueError if it has none."""
        parent = self.version(name).parent
        if parent is None:
            raise ValueError(f"Version {name!r} was made from no other. Choose a later one.")
        self.choose(parent, name, annotator)

    def keep_apart(self, apart: bool) -> None:
        """Whether each annotator has a taste of their own from now on, or all share one."""
        change_choices(self.folder, self.default, lambda kept: replace(kept, apart=apart))

    def learn_every(self, votes: int) -> None:
        """After how many new votes learning starts by itself; ValueError if it is none of choices.EVERY."""
        if votes not in EVERY:
            raise ValueError(f"every={votes} votes is not offered. Choose one of {', '.join(map(str, EVERY))}.")
        change_choices(self.folder, self.default, lambda kept: replace(kept, every=votes))

    def parent_for(self, annotator: str = "") -> str:
        """What the next version of these votes starts from: the one in use, but never somebody else's taste."""
        in_use = self.version(self.sides(annotator)[1])
        return in_use.name if in_use.shipped or in_use.annotator == annotator else self.default[1]

    def newest(self, annotator: str = "") -> Version | None:
        """The last version made of these votes, None if there is none."""
        made = (version for version in reversed(self.versions()) if not version.shipped)
        return next((version for version in made if version.annotator == annotator), None)

    # Making one

    def lock(self) -> Any:
        """The lock of whoever makes a version: a context manager, filelock.Timeout where another is at work.

        The operating system frees it when its process dies.
        """
        import filelock

        self.folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.folder / ".lock", timeout=_LOCK_WAIT_S)

    def work_folder(self, job: str) -> Path:
        """Where a job works: beside the versions, so that renaming is atomic. Not created here."""
        return self.folder / f"{_WORK}{job}"

    def publish(self, work: Path) -> Version:
        """Rename a whole work folder into the next version and take it into use, for its annotator if tastes are apart.

        Call it inside lock().
        """
        number = max(self._numbers(), default=0) + 1
        target = self.folder / f"v{number}"
        os.replace(work, target)
        version = self.version(target.name)
        self.use(version.name, version.annotator)
        return version

    def discard(self, job: str) -> None:
        """Remove what a dead job has left."""
        shutil.rmtree(self.work_folder(job), ignore_errors=True)

    def sweep(self) -> None:
        """Remove the work folders of dead jobs; does nothing while a job is alive."""
        import filelock

        try:
            with self.lock():
                for leftover in self.folder.glob(f"{_WORK}*"):
                    shutil.rmtree(leftover, ignore_errors=True)
        except filelock.Timeout:
            log.info("A job is at work in %s; nothing is swept", self.folder)


def _is_whole(folder: Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def _described(name: str, folder: Path, described: dict[str, Any]) -> Version:
    """A version as its config.json tells."""
    if not _USER_MADE.fullmatch(name):
        adapted = described.get("architecture") == "LowRank"
        parent = described["config"].get("from", "base") if adapted else described.get("from")
        return Version(name, folder, parent, monitors=described.get("monitors"))
    live = described["live"]
    return Version(
        name=name,
        folder=folder,
        parent=live["parent"],
        job=live["job"],
        created=datetime.fromisoformat(live["created"]),
        votes=int(live["votes"]),
        annotator=live.get("annotator", ""),
        pair_accuracy=live.get("pair_accuracy"),
        learnt=tuple(live["learnt"]),
        monitors=described.get("monitors"),
        stopped=described.get("stopped"),
    )
