"""A study under load: many simulated annotators at once, over HTTP: `python -m benchmarks.study_load`.

Motions are made beforehand, so that the machine measures the study and not the models. Each annotator waits a while
before each answer, as a person who looks, and measures from sending the answer to having the next pair. With --kills
the server is killed with -9 on the way and started again; unconfirmed answers are then sent again. At the end the
database must hold exactly what was confirmed, each comparison as often as asked, sides balanced; else exit code 1.
Prints a table and writes JSON. --smoke is a small one for tests.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.generation import deliver, machine
from benchmarks.study_load_people import Person, Server
from core.preference.store import PreferenceStore, default_database
from core.preference.studies import Study, load_study
from core.preference.studies_queue import StudyQueue
from core.preference.studies_takes import TakeShelf
from core.preference.types import Take

log = logging.getLogger(__name__)

VERSIONS = ("base", "aligned")
CRITERIA = ("realism",)
EXTRA_SHARE = 0.05  # of a person's pairs that are repeats, and that are attention checks
BALANCE = 0.02  # the sides may be off by this share
_N_MOTIONS, _FRAMES = 40, 120
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class StudyLoad:
    """Let simulated annotators answer a study."""

    annotators: int = 20
    votes: int = 2000  # in all
    votes_per_pair: int = 3
    think_s: float = 2.0  # mean time before an answer
    kills: int = 0  # of the server, evenly over the votes
    database: str | None = None  # SQLAlchemy URL of an empty database; SQLite in a temporary folder if not given
    seed: int = 0
    smoke: bool = False  # 4 annotators, 48 votes, 2 for each pair
    out: Path = Path("outputs/benchmark-study-load.json")

    def study(self) -> Study:
        """A study that exactly these people complete. ValueError where the numbers don't divide."""
        people, votes, wanted = (4, 48, 2) if self.smoke else (self.annotators, self.votes, self.votes_per_pair)
        extra = max(1, round(EXTRA_SHARE * votes / people))
        share = votes // people - 2 * extra
        if votes % people or share < 1 or share * people % wanted:
            raise ValueError(f"{votes} votes of {people} people, {wanted} for each pair, don't divide. Change one.")
        prompts = tuple(f"prompt {i}" for i in range(share * people // wanted))
        rate = extra / share
        return Study("load", prompts, VERSIONS, wanted, share, CRITERIA, repeats=rate, attention_checks=rate)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; 0 if everything is as it must be."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = tyro.cli(StudyLoad, args=arguments, prog="python -m benchmarks.study_load")
    try:
        report = run(config)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return deliver(report, markdown(report), config.out) or int(bool(report["faults"]))


def run(config: StudyLoad) -> dict[str, Any]:
    """The report of one run. RuntimeError if an annotator gave up or the page does not answer."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir, study = Path(folder), config.study()
        make_takes(data_dir, config.database, study)
        file = data_dir / "study.toml"
        file.write_text(study_toml(study))
        server = Server(data_dir, file, data_dir / "no-models", config.database)
        try:
            people, measured = work(config, study, server)
        finally:
            server.stop()
        found = check(data_dir, config.database, load_study(file), people)
        found |= clock(data_dir, config.database, load_study(file), people)
    seconds = sorted(a.seconds for person in people for a in person.answers if a.seconds is not None)
    quantiles = {f"p{q}": float(np.percentile(seconds, q)) for q in (50, 95, 99)} | {"slowest": seconds[-1]}
    return {"config": asdict(config), "machine": machine(), "seconds": quantiles, **measured, **found}


def work(config: StudyLoad, study: Study, server: Server) -> tuple[list[Person], dict[str, Any]]:
    """Everybody answers until the study is done; memory in MB on the way, and the server's processor time a vote.

    Memory and processor time count from the first answer on, when the server has started up.
    """
    n_people = study.people_needed()
    total, think_s = n_people * len(study.schedule("anybody")), 0.1 if config.smoke else config.think_s
    people = [Person(f"person {i}", server, think_s, CRITERIA, config.seed + i) for i in range(n_people)]
    for person in people:
        person.start()
    started, kills, looks = time.monotonic(), 0, []
    while any(person.is_alive() for person in people):
        time.sleep(_LOOK_EVERY_S)
        answered = sum(len(person.answers) for person in people)
        if kills < config.kills and answered >= total * (kills + 1) / (config.kills + 1):
            kills += 1
            log.info("kill -9 after %d answers", answered)
            server.restart()
        elif answered:
            looks.append((answered, round(server.resident_mb(), 1), server.cpu_s()))
    if failed := [person for person in people if person.failure]:
        raise RuntimeError(f"{failed[0].name} gave up: {failed[0].failure!r}") from failed[0].failure
    (first, _, cpu_before), (last, _, cpu_after) = looks[0], looks[-1]
    cost = {} if kills else {"server_cpu_ms_per_vote": round(1000 * (cpu_after - cpu_before) / max(1, last - first), 1)}
    seconds, memory = time.monotonic() - started, thin([look[:2] for look in looks])
    votes = sum(len(person.answers) for person in people)  # the last look may be older than the last answer
    return people, {"wall_s": round(seconds, 1), "votes": votes, "kills": kills, "memory_mb": memory, **cost}


def check(data_dir: Path, database: str | None, study: Study, people: list[Person]) -> dict[str, Any]:
    """What the database holds beside what was confirmed; every fault as one sentence."""
    store = PreferenceStore(data_dir, database)
    queue = StudyQueue(study, store.database)
    events = [(e["kind"], e["annotator"], e["pair_id"], e["verdict"]) for e in store.events()]
    sent = [("vote", person.name, a.pair_id, a.verdict) for person in people for a in person.answers]
    items = [(person.name, item) for person in people for item in queue.items(person.name)]
    store.close()
    queue.close()
    comparisons = [item for _, item in items if item.kind == "comparison"]
    times = Counter(item.prompt for item in comparisons)
    left = sum(item.left_version == VERSIONS[0] for item in comparisons) / max(1, len(comparisons))
    faults = [
        (len(set(sent) - set(events)), "confirmed votes are not in the database"),
        (len(events) - len(set(sent)), "events in the database were not confirmed, or are there twice"),
        (sum(item.verdict is None for _, item in items), "pairs were handed out and not answered"),
        (
            sum(times[prompt] != study.votes_per_pair for prompt in study.prompts),
            "pairs were not judged as often as asked",
        ),
        (len(comparisons) - len({(name, item.prompt) for name, item in items if item.kind == "comparison"}), "repeats"),
        (int(abs(left - 0.5) > BALANCE), "version stands too often on one side"),
        (sum(len(p.answers) != p.total for p in people), "people did not get all their pairs"),
    ]
    return {
        "comparisons": len(study.prompts),
        "left_share": round(left, 4),
        "kinds": dict(Counter(item.kind for _, item in items)),
        "faults": [f"{count} {what}" for count, what in faults if count],
    }


def clock(data_dir: Path, database: str | None, study: Study, people: list[Person]) -> dict[str, Any]:
    """Whether the time a pair takes to come tells what stands on the left: medians in seconds, and Mann-Whitney's p."""
    from scipy.stats import mannwhitneyu

    queue = StudyQueue(study, database or default_database(data_dir))
    took: dict[str, list[float]] = {version: [] for version in VERSIONS}
    for person in people:
        left = {item.pair_id: item.left_version for item in queue.items(person.name) if item.kind == "comparison"}
        for answer, shown in zip(person.answers, person.answers[1:], strict=False):
            if answer.seconds is not None and shown.pair_id in left:
                took[left[shown.pair_id]].append(answer.seconds)
    queue.close()
    medians = {version: round(float(np.median(times)), 4) for version, times in took.items() if times}
    return {"median_s_by_left": medians, "same_clock_p": round(float(mannwhitneyu(*took.values()).pvalue), 4)}


def make_takes(data_dir: Path, database: str | None, study: Study) -> None:
    """Put a take of each prompt and version on the study's shelf; the motions sway."""
    store = PreferenceStore(data_dir, database)
    shelf = TakeShelf(study.name, store.database)
    motions = [store.save_motion(swaying(seed)) for seed in range(_N_MOTIONS)]
    for i, prompt in enumerate(study.prompts):
        for j, version in enumerate(study.versions):
            name = motions[(2 * i + j) % _N_MOTIONS]
            take = Take(prompt, i, _FRAMES, 1, 1.0, "none", version, version, "none", "none", "0", "none", name)
            shelf.put(prompt, version, take)
    shelf.close()
    store.close()


def swaying(seed: int) -> np.ndarray:
    """Features (F, 263) of a body at rest that leans to and fro."""
    from core.body.smpl_files import load_body
    from core.motion.features import extract_features
    from core.motion.skeleton import N_JOINTS

    rng, t = np.random.default_rng(seed), np.arange(_FRAMES + 1)[:, None, None] / 20.0
    joints = np.tile(load_body().joints[:N_JOINTS] + [0.0, 1.0, 0.0], (_FRAMES + 1, 1, 1))
    joints = joints + 0.1 * np.sin(2.0 * np.pi * rng.uniform(0.2, 1.0, (1, 1, 3)) * t) * joints[..., 1:2] * [
        1.0,
        0.0,
        1.0,
    ]
    return extract_features(joints, np.tile(np.eye(3), (_FRAMES + 1, N_JOINTS, 1, 1)))


def study_toml(study: Study) -> str:
    """The study as a file; texts and numbers of JSON are TOML too."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in asdict(study).items()) + "\n"


def thin(series: list[tuple[int, float]], parts: int = 10) -> list[tuple[int, float]]:
    """The last entry and about `parts` before it, evenly spread."""
    return series[:: max(1, len(series) // parts)] + series[-1:]


def markdown(report: dict[str, Any]) -> str:
    """The table of a report."""
    here, seconds, memory = report["machine"], report["seconds"], report["memory_mb"]
    rows = {
        "votes, comparisons, kinds": f"{report['votes']}, {report['comparisons']}, {report['kinds']}",
        "kills of the server": report["kills"],
        "answer to next pair, s": ", ".join(f"{name} {value:.3f}" for name, value in seconds.items()),
        "server's processor time a vote, ms": report.get("server_cpu_ms_per_vote", "-"),
        "one version on the left": f"{100 * report['left_share']:.2f} %",
        "median s by version on the left, p": f"{report['median_s_by_left']}, {report['same_clock_p']}",
        "memory, MB, at votes": ", ".join(f"{mb:.0f} at {votes}" for votes, mb in memory),
        "faults": "; ".join(report["faults"]) or "none",
    }
    head = f"| {here['cores']} cores of {here['cpu']}, load {here['load']} | |"
    return "\n".join([head, "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


if __name__ == "__main__":
    sys.exit(main())
