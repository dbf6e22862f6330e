"""`python -m core import-weights mld FILE`: a published checkpoint -> a folder below checkpoints."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from torch import nn

from core.models.checkpoint import load_vae, save_checkpoint
from core.models.imports import import_weights, set_statistics
from core.models.imports_sizes import ImportOptions
from core.models.mdm_diffusion import MdmDiffusion
from core.models.mld.diffusion import MldDiffusion
from core.motion.files import atomic_write
from core.train.run_record import whole

log = logging.getLogger(__name__)

CARD = """# {name}

Published {config.kind} weights, imported unchanged by `python -m core import-weights`.
They stay under the licence and the citation of those who published them, and so does what is made with them.
"""
Kind = Literal["mld", "motionlcm", "mdm", "spm", "t2m-evaluator"]


@dataclass(frozen=True)
class ImportWeights:
    """Turn published weights into a checkpoint of ours; nothing in the file is run."""

    kind: Annotated[Kind, tyro.conf.Positional]
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]  # one file, or one a network; .safetensors or torch
    name: str | None = None  # folder below checkpoints that is written; None: the kind
    checkpoints: Path = Path("checkpoints")
    overwrite: bool = False  # replace a checkpoint of that name
    statistics: Path | None = None  # folder with the Mean.npy and Std.npy that the weights were trained with
    options: Annotated[ImportOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ImportOptions)


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(ImportWeights, args=arguments, prog="python -m core import-weights")
    log.info("%s", run(config))


def run(config: ImportWeights) -> str:
    """Write checkpoints/<name>; returns what to do next, in words.

    Raises as core.models.imports.import_weights, and ValueError rather than replace a checkpoint.
    """
    if not config.files:
        raise ValueError("no file was given. Give the published checkpoint's path.")
    folder = config.checkpoints / (config.name or config.kind)
    if whole(folder) and not config.overwrite:
        raise ValueError(f"{folder} exists already. Choose a --name, or replace it with --overwrite.")
    model = import_weights(config.kind, config.files, config.statistics, config.options)
    statistics = str(config.statistics) if config.statistics else _stand_in(model, config.checkpoints)
    count = sum(p.numel() for p in model.parameters())
    meta = {"imported": config.kind, "files": [str(f) for f in config.files], "statistics": statistics}
    save_checkpoint(folder, model, {**meta, "parameters": count}, exact=True)
    atomic_write(folder / "card.md", lambda file: file.write(CARD.format(config=config, name=folder.name).encode()))
    return f"{count:,} parameters -> {folder}. {_next_step(config, folder.name, model)}"


def _stand_in(model: nn.Module, checkpoints: Path) -> str:
    """The statistics of the default data for weights that came without theirs; says so."""
    try:
        vae = load_vae(checkpoints)
        set_statistics(model, vae.feature_mean, vae.feature_std)
        used = "those of the default data stand in"
    except (FileNotFoundError, ValueError):
        used = "motions stay in normalised units"
    log.warning("no --statistics: %s. Give the folder with the Mean.npy and Std.npy of the training data.", used)
    return f"not given; {used}"


def _next_step(config: ImportWeights, name: str, model: nn.Module) -> str:
    place = "" if config.checkpoints == ImportWeights.checkpoints else f" --checkpoints {config.checkpoints}"
    if config.kind == "spm":
        return f"Use it with `python -m core align --base mld --rewards {name}{place} --name mld-aligned`."
    if not isinstance(model, MldDiffusion | MdmDiffusion):
        return f"Use it with `python -m core evaluate --evaluator {name} --words glove/{place}`."
    sampler = f"--sampler.guidance-scale {2.5 if config.kind == 'mdm' else 7.5}"  # as published
    if isinstance(model, MldDiffusion) and model.config.denoiser.guidance_width:
        sampler += " --sampler.solver lcm --sampler.steps 4"
    return (
        f'Try `python -m core generate "a person walks" --version {name} {sampler}{place}`; '
        f"it reads text by {model.config.text_encoder}."
    )
