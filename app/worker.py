"""One background job: `python -m core live` in a process of its own, started, watched and cancelled from the page.

The process gives way to the page and ends with it. Whatever kills it, and whenever, the versions are as before.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from core.learning.progress import MIN_VOTES, PHASES, fraction, read_rows
from core.learning.versions import Version, VersionStore
from core.preference.types import Vote
from core.settings import ROOT, Settings

log = logging.getLogger(__name__)

State = Literal["idle", "running", "done", "failed", "cancelled"]
_KILL_PATIENCE_S = 10.0
_LOG_LINES = 40


@dataclass(frozen=True)
class JobStatus:
    """What the page shows of the last job."""

    state: State
    rows: list[dict[str, Any]] = field(default_factory=list)  # as in its metrics.jsonl
    annotator: str = ""  # whose votes it learns from; empty: everyone's
    version: Version | None = None  # what it made
    error: str = ""  # a sentence

    @property
    def done(self) -> float:
        """0-1 of the whole."""
        return 1.0 if self.state == "done" else fraction(self.rows)

    @property
    def doing(self) -> str:
        """The phase in words."""
        return PHASES[self.rows[-1]["phase"]][0] if self.rows else "Starting"


@dataclass
class _Job:
    """A started process and what is left to read of it."""

    name: str
    annotator: str
    process: subprocess.Popen[bytes]
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    cancelled: bool = False

    def __post_init__(self) -> None:
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.lines.append(line.decode(errors="replace").rstrip())

    def sentence(self) -> str:
        """Why the process failed."""
        self._reader.join(_KILL_PATIENCE_S)
        said = [line.removeprefix("error: ") for line in self.lines if line.startswith("error: ")]
        if said:
            return said[-1]
        log.error("The learning job failed:\n%s", "\n".join(self.lines))
        return f"The learning job ended early (exit code {self.process.returncode}). The versions are as before."


class Worker:
    """At most one job at a time. Thread-safe."""

    def __init__(self, settings: Settings, versions: VersionStore, options: Sequence[str] = ()) -> None:
        """options: further ones of `python -m core live`, such as --align.updates 4."""
        self._settings, self._versions, self._options = settings, versions, tuple(options)
        self._lock = threading.RLock()
        self._job: _Job | None = None
        self._settled = JobStatus("idle")

    def start(self, annotator: str = "") -> None:
        """Start a job that learns from the annotator's votes, or from everyone's. ValueError if one is running."""
        with self._lock:
            if self.status().state == "running":
                raise ValueError("A version is already being made. Wait for it, or cancel it.")
            name = uuid.uuid4().hex[:12]
            self._job = _Job(name, annotator, self._spawn(name, annotator))

    def _spawn(self, name: str, annotator: str) -> subprocess.Popen[bytes]:
        command = self.command(name, annotator)
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def command(self, name: str, annotator: str) -> list[str]:
        """The command line of a job; name=value, because an annotator's name may begin with a dash."""
        given = self._settings
        options = {"--job": name, "--data-dir": given.data_dir.resolve(), "--checkpoints": given.checkpoints.resolve()}
        options |= {"--device": given.device, "--annotator": annotator, "--database": given.database}
        options |= {"--parent": self._versions.parent_for(annotator)}
        chosen = [f"{name}={value}" for name, value in options.items() if value not in (None, "")]
        return [sys.executable, "-m", "core", "live", "--attached", *chosen, *self._options]

    def cancel(self) -> None:
        """Kill the running job and remove what it has left; returns when it is gone. Without a job nothing happens."""
        with self._lock:
            if self._job is None:
                return
            self._job.cancelled = True
            self._job.process.kill()
            self._job.process.wait(_KILL_PATIENCE_S)
            self.status()

    def status(self) -> JobStatus:
        """How far the running job is, or how the last one ended."""
        with self._lock:
            job = self._job
            if job is None:
                return self._settled
            rows = read_rows(self._versions.work_folder(job.name))
            if job.process.poll() is None:
                return JobStatus("running", rows, job.annotator)
            self._settled, self._job = self._outcome(job), None
            return self._settled

    def _outcome(self, job: _Job) -> JobStatus:
        """How an ended job went; a job that was killed after its version was whole has made it."""
        made = self._versions.made_by(job.name)
        if made is not None:
            return JobStatus("done", read_rows(made.folder), job.annotator, made)
        rows = read_rows(self._versions.work_folder(job.name))
        self._versions.discard(job.name)
        if job.cancelled:
            return JobStatus("cancelled", rows, job.annotator)
        return JobStatus("failed", rows, job.annotator, error=job.sentence())


@dataclass
class Automatic:
    """Starts a job after every so many new votes, where that is switched on. Hang `after_vote` on the engine."""

    worker: Worker
    versions: VersionStore
    answers: Callable[[], Mapping[str, int]]  # annotator -> votes that stand now
    _tried_at: dict[str, int] = field(default_factory=dict)  # annotator -> votes when their last automatic job started

    def after_vote(self, vote: Vote) -> None:
        """Start a job for who voted, or for everyone's votes, if it is time and none is running."""
        choices = self.versions.choices()
        if not choices.every:
            return
        annotator, answers = vote.annotator if choices.apart else "", self.answers()
        votes = answers.get(annotator, 0) if annotator else sum(answers.values())
        newest = self.versions.newest(annotator)
        known = max(newest.votes if newest else 0, self._tried_at.get(annotator, 0))
        if votes >= max(MIN_VOTES, known + choices.every) and self.worker.status().state != "running":
            self._tried_at[annotator] = votes
            self.worker.start(annotator)
