"""How long a pair takes from the sentence to the player, step by step, on this machine's CPU.

    python -m benchmarks.generation                # 5 repeats on 2 threads, a minute or two
    python -m benchmarks.generation --smoke        # one repeat of few steps: does it run?

A pair is base and aligned from the same noise, made as the page makes it. Every repeat takes a prompt that has not been
encoded before, and all measures take turns, so that a busy moment of the machine does not fall on one of them alone.
Prints a Markdown table (median, and the fastest, of the repeats after a warm-up) and writes every single time to JSON.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from core.body.ik import pose_from_features
from core.body.smpl_files import Body, load_body
from core.data.captions import surprise
from core.diffusion.rollout import SamplerConfig
from core.diffusion.takes import Wanted, sample_each
from core.engine import weights_sha256
from core.models.checkpoint import load_diffusion
from core.models.latent import LatentDiffusion
from core.motion.files import atomic_write
from core.motion.skeleton import MAX_FRAMES
from core.render.player_pack import pack_pair
from core.text.encoder import TextEncoder, load_text_encoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generation:
    """Measure generation on the CPU."""

    checkpoints: Path = Path("checkpoints")
    versions: tuple[str, str] = ("base", "aligned")  # the two of a pair
    out: Path = Path("outputs/benchmark-generation.json")
    threads: int = 2  # CPU threads of all but the pair, whose motions take one core each
    repeats: int = 5  # after a warm-up of one
    frames: int = 120  # of the pair; 6.0 s
    ddim_steps: int = 50
    fast_steps: tuple[int, ...] = (8, 12, 16, 20)  # of dpm++
    smoke: bool = False  # one repeat of few steps

    def __post_init__(self) -> None:
        if self.threads < 1 or self.repeats < 1:
            raise ValueError(f"threads={self.threads} and repeats={self.repeats} must be at least 1.")


Measure = Callable[[int], object]  # number of the repeat -> what was made; only the time matters


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = tyro.cli(Generation, args=arguments, prog="python -m benchmarks.generation")
    if config.smoke:
        config = replace(config, repeats=1, ddim_steps=2, fast_steps=(2,))
    try:
        report = run(config)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return deliver(report, markdown(report), config.out)


def deliver(report: dict, table: str, out: Path) -> int:
    """Write the report as JSON and print its table; returns the exit code of success."""
    atomic_write(out, lambda file: file.write(json.dumps(report, indent=2, default=str).encode()))
    print(table)
    log.info("wrote %s", out)
    return 0


def run(config: Generation) -> dict:
    """Seconds of every repeat of every measure, and what they were measured on. Side effect: sets PyTorch's threads.

    Raises FileNotFoundError or ValueError as load_diffusion does.
    """
    torch.set_num_threads(config.threads)
    models = [load_diffusion(config.checkpoints, "cpu", version) for version in config.versions]
    measures = make_measures(config, models, load_text_encoder(), load_body())
    return {
        "config": asdict(config),
        "weights": {v: weights_sha256(model) for v, model in zip(config.versions, models, strict=True)},
        "machine": machine(),
        "seconds": timed(measures, config.repeats),
    }


def make_measures(
    config: Generation, models: list[LatentDiffusion], encoder: TextEncoder, body: Body
) -> dict[str, Measure]:
    """What is timed, by name in the order of the table."""
    prompts = Prompts()

    def pair(sampler: SamplerConfig, repeat: int, frames: int = config.frames) -> list[np.ndarray]:
        prompt = prompts.fresh()
        return sample_each([Wanted(model, prompt, frames, repeat) for model in models], encoder, sampler)

    ddim = SamplerConfig(config.ddim_steps)
    longest = pair(SamplerConfig(2), 0, MAX_FRAMES)[0]
    poses = [pose_from_features(features, body) for features in pair(SamplerConfig(2), 0)]
    lengths = torch.tensor([config.frames])
    latents = torch.randn(1, *models[0].latent_shape(lengths), generator=torch.Generator().manual_seed(0))

    def decode(_: int) -> torch.Tensor:
        with torch.no_grad():
            return models[0].decode(latents, lengths)

    def shown(repeat: int) -> dict:
        return pack_pair(*(part for features in pair(ddim, repeat) for part in pose_from_features(features, body)))

    measures: dict[str, Measure] = {f"pair, DDIM, {config.ddim_steps} steps": lambda repeat: pair(ddim, repeat)}
    for steps in config.fast_steps:
        fast = SamplerConfig(steps, solver="dpm++")
        measures[f"pair, DPM-Solver++, {steps} steps"] = lambda repeat, fast=fast: pair(fast, repeat)
    return measures | {
        "text encoder, one new prompt": lambda _: encoder.encode([prompts.fresh()]),
        f"decoder, one motion of {config.frames} frames": decode,
        f"inverse kinematics, {MAX_FRAMES} frames": lambda _: pose_from_features(longest, body),
        f"player data of a pair of {config.frames} frames": lambda _: pack_pair(*poses[0], *poses[1]),
        f"sentence to player data, DDIM, {config.ddim_steps} steps": shown,
    }


class Prompts:
    """Random prompts, none of them twice."""

    def __init__(self) -> None:
        self._seed, self._seen = 0, set()

    def fresh(self) -> str:
        """The next prompt."""
        while True:
            self._seed += 1
            prompt = surprise(self._seed)
            if prompt not in self._seen:
                self._seen.add(prompt)
                return prompt


def timed(measures: dict[str, Measure], repeats: int) -> dict[str, list[float]]:
    """Wall-clock seconds (repeats,) of each measure after one warm-up round; the measures take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for repeat in range(repeats + 1):
        for name, measure in measures.items():
            start = time.perf_counter()
            measure(repeat)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def machine() -> dict[str, object]:
    """What the numbers hold for; `load` is the number of busy processes over the last minute, where it is known."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def markdown(report: dict) -> str:
    """The table of a report; milliseconds."""
    here, config = report["machine"], report["config"]
    rows = [
        f"| {name} | {statistics.median(times) * 1000:.1f} | {min(times) * 1000:.1f} |"
        for name, times in report["seconds"].items()
    ]
    head = f"| {config['threads']} threads, {here['cpu']}, load {here['load']} | median, ms | fastest, ms |"
    return "\n".join([head, "| --- | ---: | ---: |", *rows])


if __name__ == "__main__":
    sys.exit(main())
