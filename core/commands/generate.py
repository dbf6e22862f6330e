"""`python -m core generate "a person waves with the right hand"`: motions to files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from core.body.ik import pose_from_features
from core.body.smpl_files import load_body
from core.commands.console import ProgressLine
from core.diffusion.rollout import SamplerConfig, sample_motions
from core.models.checkpoint import load_diffusion
from core.motion.files import save_amass_npz, save_features_npy
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
    format: Literal["npz", "npy"] = "npz"  # npz: AMASS layout; npy: 263 features
    duration_s: float | None = None  # 2.0-9.8; None: from the text
    seed: int = 0  # of the first prompt; the next ones count up
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    checkpoints: Path = Path("checkpoints")
    device: str = "auto"


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Generate, args=arguments, prog="python -m core generate")
    if not config.prompts:
        raise ValueError('no prompt was given. Describe a motion, e.g. "a tired person walks forward".')
    requests = [Request(prompt, config.duration_s) for prompt in config.prompts]
    device = pick_device(config.device)
    model = load_diffusion(config.checkpoints, device, config.version)
    frames = [round((r.duration_s or suggest_duration_s(r.prompt)) * FPS) for r in requests]
    seeds = [config.seed + i for i in range(len(requests))]
    encoder, progress = load_text_encoder("minilm", device), ProgressLine("generating")
    motions = sample_motions(model, encoder, config.prompts, frames, seeds, config.sampler, progress)
    for i, features in enumerate(motions):
        log.info("wrote %s", _write(config.out / f"motion-{i:03d}.{config.format}", features))


def _write(path: Path, features: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        save_features_npy(path, features)
    else:
        body = load_body()
        pose, trans = pose_from_features(features, body)
        save_amass_npz(path, pose, trans, pelvis_rest=body.joints[0])
    return path
