"""`python -m core generate "a person waves with the right hand"`: motions to files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from core.body.smpl_files import load_body
from core.commands.console import ProgressLine
from core.diffusion.rollout import SamplerConfig
from core.diffusion.takes import Wanted, sample_each
from core.formats import FORMATS, write_motion
from core.models.checkpoint import load_diffusion
from core.motion.skeleton import FPS
from core.request import Request
from core.text.duration import suggest_duration_s
from core.text.encoder import load_text_encoder
from core.train.loop import pick_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generate:
    """Make one motion per prompt with one model version."""

    prompts: Annotated[tuple[str, ...], tyro.conf.Positional]
    out: Path = Path("outputs")  # folder
    version: str = "aligned"  # folder below checkpoints
    format: Literal["npz", "npy", "joints", "glb", "bvh"] = "npz"  # npz: AMASS layout; npy: 263 features
    duration_s: float | None = None  # 2.0-9.8; None: from the text
    seed: int = 0  # of the first prompt; the next ones count up
    sampler: SamplerConfig = field(default_factory=SamplerConfig)  # of every motion
    checkpoints: Path = Path("checkpoints")  # folder of the models
    device: str = "auto"  # cpu, cuda or mps; auto takes what is there


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Generate, args=arguments, prog="python -m core generate")
    if not config.prompts:
        raise ValueError('no prompt was given. Describe a motion, e.g. "a tired person walks forward".')
    requests = [Request(prompt, config.duration_s) for prompt in config.prompts]
    device = pick_device(config.device)
    model = load_diffusion(config.checkpoints, device, config.version)
    frames = [round((r.duration_s or suggest_duration_s(r.prompt)) * FPS) for r in requests]
    wanted = [
        Wanted(model, request.prompt.strip(), n, config.seed + i)
        for i, (request, n) in enumerate(zip(requests, frames, strict=True))
    ]
    encoder, body = load_text_encoder("minilm", device), load_body()
    for i, features in enumerate(sample_each(wanted, encoder, config.sampler, ProgressLine("generating"))):
        path = config.out / f"motion-{i:03d}{FORMATS[config.format].ending}"
        write_motion(path, features, body, config.format)
        log.info("wrote %s", path)
