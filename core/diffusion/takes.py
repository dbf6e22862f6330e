"""Single motions, as many at a time as there are cores: what the page, the command line and the benchmark generate by.

Each motion is computed alone on one core. At a handful of latents, one core for each of two motions is 1.5 times faster
than both cores for one after the other, and a motion has the same bits whatever the number of cores and whatever else
is asked for. On an accelerator the motions come one after the other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

from core import Callback
from core.diffusion.protocol import MotionDiffusion
from core.diffusion.rollout import SamplerConfig, check_frames, sample_motions, shifted

_MOST_AT_ONCE = 8


@dataclass(frozen=True)
class Wanted:
    """One motion to make. ValueError if its length can't be made."""

    model: MotionDiffusion
    prompt: str
    frames: int
    seed: int

    def __post_init__(self) -> None:
        check_frames(self.frames)


class _StoppedError(Exception):
    """Nobody waits for this motion any more."""


def sample_each(
    wanted: Sequence[Wanted], text_encoder: Any, config: SamplerConfig, callback: Callback | None = None
) -> list[np.ndarray]:
    """Features (F, 263) float32 in physical units of each wanted motion, in the same order.

    callback(step, total, {}) counts network steps over all motions and is called in the calling thread; raising from
    it cancels them all.
    """
    if all(_device(one).type == "cpu" for one in wanted):
        return _side_by_side(wanted, text_encoder, config, callback)
    total = len(wanted) * config.steps
    return [
        _sample(one, text_encoder, config, shifted(callback, i * config.steps, total)) for i, one in enumerate(wanted)
    ]


def _device(one: Wanted) -> torch.device:
    return next(one.model.denoiser.parameters()).device


def _sample(one: Wanted, text_encoder: Any, config: SamplerConfig, callback: Callback | None) -> np.ndarray:
    return sample_motions(one.model, text_encoder, [one.prompt], [one.frames], [one.seed], config, callback)[0]


def _side_by_side(
    wanted: Sequence[Wanted], text_encoder: Any, config: SamplerConfig, callback: Callback | None
) -> list[np.ndarray]:
    """sample_each on the CPU: workers compute and send word of each step, the calling thread passes it on."""
    words: SimpleQueue[bool] = SimpleQueue()  # True: one step more; False: one motion has ended, well or not
    stop = threading.Event()

    def on_step(_step: int, _total: int, _info: dict) -> None:
        if stop.is_set():
            raise _StoppedError
        words.put(True)

    motions = [_workers().submit(_sample, one, text_encoder, config, on_step) for one in wanted]
    for motion in motions:
        motion.add_done_callback(lambda _: words.put(False))
    try:
        _pass_on(words, len(motions), config.steps, callback)
    finally:
        stop.set()
        wait(motions)
    return [motion.result() for motion in motions]


def _pass_on(words: SimpleQueue[bool], motions: int, steps: int, callback: Callback | None) -> None:
    """Call back for every step until all motions have ended."""
    done, ended = 0, 0
    while ended < motions:
        if not words.get():
            ended += 1
            continue
        done += 1
        if callback is not None:
            callback(done, motions * steps, {})


@cache
def _workers() -> ThreadPoolExecutor:
    """Threads with one core each, for the life of the process: PyTorch keeps memory for every thread it has met."""
    threads, size = torch.get_num_threads(), min(os.cpu_count() or 1, _MOST_AT_ONCE)
    pool = ThreadPoolExecutor(size, "sample", initializer=_settle_on_one_core)
    all_started = threading.Barrier(size)
    wait([pool.submit(all_started.wait) for _ in range(size)])
    torch.set_num_threads(threads)  # a thread begins with the number set last, wherever that was
    return pool


def _settle_on_one_core() -> None:
    torch.get_num_threads()  # the first call in a thread sets its number; so it can't overwrite ours later
    torch.set_num_threads(1)
