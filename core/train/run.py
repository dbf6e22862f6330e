"""From a typed configuration to a trained, saved model: the functions behind `python -m core train`."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from core import Callback, require
from core.align.processes import current_processes
from core.data.dataset import MotionSet, SetConfig, load_set
from core.models.card import write_card
from core.models.checkpoint import fingerprint, load_vae, save_checkpoint
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.judge import WORD, Judge, JudgeConfig
from core.models.latent_reward import LatentReward, LatentRewardConfig
from core.models.mdm_diffusion import MdmDiffusion, MdmDiffusionConfig
from core.models.reward import RewardConfig, RewardModel
from core.models.vae import MotionVae, VaeConfig, VaeLossWeights, latent_lengths
from core.text.encoder import CaptionCache, load_text_encoder
from core.train.latent_reward_task import LatentRewardTask
from core.train.loop import LoopConfig, Task, Trainer, config_of, pick_device
from core.train.mdm_task import MdmTask
from core.train.run_record import content
from core.train.tasks import (
    BaseTask,
    CaptionTable,
    JudgeTask,
    LatentSet,
    RewardTask,
    VaeTask,
    batches_in_order,
    to_tensors,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataConfig:
    """Where the motions come from and where results go."""

    archive: Path = Path("data/bandai-namco.npz")  # made by `python -m core prepare bandai-namco PATH`
    checkpoints: Path = Path("checkpoints")
    runs: Path = Path("runs")  # resumable state, metrics.jsonl and curves.png, one folder a model
    train_items: int = 30_000  # composed items drawn on top of the plain clips
    val_items: int = 300

    def __post_init__(self) -> None:
        require(self, "train_items", "val_items")


@dataclass(frozen=True)
class TrainVae:
    """Train the motion VAE."""

    data: DataConfig = field(default_factory=DataConfig)
    model: VaeConfig = field(default_factory=VaeConfig)
    loss: VaeLossWeights = field(default_factory=VaeLossWeights)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=6400, batch_size=64, learning_rate=6e-4))


@dataclass(frozen=True)
class TrainBase:
    """Train the base text-to-motion denoiser on the latents of checkpoints/vae."""

    data: DataConfig = field(default_factory=DataConfig)
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=7000, batch_size=64, learning_rate=6e-4, ema=0.999)
    )
    name: str = "base"  # folder below checkpoints and runs


@dataclass(frozen=True)
class TrainMdm:
    """Train MDM, the base model without a VAE, on the features themselves."""

    data: DataConfig = field(default_factory=DataConfig)
    model: MdmDiffusionConfig = field(default_factory=MdmDiffusionConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=6000, batch_size=64, learning_rate=8e-4, warmup=200, ema=0.998)
    )
    name: str = "mdm"  # folder below checkpoints and runs


@dataclass(frozen=True)
class TrainReward:
    """Train the text-motion reward model that alignment maximises."""

    data: DataConfig = field(default_factory=DataConfig)
    model: RewardConfig = field(default_factory=RewardConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=1200, batch_size=128, learning_rate=8e-4, ema=0.995)
    )
    name: str = "reward"  # folder below checkpoints and runs; a further member of an ensemble takes another seed too


@dataclass(frozen=True)
class TrainLatentReward:
    """Train a noise-aware reward on the latents of checkpoints/vae, for `align --method easytune-sde`."""

    data: DataConfig = field(default_factory=DataConfig)
    model: LatentRewardConfig = field(default_factory=LatentRewardConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=1200, batch_size=128, learning_rate=8e-4, ema=0.995)
    )
    name: str = "reward-noised"  # folder below checkpoints and runs


@dataclass(frozen=True)
class TrainJudge:
    """Train the judge that only ever evaluates."""

    data: DataConfig = field(default_factory=DataConfig)
    width: int = 192
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=2000, batch_size=128, learning_rate=1.5e-3, ema=0.998, seed=7, precision="fp32"
        )
    )


class TrainConfig(Protocol):
    """What a configuration of any training has; a dataclass."""

    @property
    def data(self) -> DataConfig: ...

    @property
    def loop(self) -> LoopConfig: ...


def motion_sets(data: DataConfig) -> tuple[MotionSet, MotionSet]:
    """(train, val), built on first use and cached beside the archive; raises as load_set does."""
    train = load_set(data.archive, SetConfig("train", data.train_items))
    return train, load_set(data.archive, SetConfig("val", data.val_items))


def caption_cache(data: DataConfig, *sets: MotionSet) -> CaptionCache:
    """Token features of every caption of the sets, built once and kept beside the archive."""
    captions = list(dict.fromkeys(c for s in sets for row in s.captions for c in row))
    key = hashlib.sha256("\n".join(captions).encode()).hexdigest()[:16]
    path = data.archive.parent / "cache" / f"captions-{key}.safetensors"
    if not path.exists():
        log.info("encoding %d captions", len(captions))
        CaptionCache.build(load_text_encoder(), captions).save(path)
    return CaptionCache.load(path)


@torch.no_grad()
def encode_set(vae: MotionVae, motions: MotionSet) -> list[Tensor]:
    """Unit-variance latents (L_i, D) of every motion, on the CPU."""
    out: list[Tensor] = [torch.empty(0)] * len(motions)
    order = motions.lengths.argsort()
    for chunk in batches_in_order(len(motions), 64):
        indices = order[chunk]
        features, lengths = to_tensors(motions, indices, vae.feature_mean.device)
        z = vae.encode(features, lengths).cpu()
        for row, (i, n) in enumerate(zip(indices, latent_lengths(lengths).tolist(), strict=True)):
            out[i] = z[row, :n].clone()
    return out


def run_task(
    name: str, task: Task, config: TrainConfig, callback: Callback | None, *origins: Path
) -> tuple[nn.Module, float]:
    """Train in runs/<name>; the averaged model and the minutes it took, earlier runs of the same folder included.

    origins: checkpoint folders that the training builds on.
    """
    made_from = {"archive": content(config.data.archive), **{folder.name: fingerprint(folder) for folder in origins}}
    trainer = Trainer(task, config.loop, config.data.runs / name, config_of(config) | {"made_from": made_from})
    return trainer.run(callback), round(trainer.seconds / 60, 1)


def save_trained(
    name: str,
    task: Task,
    config: TrainConfig,
    trained: nn.Module,
    minutes: float,
    command: str | None = None,
    folder: Path | None = None,
) -> None:
    """Write a checkpoint with its card: checkpoints/<name>, or another folder. command: what the card says made it.

    Of several processes only one writes.
    """
    if not current_processes(config.loop.device).writes:
        return
    folder = folder or config.data.checkpoints / name
    with torch.no_grad():
        validation = {k: round(v, 5) for k, v in task.validate(trained).items()}
    device = next(trained.parameters()).device
    facts = {
        "steps": config.loop.steps,
        "seed": config.loop.seed,
        "minutes": minutes,
        "device": device.type,
        "note": config.loop.note or None,
    }
    command = command or f"python -m core train {name}"
    meta = {**facts, "command": command, "validation": validation, "training": config_of(config)}
    save_checkpoint(folder, trained, meta)
    write_card(folder, command)


# Each of the following trains one model; command: the line that was typed, for the card.


def train_vae(config: TrainVae, callback: Callback | None = None, command: str | None = None) -> None:
    """Writes checkpoints/vae. Resumes from runs/vae."""
    loop = config.loop
    torch.manual_seed(loop.seed)
    train, val = motion_sets(config.data)
    model = MotionVae(config.model).to(pick_device(loop.device))
    task = VaeTask(model, train, val, loop.batch_size, loop.seed, config.loss)
    trained, minutes = run_task("vae", task, config, callback)
    _measure_latents(cast(MotionVae, trained), train)
    save_trained("vae", task, config, trained, minutes, command)


@torch.no_grad()
def _measure_latents(vae: MotionVae, train: MotionSet) -> None:
    """Set the buffers that bring latents to zero mean and unit variance over (a sample of) the training set."""
    total, square, n = torch.zeros_like(vae.latent_mean), torch.zeros_like(vae.latent_mean), 0
    size = min(len(train), 4000)
    for chunk in batches_in_order(size, 64):
        features, lengths = to_tensors(train, chunk * (len(train) // size), vae.feature_mean.device)
        mean, _ = vae.encode_distribution(features, lengths)
        total += mean.sum((0, 1))
        square += (mean**2).sum((0, 1))
        n += int(latent_lengths(lengths).sum())
    vae.latent_mean.copy_(total / n)
    vae.latent_std.copy_((square / n - (total / n) ** 2).clamp_min(1e-8).sqrt())


def train_base(config: TrainBase, callback: Callback | None = None, command: str | None = None) -> None:
    """Writes checkpoints/<name>. Needs checkpoints/vae. Resumes from runs/<name>."""
    loop = config.loop
    torch.manual_seed(loop.seed)
    train, val = motion_sets(config.data)
    device = pick_device(loop.device)
    vae = load_vae(config.data.checkpoints, device)
    cache = caption_cache(config.data, train, val)
    sets = [LatentSet(encode_set(vae, motions), CaptionTable(motions, cache)) for motions in (train, val)]
    null = load_text_encoder().encode([""])
    task = BaseTask(Denoiser(config.model).to(device), sets[0], sets[1], null, loop.batch_size, loop.seed)
    trained = run_task(config.name, task, config, callback, config.data.checkpoints / "vae")
    save_trained(config.name, task, config, *trained, command)


def train_mdm(config: TrainMdm, callback: Callback | None = None, command: str | None = None) -> None:
    """Writes checkpoints/<name>. Resumes from runs/<name>. ValueError for another text encoder than the cache's."""
    loop = config.loop
    if config.model.text_encoder != "minilm":
        raise ValueError(f"text_encoder={config.model.text_encoder!r}: training caches hold minilm's features. Use it.")
    torch.manual_seed(loop.seed)
    train, val = motion_sets(config.data)
    cache = caption_cache(config.data, train, val)
    pairs = [(motions, CaptionTable(motions, cache)) for motions in (train, val)]
    model = MdmDiffusion(config.model).to(pick_device(loop.device))
    task = MdmTask(model, pairs[0], pairs[1], loop.batch_size, loop.seed)
    save_trained(config.name, task, config, *run_task(config.name, task, config, callback), command)


def train_reward(config: TrainReward, callback: Callback | None = None, command: str | None = None) -> None:
    """Writes checkpoints/<name>. Resumes from runs/<name>."""
    loop = config.loop
    torch.manual_seed(loop.seed)
    train, val = motion_sets(config.data)
    model = RewardModel(config.model).to(pick_device(loop.device))
    cache = caption_cache(config.data, train, val)
    task = RewardTask(model, train, val, cache, loop.batch_size, loop.seed)
    command = command or f"python -m core train reward --name {config.name} --loop.seed {loop.seed}"
    save_trained(config.name, task, config, *run_task(config.name, task, config, callback), command)


def train_latent_reward(
    config: TrainLatentReward, callback: Callback | None = None, command: str | None = None
) -> None:
    """Writes checkpoints/<name>. Needs checkpoints/vae. Resumes from runs/<name>."""
    loop = config.loop
    torch.manual_seed(loop.seed)
    train, val = motion_sets(config.data)
    device = pick_device(loop.device)
    vae = load_vae(config.data.checkpoints, device)
    latents = encode_set(vae, train), encode_set(vae, val)
    cache, origin = caption_cache(config.data, train, val), config.data.checkpoints / "vae"
    known = replace(config.model, latent_dim=vae.config.latent_dim, vae=fingerprint(origin))
    config = replace(config, model=known)
    model = LatentReward(known, vae).to(device)
    task = LatentRewardTask(model, train, val, latents, cache, loop.batch_size, loop.seed)
    command = command or f"python -m core train latent-reward --name {config.name} --loop.seed {loop.seed}"
    save_trained(config.name, task, config, *run_task(config.name, task, config, callback, origin), command)


def train_judge(config: TrainJudge, callback: Callback | None = None, command: str | None = None) -> None:
    """Writes checkpoints/judge. Resumes from runs/judge."""
    loop = config.loop
    torch.manual_seed(loop.seed)
    train, val = motion_sets(config.data)
    model = Judge(JudgeConfig(vocabulary(train), width=config.width)).to(pick_device(loop.device))
    task = JudgeTask(model, train, val, loop.batch_size, loop.seed)
    save_trained("judge", task, config, *run_task("judge", task, config, callback), command)


def vocabulary(motions: MotionSet) -> tuple[str, ...]:
    """Every word of the captions, sorted."""
    return tuple(sorted({word for row in motions.captions for c in row for word in WORD.findall(c.lower())}))
