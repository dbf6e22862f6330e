"""From a typed configuration to a trained, saved model: the functions behind `python -m core train`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from core.data.dataset import MotionSet, SetConfig, load_set
from core.models.checkpoint import load_module, save_checkpoint
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.judge import WORD, Judge, JudgeConfig
from core.models.reward import RewardConfig, RewardModel
from core.models.vae import MotionVae, VaeConfig, VaeLossWeights, latent_lengths
from core.text.encoder import CaptionCache, load_text_encoder
from core.train.loop import Callback, LoopConfig, Task, Trainer, config_of, pick_device
from core.train.tasks import BaseTask, CaptionTable, JudgeTask, RewardTask, VaeTask, batches_in_order, to_tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataConfig:
    """Where the motions come from and where results go."""

    archive: Path = Path("data/bandai-namco.npz")  # made by `python -m core prepare bandai-namco PATH`
    checkpoints: Path = Path("checkpoints")
    runs: Path = Path("runs")  # resumable state, metrics.jsonl and curves.png, one folder a model
    train_items: int = 30_000  # composed items drawn on top of the plain clips
    val_items: int = 300


@dataclass(frozen=True)
class TrainVae:
    """Train the motion VAE."""

    data: DataConfig = field(default_factory=DataConfig)
    model: VaeConfig = field(default_factory=VaeConfig)
    loss: VaeLossWeights = field(default_factory=VaeLossWeights)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=5000, batch_size=64, learning_rate=6e-4))


@dataclass(frozen=True)
class TrainBase:
    """Train the base text-to-motion denoiser on the latents of checkpoints/vae."""

    data: DataConfig = field(default_factory=DataConfig)
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=30_000, batch_size=64, ema=0.9995))


@dataclass(frozen=True)
class TrainReward:
    """Train the text-motion reward model that alignment maximises."""

    data: DataConfig = field(default_factory=DataConfig)
    model: RewardConfig = field(default_factory=RewardConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000, batch_size=128, learning_rate=5e-4, ema=0.998))


@dataclass(frozen=True)
class TrainJudge:
    """Train the judge that only ever evaluates."""

    data: DataConfig = field(default_factory=DataConfig)
    width: int = 192
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=3000, batch_size=128, learning_rate=1e-3, ema=0.998, seed=7, precision="fp32")
    )


def motion_sets(data: DataConfig) -> tuple[MotionSet, MotionSet]:
    """(train, val), built on first use and cached beside the archive."""
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


def _run(name: str, task: Task, config: TrainVae | TrainBase | TrainReward | TrainJudge, callback: Callback | None) -> nn.Module:
    resolved = config_of(config)
    trainer = Trainer(task, config.loop, config.data.runs / name, resolved)
    return trainer.run(callback)


def _meta(name: str, config: object, task: Task, model: nn.Module) -> dict[str, object]:
    with torch.no_grad():
        validation = {k: round(v, 5) for k, v in task.validate(model).items()}
    training = {k: v for k, v in config_of(config).items()}
    return {"validation": validation, "training": _plain(training)}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def train_vae(config: TrainVae, callback: Callback | None = None) -> None:
    """Writes checkpoints/vae. Resumes from runs/vae."""
    torch.manual_seed(config.loop.seed)
    train, val = motion_sets(config.data)
    device = pick_device(config.loop.device)
    model = MotionVae(config.model).to(device)
    task = VaeTask(model, train, val, config.loop.batch_size, config.loop.seed, config.loss)
    trained = _run("vae", task, config, callback)
    _measure_latents(trained, train)
    save_checkpoint(config.data.checkpoints / "vae", trained, _meta("vae", config, task, trained))


@torch.no_grad()
def _measure_latents(vae: nn.Module, train: MotionSet) -> None:
    """Set the buffers that bring latents to zero mean and unit variance over (a sample of) the training set."""
    assert isinstance(vae, MotionVae)
    total, square, n = 0.0, 0.0, 0
    for chunk in batches_in_order(min(len(train), 4000), 64):
        features, lengths = to_tensors(train, chunk * (len(train) // min(len(train), 4000)), vae.feature_mean.device)
        mean, _ = vae.encode_distribution(features, lengths)
        total, square, n = total + mean.sum((0, 1)), square + (mean**2).sum((0, 1)), n + int(latent_lengths(lengths).sum())
    vae.latent_mean.copy_(total / n)
    vae.latent_std.copy_((square / n - (total / n) ** 2).clamp_min(1e-8).sqrt())


def train_base(config: TrainBase, callback: Callback | None = None) -> None:
    """Writes checkpoints/base. Needs checkpoints/vae. Resumes from runs/base."""
    torch.manual_seed(config.loop.seed)
    train, val = motion_sets(config.data)
    device = pick_device(config.loop.device)
    vae = load_module(config.data.checkpoints / "vae", device)
    cache = caption_cache(config.data, train, val)
    latents, val_latents = encode_set(vae, train), encode_set(vae, val)
    null = load_text_encoder().encode([""])
    model = Denoiser(config.model).to(device)
    val_data = (val_latents, CaptionTable(val, cache))
    task = BaseTask(model, latents, CaptionTable(train, cache), null, val_data, config.loop.batch_size, config.loop.seed)
    trained = _run("base", task, config, callback)
    save_checkpoint(config.data.checkpoints / "base", trained, _meta("base", config, task, trained))


def train_reward(config: TrainReward, callback: Callback | None = None) -> None:
    """Writes checkpoints/reward. Resumes from runs/reward."""
    torch.manual_seed(config.loop.seed)
    train, val = motion_sets(config.data)
    model = RewardModel(config.model).to(pick_device(config.loop.device))
    task = RewardTask(model, train, val, caption_cache(config.data, train, val), config.loop.batch_size, config.loop.seed)
    trained = _run("reward", task, config, callback)
    save_checkpoint(config.data.checkpoints / "reward", trained, _meta("reward", config, task, trained))


def train_judge(config: TrainJudge, callback: Callback | None = None) -> None:
    """Writes checkpoints/judge. Resumes from runs/judge."""
    torch.manual_seed(config.loop.seed)
    train, val = motion_sets(config.data)
    model = Judge(JudgeConfig(vocabulary(train), width=config.width)).to(pick_device(config.loop.device))
    task = JudgeTask(model, train, val, config.loop.batch_size, config.loop.seed)
    trained = _run("judge", task, config, callback)
    save_checkpoint(config.data.checkpoints / "judge", trained, _meta("judge", config, task, trained))


def vocabulary(motions: MotionSet) -> tuple[str, ...]:
    """Every word of the captions, sorted."""
    words: set[str] = set()
    texts: Sequence[str] = [c for row in motions.captions for c in row]
    for text in texts:
        words.update(WORD.findall(text.lower()))
    return tuple(sorted(words))
