"""`python -m core prepare bandai-namco|humanml3d|kit|bvh|amass|mix PATH`: a dataset -> data/<dataset>.npz."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from core.body.smpl_files import load_body
from core.commands.console import ProgressLine
from core.data.captioned import PreparedSet, save_prepared
from core.data.conversion import in_our_features
from core.data.folders import read_amass_folder, read_bvh_folder, read_joint_names
from core.data.humanml3d import HUMANML3D, KIT, read_humanml3d
from core.data.mixture import write_mixture
from core.data.prepare import prepare_bandai

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepare:
    """Turn a motion dataset into one compact archive: `align` and `evaluate` take it by --archive, training by
    --data.archive.
    """

    dataset: Annotated[Literal["bandai-namco", "humanml3d", "kit", "bvh", "amass", "mix"], tyro.conf.Positional]
    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]  # the unpacked dataset; for mix: prepared archives
    out: Path | None = None  # None: data/<dataset>.npz, data/mix.json
    convention: Literal["humanml3d", "smpl"] | None = None  # of humanml3d and kit: as published, or as our own data
    joints: Path | None = None  # bvh: JSON {our joint name: their name}, for skeletons that are not in the table
    weights: tuple[float, ...] = ()  # mix: how often each archive's motions count in training; empty: once


def main(arguments: list[str]) -> None:
    """Parse and run."""
    log.info("%s", run(tyro.cli(Prepare, args=arguments, prog="python -m core prepare")))


def run(config: Prepare) -> str:
    """Write the archive; returns a summary in words. Raises as the readers of core.data do."""
    out = config.out or Path("data") / f"{config.dataset}.{'json' if config.dataset == 'mix' else 'npz'}"
    if config.dataset == "mix":
        return write_mixture(out, config.paths, config.weights)
    if len(config.paths) != 1:
        raise ValueError(f"{len(config.paths)} paths were given, {config.dataset} needs one: the dataset's folder.")
    rest = load_body().joints
    if config.dataset == "bandai-namco":
        return prepare_bandai(config.paths[0], out, rest, ProgressLine("reading"))
    prepared = _read(config, rest)
    save_prepared(out, prepared)
    return f"{prepared.summary()} -> {out}, {out.stat().st_size / 1e6:.1f} MB"


def _read(config: Prepare, rest: np.ndarray) -> PreparedSet:
    path, progress = config.paths[0], ProgressLine("reading")
    if config.dataset == "bvh":
        return read_bvh_folder(path, rest, progress, read_joint_names(config.joints))
    if config.dataset == "amass":
        return read_amass_folder(path, rest, progress)
    prepared = read_humanml3d(path, KIT if config.dataset == "kit" else HUMANML3D, progress)
    usual = "smpl" if config.dataset == "kit" else "humanml3d"  # KIT-ML's 251 features fit no model of ours
    ours = (config.convention or usual) == "smpl"
    return in_our_features(prepared, rest, ProgressLine("converting")) if ours else prepared
