"""The background job as a process: cancelled, killed, orphaned, beside a page that goes on."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tyro

from app.worker import Automatic, JobStatus, Worker
from core.commands.live import Live
from core.engine import Engine
from core.learning.progress import read_rows
from core.learning.versions import VersionStore
from core.preference.store import PreferenceStore
from core.request import Request
from core.settings import ROOT, Settings

PATIENCE_S = 600.0  # machines may be busy; each wait ends as soon as it can
LONG = ("--align.updates", "100000")  # a job that ends only when it is made to
ANSWERS = 7  # pairs made to take a median

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX systems only")

# A page that dies: starts a job, tells its process id, and waits to be killed.
PAGE = """
import sys, time
from pathlib import Path
from app.worker import Worker
from core.learning.versions import VersionStore
from core.settings import Settings
data, checkpoints = map(Path, sys.argv[1:3])
settings = Settings(data_dir=data, checkpoints=checkpoints, device="cpu")
worker = Worker(settings, VersionStore(checkpoints, data), sys.argv[3:])
worker.start()
print(worker._job.process.pid, flush=True)
time.sleep(3600)
"""


@pytest.fixture
def settings(live_checkpoints: Path, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, checkpoints=live_checkpoints, device="cpu")


@pytest.fixture
def long_job(settings: Settings, versions: VersionStore, voted: PreferenceStore) -> Iterator[Worker]:
    """A job in the middle of aligning."""
    worker = Worker(settings, versions, LONG)
    worker.start()
    wait_for(lambda: any(row["phase"] == "align" for row in worker.status().rows) or worker.status().state != "running")
    assert worker.status().state == "running", worker.status().error
    yield worker
    worker.cancel()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def untouched(versions: VersionStore) -> bool:
    """Whether there is no version, no choice and no work folder that was not there before."""
    left = {path.name for path in versions.folder.iterdir()} - {".lock"}
    return not left and versions.names() == ["base", "aligned"] and versions.sides() == ("base", "aligned")


def is_alive(pid: int) -> bool:
    """Whether a thread of this process still runs: until its last one is gone, a process keeps its locks."""
    try:
        os.kill(pid, 0)
        threads = Path(f"/proc/{pid}/task")
        return not threads.exists() or any(_runs(thread) for thread in threads.iterdir())
    except (ProcessLookupError, FileNotFoundError):
        return False


def _runs(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):  # it ended while it was looked at
        return False


def test_the_page_answers_beside_a_job_and_cancel_leaves_no_trace(
    settings: Settings, voted: PreferenceStore, versions: VersionStore
) -> None:
    """Prevents a page that stands still while it learns, a cancel that takes long, and what it may leave behind."""
    engine = Engine(settings)
    engine.start_loading()
    assert engine.wait_until_ready(PATIENCE_S).ready
    idle = median_answer_s(engine)
    worker = Worker(settings, versions, LONG)
    worker.start()
    with pytest.raises(ValueError, match="A version is already being made"):
        worker.start()
    wait_for(lambda: any(row["phase"] == "align" for row in worker.status().rows) or worker.status().state != "running")
    assert worker.status().state == "running", worker.status().error
    busy = median_answer_s(engine)
    started = time.monotonic()
    worker.cancel()
    seconds = time.monotonic() - started
    assert worker.status().state == "cancelled" and seconds < 2.0
    assert untouched(versions)
    assert busy <= 3.0 * idle, f"{busy:.3f} s beside a job, {idle:.3f} s without"


def median_answer_s(engine: Engine) -> float:
    """Seconds that a pair takes."""

    def answer_s() -> float:
        started = time.monotonic()
        engine.generate(Request("a person walks forward", duration_s=4.0, steps=12))
        return time.monotonic() - started

    return statistics.median(answer_s() for _ in range(ANSWERS))


def test_a_killed_job_leaves_the_versions_as_they_were(long_job: Worker, versions: VersionStore) -> None:
    """Prevents half a version, and a page that waits for a dead process."""
    assert long_job._job is not None
    os.kill(long_job._job.process.pid, signal.SIGKILL)
    wait_for(lambda: long_job.status().state != "running")
    status = long_job.status()
    assert status.state == "failed" and "ended early" in status.error and "as before" in status.error
    assert untouched(versions)


def test_a_killed_page_takes_its_job_along_and_the_next_start_is_clean(
    settings: Settings, versions: VersionStore, voted: PreferenceStore
) -> None:
    """Prevents a job that goes on without anybody who can cancel it, and leftovers in the way of the next one."""
    arguments = [str(settings.data_dir), str(settings.checkpoints), *LONG]
    page = subprocess.Popen([sys.executable, "-c", PAGE, *arguments], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert page.stdout is not None
        job = int(page.stdout.readline())
        wait_for(lambda: any(read_rows(folder) for folder in versions.folder.glob(".work-*")) or not is_alive(job))
        assert is_alive(job)
    finally:
        page.kill()
        page.wait()
    wait_for(lambda: not is_alive(job))
    assert untouched(VersionStore(settings.checkpoints, settings.data_dir))


def test_a_job_that_is_refused_tells_why(settings: Settings, versions: VersionStore, voted: PreferenceStore) -> None:
    """Prevents a traceback, or silence, where a sentence says what to do."""
    worker = Worker(settings, versions)
    worker.start("ben")
    wait_for(lambda: worker.status().state != "running")
    assert worker.status() == JobStatus("failed", [], "ben", error=worker.status().error)
    assert worker.status().error == "There are 4 votes of 'ben' to learn from, 5 are needed. Vote more."
    shutil.rmtree(versions.folder)
    assert worker.status().state == "failed", "what ended stays ended"


@pytest.mark.parametrize("name", ["-anna", "--help", "One each", "a=b", "走"])
def test_a_job_learns_for_any_name(settings: Settings, versions: VersionStore, name: str) -> None:
    """Prevents a name that is taken for an option, so that its votes never teach anything."""
    _, _, _, command, *arguments = Worker(settings, versions).command("job", name)
    config = tyro.cli(Live, args=arguments)
    assert (command, config.annotator, config.job, config.attached) == ("live", name, "job", True)
    assert config.data_dir == settings.data_dir.resolve()


class Starts(Worker):
    """Only notes for whom a job would start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, annotator: str = "") -> None:
        self.started.append(annotator)

    def status(self) -> JobStatus:
        return JobStatus("idle")


def test_automatic_starts_after_so_many_new_votes_of_one_or_of_all(
    versions: VersionStore, voted: PreferenceStore, make_version: Callable[..., str]
) -> None:
    """Prevents jobs after every vote, jobs that never come, and one person's votes that start another's job."""
    worker = Starts()
    automatic = Automatic(worker, versions, lambda: counted)
    ada, ben = (next(vote for vote in voted.votes() if vote.annotator == name) for name in ("ada", "ben"))
    counted = {"ada": 12, "ben": 8}
    automatic.after_vote(ada)
    assert worker.started == [], "it is switched off"
    versions.learn_every(10)
    automatic.after_vote(ada)
    automatic.after_vote(ada)
    assert worker.started == [""], "20 votes of all, none of them learnt yet"
    versions.keep_apart(True)
    automatic.after_vote(ben)
    automatic.after_vote(ada)
    assert worker.started == ["", "ada"], "ben has too few"
    make_version("job", "ada")  # of 12 votes
    counted |= {"ada": 21, "ben": 10}
    automatic.after_vote(ada)
    automatic.after_vote(ben)
    assert worker.started == ["", "ada", "ben"]
