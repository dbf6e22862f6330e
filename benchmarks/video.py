"""How long the MP4 of a pair takes, and how long it keeps the page waiting: `python -m benchmarks.video`.

Makes a pair with the engine and exports its video as the page does: poses, skinning, drawing, encoding. Beside it a
thread of the same process wakes every few milliseconds, as a page that answers visitors would, and notes how late it
comes. Prints a Markdown table (median, fastest, slowest of the repeats after a warm-up) and writes every number to
JSON. Where nothing can be drawn it says so in one sentence and ends with code 1.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from benchmarks.generation import deliver, machine
from core.engine import Engine
from core.motion.skeleton import FPS
from core.preference.types import Pair
from core.render.video import SIZE
from core.request import Request
from core.settings import Settings

_WAKE_EVERY_S = 0.005


@dataclass(frozen=True)
class VideoTimes:
    """Measure the video of a pair."""

    checkpoints: Path = Path("checkpoints")
    out: Path = Path("outputs/benchmark-video.json")
    prompt: str = "a tired person walks forward, then waves with the right hand"
    frames: int = 120  # of the pair; 6.0 s
    repeats: int = 3  # after a warm-up of one

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} must be at least 1.")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = tyro.cli(VideoTimes, args=arguments, prog="python -m benchmarks.video")
    try:
        report = run(config)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return deliver(report, markdown(report), config.out)


def run(config: VideoTimes) -> dict:
    """Seconds of every repeat and what they were measured on. RuntimeError without models or an OpenGL driver."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Settings(device="cpu", data_dir=Path(folder), checkpoints=config.checkpoints))
        engine.start_loading()
        engine.wait_until_ready()
        pair = engine.generate(Request(config.prompt, config.frames / FPS, seed=0))
        rounds = [measure(engine, pair) for _ in range(config.repeats + 1)][1:]
        seconds = {name: [times[name] for times in rounds] for name in rounds[0]}
        return {"config": asdict(config), "machine": machine(), "seconds": seconds}


def measure(engine: Engine, pair: Pair) -> dict[str, float]:
    """Export the pair's video once, leaving no file: wall-clock and processor seconds, and others' longest wait."""
    watch = Watch()
    watch.start()
    wall, processor = time.perf_counter(), time.process_time()
    path = engine.export(pair.id, "left", "mp4")
    seconds = {"MP4 of the pair": time.perf_counter() - wall, "of it on the processor": time.process_time() - processor}
    watch.end()
    path.unlink()
    return seconds | {"longest wait of another thread": max(watch.late_s)}


class Watch(threading.Thread):
    """Wakes every few milliseconds and notes how many seconds late it was."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late_s: list[float] = [0.0]
        self._ended = threading.Event()

    def run(self) -> None:
        due = time.perf_counter() + _WAKE_EVERY_S
        while not self._ended.wait(max(0.0, due - time.perf_counter())):
            self.late_s.append(time.perf_counter() - due)
            due = time.perf_counter() + _WAKE_EVERY_S

    def end(self) -> None:
        """Stop watching; returns when it has."""
        self._ended.set()
        self.join()


def markdown(report: dict) -> str:
    """The table of a report; seconds."""
    here, frames = report["machine"], report["config"]["frames"]
    size = "x".join(map(str, SIZE))
    rows = [
        f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} |"
        for name, times in report["seconds"].items()
    ]
    head = f"| {frames} frames, {size}; {here['cores']} cores of {here['cpu']}, load {here['load']} |"
    return "\n".join([head + " median, s | fastest | slowest |", "| --- | ---: | ---: | ---: |", *rows])


if __name__ == "__main__":
    sys.exit(main())
