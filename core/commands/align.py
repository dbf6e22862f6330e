"""`python -m core align --method easytune`: base + reward -> checkpoints/aligned; killed runs go on."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import AlignBatch
from core.align.guards import EnsembleReward, embedding_reward
from core.align.run import AlignResult, align
from core.align.schedule import from_diffusers
from core.commands.console import ProgressLine
from core.data.dataset import MotionSet, SetConfig, load_set
from core.diffusion.protocol import Reward
from core.diffusion.rollout import SamplerConfig, make_scheduler
from core.diffusion.schedule import SCHEDULER
from core.models.card import write_card
from core.models.checkpoint import load_diffusion, load_module, save_adapters, save_checkpoint
from core.text.encoder import TextEncoder, load_text_encoder
from core.train.curves import plot_curves
from core.train.loop import Callback, pick_device
from core.train.tasks import to_tensors

log = logging.getLogger(__name__)


def shipped() -> AlignConfig:
    """What aligned-a, one of the two alignments whose mean is shipped, was made with."""
    return AlignConfig(updates=60, lr=1.5e-4, guards=GuardConfig(anchor_weight=0.1, realism_weight=1.0))


@dataclass(frozen=True)
class Align:
    """Fine-tune the base denoiser on the reward."""

    name: str = "aligned"  # folder below checkpoints that is written
    base: str = "base"  # folder below checkpoints that is aligned, such as mdm
    rewards: tuple[str, ...] = ("reward", "reward-b")  # folders below checkpoints; several are averaged
    watched: tuple[str, ...] = ()  # rewards that are never trained on, for the disagreement alarm
    archive: Path = Path("data/bandai-namco.npz")
    train_items: int = 6000  # composed items that prompts and lengths are drawn from
    held_out_prompts: int = 48  # validation prompts of the stop rules
    checkpoints: Path = Path("checkpoints")
    runs: Path = Path("runs")
    device: str = "auto"
    threads: int = 0  # CPU threads; 0 leaves PyTorch's choice
    keep: float = 1.0  # of the adapters' change that is kept: weights between base and policy (Wortsman et al. 2022)
    align: Annotated[AlignConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=shipped)

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0:
            raise ValueError(f"keep={self.keep} is outside 0-1. 1 keeps all that was learnt.")
        if self.keep < 1.0 and self.align.lora_rank == 0:
            raise ValueError(f"keep={self.keep} needs adapters. Set --lora-rank above 0, or --keep 1.")


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Align, args=arguments, prog="python -m core align")
    command = shlex.join(["python", "-m", "core", "align", *arguments])
    result = run(config, ProgressLine(config.align.method), command)
    log.info("%d updates, %s; monitors %s", result.updates, result.stopped or "not stopped by a guard", result.monitors)


def run(config: Align, callback: Callback | None = None, command: str = "python -m core align") -> AlignResult:
    """Align and write checkpoints/<name>: adapters, or the whole denoiser where lora_rank is 0.

    command: what its card shall say made it.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device, started = pick_device(config.device), time.monotonic()
    model = load_diffusion(config.checkpoints, device, config.base)
    encoder = getattr(model, "text_encoder", None) or load_text_encoder("minilm", device)
    train = load_set(config.archive, SetConfig("train", config.train_items, seed=config.align.seed + 100))
    val = load_set(config.archive, SetConfig("val", 300))
    folder = config.runs / config.name
    schedule = from_diffusers(
        make_scheduler(SamplerConfig(config.align.steps), getattr(model, "schedule", SCHEDULER)), config.align.eta
    )
    reward = load_rewards(config, device)
    batches = prompt_batches(train, encoder, config.align, torch.device(device), reward)
    result = align(
        model,
        reward,
        schedule,
        batches,
        config.align,
        folder,
        held_out_batch(val, encoder, config.held_out_prompts, torch.device(device)),
        callback,
    )
    plot_curves(folder / "metrics.jsonl", folder / "curves.png")
    minutes = round((time.monotonic() - started) / 60, 1)
    facts = {"updates": result.updates, "stopped": result.stopped, "minutes": minutes, "device": device}
    meta = {
        **facts,
        "command": command,
        "seed": config.align.seed,
        "monitors": result.monitors,
        "training": asdict(config),
    }
    target = config.checkpoints / config.name
    if result.adapters:
        scale = config.keep * config.align.lora_alpha / config.align.lora_rank
        save_adapters(target, result.adapters, scale, meta, config.base)
    else:
        save_checkpoint(target, model.denoiser, {**meta, "from": config.base})
    write_card(target, command)
    return result


def load_rewards(config: Align, device: str) -> Reward:
    """One reward, or the mean of several."""
    trained = [load_module(config.checkpoints / name, device) for name in config.rewards]
    watched = [load_module(config.checkpoints / name, device) for name in config.watched]
    if not trained:
        raise ValueError("rewards is empty. Name at least one folder below checkpoints, such as reward.")
    return EnsembleReward(trained, watched) if len(trained) + len(watched) > 1 else trained[0]


def prompt_batches(
    motions: MotionSet, encoder: TextEncoder, align: AlignConfig, device: torch.device, reward: Reward
) -> Callable[[int], AlignBatch]:
    """Update -> its prompts, with the lengths of the motions they describe; a pure function of (seed, update).

    With a realism term each prompt fills two rows, and the reward embeds its real motion. ValueError if it can't.
    """
    embed = embedding_reward(reward).embed_motion if align.guards.realism_weight else None
    order = np.argsort(motions.lengths, kind="stable")
    size, takes = align.batch, 2 if embed else 1

    def batch(update: int) -> AlignBatch:
        rng = np.random.default_rng((align.seed, 77, update))
        spread = min(len(order), 16 * size)  # similar lengths waste no padding
        start = rng.integers(0, len(order) - spread + 1)
        rows = order[start + rng.choice(spread, size // takes, replace=False)]
        captions = [motions.captions[i][rng.integers(0, len(motions.captions[i]))] for i in rows]
        text = encoder.encode(captions).to(device)
        lengths = torch.from_numpy(motions.lengths[rows]).to(device)
        if embed is None:
            return AlignBatch(text, lengths)
        with torch.no_grad():
            real = embed(*to_tensors(motions, rows, device))
        return AlignBatch(
            text.select(torch.arange(len(rows)).repeat_interleave(2)),
            *(x.repeat_interleave(2, 0) for x in (lengths, real)),
        )

    return batch


def held_out_batch(motions: MotionSet, encoder: TextEncoder, count: int, device: torch.device) -> AlignBatch | None:
    """Validation prompts spread over the set; None where count is 0."""
    if count == 0:
        return None
    rows = np.linspace(0, len(motions) - 1, min(count, len(motions))).astype(int)
    captions = [motions.captions[i][0] for i in rows]
    return AlignBatch(encoder.encode(captions).to(device), torch.from_numpy(motions.lengths[rows]).to(device))
