"""`python -m core align --method easytune`: base + reward -> checkpoints/aligned; killed runs go on."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from core import Callback, require
from core.align.config import MAX_UPDATES, AlignConfig, GuardConfig, check_held_out
from core.align.finetune import AlignBatch
from core.align.guards import EnsembleReward, embedding_reward, noised_reward
from core.align.plans import noise_aware
from core.align.processes import current_processes, leave_together
from core.align.run import AlignResult, align
from core.align.run_files import MAY_CHANGE
from core.commands.console import ProgressLine
from core.data.clips import load_archive
from core.data.dataset import MotionSet, SetConfig, load_set
from core.data.unseen import Prompts, draw_unseen, tells_pairs
from core.diffusion.ddim import from_diffusers
from core.diffusion.protocol import Reward
from core.diffusion.rollout import SamplerConfig, make_scheduler
from core.diffusion.schedule import SCHEDULER
from core.models.card import write_card
from core.models.checkpoint import (
    DiffusionModel,
    fingerprint,
    load_diffusion,
    load_module,
    read_adapters,
    save_adapters,
    save_checkpoint,
)
from core.models.latent import LatentDiffusion
from core.models.lineage import lineage
from core.models.mld.reward import SpmReward
from core.models.reward import TwoTowers
from core.text.encoder import TextEncoder, encoder_of, reward_encoder
from core.train.curves import plot_curves
from core.train.loop import pick_device
from core.train.run_record import check_target, content, differences, plain, set_aside
from core.train.tasks import to_tensors

log = logging.getLogger(__name__)
_PLACES = ("archive", "checkpoints", "runs", "device", "threads")  # of Align: where, not what
UNSEEN_PROMPTS = 2000  # drawn once a run, more than its updates ask for


def recommended() -> AlignConfig:
    """The best settings found for a single run, docs/experiments.md; a card tells what its weights were made with."""
    guards = GuardConfig(anchor_weight=0.1, ema=0.97, realism_weight=1.0)
    return AlignConfig(steps=50, last_k=10, prefix_stride=5, trained_stride=5, updates=96, lr=4e-4, guards=guards)


@dataclass(frozen=True)
class Align:
    """Fine-tune the base denoiser on the reward."""

    name: str = "aligned"  # folder below checkpoints that is written
    base: str = "base"  # folder below checkpoints that is aligned, such as mdm
    rewards: tuple[str, ...] = ("reward", "reward-b", "reward-spl")  # folders below checkpoints; several are averaged
    watched: tuple[str, ...] = ()  # rewards that are never trained on, for the disagreement alarm
    archive: Path = Path("data/bandai-namco.npz")  # made by `python -m core prepare`
    train_items: int = 6000  # composed items that prompts and lengths are drawn from
    held_out_prompts: int = 48  # validation prompts of the stop rules; 0 = no monitors
    checkpoints: Path = Path("checkpoints")  # folder of the models
    runs: Path = Path("runs")  # folder of what resuming needs, below it the name
    device: str = "auto"  # cpu, cuda or mps; auto takes what is there
    threads: int = 0  # CPU threads; 0 leaves PyTorch's choice
    start: str | None = None  # folder below checkpoints with adapters on the same base to go on from
    unseen_share: float = 0.25  # of the updates: pairs no training clip shows, where the archive tells
    unseen_weight: float = 1.0  # of the reward in these, which have no realism term beside it
    keep: float = 1.0  # of the adapters' change that is kept: weights between base and policy (Wortsman et al. 2022)
    align: Annotated[AlignConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=recommended)

    def __post_init__(self) -> None:
        require(self, "keep", high=1.0, above=True)
        if self.keep < 1.0 and self.align.lora_rank == 0:
            raise ValueError(f"keep={self.keep} needs adapters. Set --lora-rank above 0, or --keep 1.")
        require(self, "unseen_share", high=1.0)
        require(self, "unseen_weight", above=True)
        require(self, "train_items", "threads")
        require(self.align, "updates", high=MAX_UPDATES)
        check_held_out(self.held_out_prompts)


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Align, args=arguments, prog="python -m core align")
    command = shlex.join(["python", "-m", "core", "align", *arguments])
    result = run(config, ProgressLine(config.align.method), command)
    leave_together()
    log.info("%d updates, %s; monitors %s", result.updates, result.stopped or "not stopped by a guard", result.monitors)


def run(config: Align, callback: Callback | None = None, command: str = "python -m core align") -> AlignResult:
    """Align and write checkpoints/<name>: adapters, or the whole denoiser where lora_rank is 0.

    command: what its card shall say made it. Raises FileNotFoundError or ValueError, as a sentence, for what is missing
    or does not fit together. A checkpoint of that name that another run has made stays as <name>-before.
    """
    read = (*lineage(config.checkpoints, config.base), *config.rewards, *config.watched, "vae", "judge")
    check_target(config.name, (*read, config.start) if config.start else read)
    folder = config.runs / config.name
    if config.threads:
        torch.set_num_threads(config.threads)
    processes, device = current_processes(config.device), pick_device(config.device)
    model = load_diffusion(config.checkpoints, device, config.base)
    rewards = load_rewards(config, device)
    encoder = encoder_of(model, device)
    seen_by = reward_encoder(encoder, next(iter(rewards.values())).reads, device)
    reward = joined(config, rewards)
    check_rewards(config, model, rewards, reward, (seen_by or encoder).encode([""]).to(device))
    train = load_set(config.archive, SetConfig("train", config.train_items, seed=config.align.seed + 100))
    val = load_set(config.archive, SetConfig("val", 300))
    start = starting_adapters(config) if config.start else None
    levels, on = getattr(model, "schedule", SCHEDULER), torch.device(device)
    set_aside(config.checkpoints / config.name, (folder / "state.pt").exists() and made_by(config))
    result = align(
        model,
        reward,
        from_diffusers(make_scheduler(SamplerConfig(config.align.steps), levels), config.align.eta),
        prompt_batches(train, encoder, config.align, on, reward, seen_by, unseen_prompts(config)),
        config.align,
        folder,
        held_out_batch(val, encoder, config.held_out_prompts, on, seen_by),
        callback if processes.writes else None,
        start,
        made_from=made_from(config, model),
    )
    if processes.writes:
        plot_curves(folder / "metrics.jsonl", folder / "curves.png")
        save(config, model, result, device, command)
    return result


def made_by(config: Align) -> bool:
    """Whether checkpoints/<name> came out of a run with these settings, which may since have been prolonged."""
    described = config.checkpoints / config.name / "config.json"
    training = json.loads(described.read_text(encoding="utf-8")).get("training") if described.is_file() else None
    free = {*_PLACES, *(f"align.{name}" for name in MAY_CHANGE)}
    return training is not None and differences(training, plain(asdict(config))).keys() <= free


def save(config: Align, model: DiffusionModel, result: AlignResult, device: str, command: str) -> None:
    """Write checkpoints/<name> with its card."""
    target = config.checkpoints / config.name
    meta = {
        "updates": result.updates,
        "stopped": result.stopped,
        "minutes": round(result.seconds / 60, 1),
        "device": device,
        "command": command,
        "seed": config.align.seed,
        "monitors": result.monitors,
        "training": asdict(config),
    }
    if result.adapters:
        scale = config.keep * config.align.lora_alpha / config.align.lora_rank
        save_adapters(target, result.adapters, scale, meta, config.base)
    else:
        save_checkpoint(target, model.denoiser, {**meta, "from": config.base})
    write_card(target, command)


def made_from(config: Align, model: DiffusionModel) -> dict[str, Any]:
    """Fingerprints of all that a run learns from: with other ones it can't go on."""
    parts = {"base": config.base} | ({"vae": "vae"} if isinstance(model, LatentDiffusion) else {})
    return {
        **{part: fingerprint(config.checkpoints / name) for part, name in parts.items()},
        "rewards": [fingerprint(config.checkpoints / name) for name in config.rewards],
        "watched": [fingerprint(config.checkpoints / name) for name in config.watched],
        "archive": content(config.archive),
        "train_items": config.train_items,
        "held_out_prompts": config.held_out_prompts,
        "start": fingerprint(config.checkpoints / config.start) if config.start else "",
        "unseen": [config.unseen_share, config.unseen_weight] if asks_unseen(config) else [],
    }


@dataclass(frozen=True)
class Unseen:
    """Prompts without motions. share: of the updates, in [0, 1]; weight: of the reward in these."""

    prompts: Prompts
    share: float
    weight: float


def asks_unseen(config: Align) -> bool:
    """Whether prompts of what no training clip shows are wanted and the archive tells which those are."""
    return config.unseen_share > 0 and tells_pairs(config.archive)


def unseen_prompts(config: Align) -> Unseen | None:
    """Prompts of what no training clip shows; None where asks_unseen says so."""
    if not asks_unseen(config):
        if config.unseen_share:
            log.info("%s brings its own captions: all prompts are drawn from them, unseen_share is 0", config.archive)
        return None
    prompts = draw_unseen(load_archive(config.archive).of("train"), UNSEEN_PROMPTS, config.align.seed)
    return Unseen(prompts, config.unseen_share, config.unseen_weight)


def starting_adapters(config: Align) -> dict[str, torch.Tensor]:
    """Adapters of checkpoints/<start> for a policy of this run; ValueError where they don't fit.

    Rows of a have norm 1, about as fresh ones have, so that a learning rate means the same to both.
    """
    assert config.start is not None
    folder, rank = config.checkpoints / config.start, config.align.lora_rank
    described, tensors = read_adapters(folder)
    if described["config"]["base"] != fingerprint(config.checkpoints / config.base):
        raise ValueError(f"{folder} was aligned from another base than {config.checkpoints / config.base}.")
    found = max(len(tensor) for name, tensor in tensors.items() if name.endswith(".a"))
    if found != rank:
        raise ValueError(f"{folder} has adapters of rank {found}, lora_rank={rank}. Set --lora-rank {found}.")
    scale, start = described["config"]["scale"] * rank / config.align.lora_alpha, {}
    for weight in (name.removesuffix(".a") for name in tensors if name.endswith(".a")):
        norms = tensors[f"{weight}.a"].float().norm(dim=1).clamp(min=1e-12)
        start[f"{weight}.a"] = tensors[f"{weight}.a"].float() / norms[:, None]
        start[f"{weight}.b"] = tensors[f"{weight}.b"].float() * norms * scale
    return start


def load_rewards(config: Align, device: str) -> dict[str, TwoTowers | SpmReward]:
    """Folder -> reward, of those trained on and those watched; ValueError where they don't read text alike."""
    if not config.rewards:
        raise ValueError("rewards is empty. Name at least one folder below checkpoints, such as reward.")
    found: dict[str, TwoTowers | SpmReward] = {}
    for name in (*config.rewards, *config.watched):
        found[name] = any_reward(config.checkpoints / name, device)
    if len({module.reads for module in found.values()}) > 1:
        told = ", ".join(f"{name} by {module.reads}" for name, module in found.items())
        raise ValueError(f"the rewards read text by different encoders: {told}. Choose rewards of one encoder.")
    return found


def any_reward(folder: Path, device: str) -> TwoTowers | SpmReward:
    """The reward of a checkpoint folder; ValueError where it holds something else."""
    module = load_module(folder, device)
    if not isinstance(module, TwoTowers | SpmReward):
        raise ValueError(f"{folder} holds a {type(module).__name__}, which is no reward.")
    return module


def check_rewards(
    config: Align, model: DiffusionModel, rewards: Mapping[str, TwoTowers | SpmReward], reward: Reward, text: Any
) -> None:
    """ValueError now, not a matrix error after minutes of sampling, where a reward knows other text or latents.

    reward: of them all; text: of one prompt.
    """
    for member in rewards.values():
        member.embed_text(text)
    if noise_aware(config.align.plan(0)):
        lengths = torch.tensor([40], device=model.device)
        noise = torch.zeros(1, *model.latent_shape(lengths), device=model.device)
        noised_reward(reward).noised(noise, 0, lengths, text)


def joined(config: Align, rewards: Mapping[str, TwoTowers | SpmReward]) -> Reward:
    """One reward, or the mean of several."""
    trained, watched = ([rewards[name] for name in names] for names in (config.rewards, config.watched))
    return EnsembleReward(trained, watched) if len(trained) + len(watched) > 1 else trained[0]


def prompt_batches(
    motions: MotionSet,
    encoder: TextEncoder,
    align: AlignConfig,
    device: torch.device,
    reward: Reward,
    seen_by: TextEncoder | None = None,
    unseen: Unseen | None = None,
) -> Callable[[int], AlignBatch]:
    """Update -> its prompts, with the lengths of the motions they describe; a pure function of (seed, update).

    With a realism term each prompt fills two rows, and the reward embeds its real motion. ValueError if it can't.
    seen_by: the reward's text encoder, where it isn't the model's. unseen: what a share of the updates takes instead.
    """
    embed = embedding_reward(reward).embed_motion if align.guards.realism_weight else None
    order = np.argsort(motions.lengths, kind="stable")
    unseen_order = np.argsort(unseen.prompts.lengths, kind="stable") if unseen else order

    def described(captions: Sequence[str], lengths: np.ndarray) -> AlignBatch:
        rewarded = seen_by and seen_by.encode(captions).to(device)
        text = encoder.encode(captions).to(device)
        return AlignBatch(text, torch.from_numpy(lengths).to(device), reward_text=rewarded)

    def batch(update: int) -> AlignBatch:
        rng = np.random.default_rng((align.seed, 77, update))
        if unseen and np.random.default_rng((align.seed, 78, update)).random() < unseen.share:
            rows, prompts = alike(unseen_order, align.batch, align.batch, rng), unseen.prompts
            asked = described([prompts.captions[i] for i in rows], prompts.lengths[rows])
            return replace(asked, weight=unseen.weight)
        rows = alike(order, align.batch, align.batch // (2 if embed else 1), rng)
        captions = [motions.captions[i][rng.integers(0, len(motions.captions[i]))] for i in rows]
        prompts = described(captions, motions.lengths[rows])
        if embed is None:
            return prompts
        with torch.no_grad():
            real = embed(*to_tensors(motions, rows, device))
        twice = torch.arange(len(rows)).repeat_interleave(2)
        return AlignBatch(
            prompts.text.select(twice),
            *(x.repeat_interleave(2, 0) for x in (prompts.lengths, real)),
            reward_text=prompts.reward_text and prompts.reward_text.select(twice),
        )

    return batch


def alike(order: np.ndarray, batch: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the items in `order`, by length, from a window of 16 batches: similar lengths waste no padding.

    ValueError where there are fewer.
    """
    if count > len(order):
        raise ValueError(f"batch={batch} takes {count} prompts, there are {len(order)}. Choose a smaller batch.")
    spread = min(len(order), 16 * batch)
    start = rng.integers(0, len(order) - spread + 1)
    return order[start + rng.choice(spread, count, replace=False)]


def held_out_batch(
    motions: MotionSet, encoder: TextEncoder, count: int, device: torch.device, seen_by: TextEncoder | None = None
) -> AlignBatch | None:
    """Validation prompts spread over the set; None where count is 0."""
    if count == 0:
        return None
    rows = np.linspace(0, len(motions) - 1, min(count, len(motions))).astype(int)
    captions = [motions.captions[i][0] for i in rows]
    lengths = torch.from_numpy(motions.lengths[rows]).to(device)
    rewarded = seen_by and seen_by.encode(captions).to(device)
    return AlignBatch(encoder.encode(captions).to(device), lengths, reward_text=rewarded)
