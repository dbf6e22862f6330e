"""`python -m core evaluate`: real motions, VAE reconstructions and model versions measured side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from core import require
from core.commands.console import ProgressLine
from core.data.compose import action_group
from core.data.dataset import MotionSet, SetConfig, load_set, mixed_sets
from core.data.mixture import SUFFIX
from core.data.motion_set import join
from core.data.near_misses import NearMissConfig, load_near_misses
from core.diffusion.protocol import MotionDiffusion, Reward
from core.diffusion.rollout import SamplerConfig, sample_motions
from core.metrics.evaluate import EvaluationConfig, EvaluationSet, Features, Judge, evaluate
from core.metrics.official import OfficialConfig, paper_table
from core.metrics.report import EvaluationReport
from core.models.checkpoint import load_diffusion, load_judge
from core.models.judge import Judge as JudgeModel
from core.models.latent import LatentDiffusion
from core.models.vae import MotionVae
from core.text.encoder import TextEncoder, load_text_encoder
from core.train.loop import pick_device
from core.train.tasks import batches_in_order, to_tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluate:
    """Measure model versions on splits; writes JSON, Markdown and a plot of each to `out`.

    Motions are made with the noise seeds evaluation.seed, seed + 1 ..., evaluation.repeats of them.
    """

    versions: tuple[str, ...] = ("base", "aligned")  # folders below checkpoints; the first is compared with the others
    split: tuple[str, ...] = ("test",)  # test, heldout: (action, style) combinations that were never trained on; val
    items: int = 300  # composed items on top of the split's plain clips
    near_pools: int = 0  # above 0: so many made pools of near misses in place of the split: other style, side or order
    prompt_seeds: tuple[int, ...] = (0,)  # items are composed afresh with each; plain clips come once, with the first
    out: Path = Path("outputs/evaluation")  # folder of JSON, Markdown and plot
    archive: Path = Path("data/bandai-namco.npz")  # made by `python -m core prepare`
    checkpoints: Path = Path("checkpoints")  # folder of the models
    device: str = "auto"  # cpu, cuda or mps; auto takes what is there
    batch_size: int = 32  # motions sampled at once; the figures do not depend on it
    sampler: SamplerConfig = field(default_factory=SamplerConfig)  # of every motion
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(repeats=3))
    evaluator: str = "judge"  # or the folder of an imported T2M evaluator below checkpoints: the field's own protocol
    words: Path = Path("glove")  # its word vectors: the folder with our_vab_data.npy and our_vab_idx.pkl
    official: OfficialConfig = field(default_factory=OfficialConfig)

    def __post_init__(self) -> None:
        if not self.prompt_seeds or min(self.prompt_seeds) < 0:
            raise ValueError(f"prompt_seeds={self.prompt_seeds} must name seeds of 0 or more.")
        require(self, "items", "near_pools")
        require(self, "batch_size", low=1)
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out={self.out} is a file. Choose a folder.")


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Evaluate, args=arguments, prog="python -m core evaluate")
    if config.evaluator != "judge":
        from core.commands import evaluate_official

        for split in config.split:
            report = evaluate_official.run(config, split)
            for path in report.save(config.out, f"{split}-{config.evaluator}"):
                log.info("wrote %s", path)
            print(paper_table(report))
        return
    for split in config.split:
        for name, part in reported_sets(config, split).items():
            report = run(part, split)
            for path in report.save(part.out, split):
                log.info("wrote %s", path)
            print(f"## {' '.join(filter(None, (name, split)))}\n\n{report.to_markdown()}")


def reported_sets(config: Evaluate, split: str) -> dict[str, Evaluate]:
    """Heading -> what to measure: the archive, or each set of a mixture by itself, in a folder of its own.

    Sets of a mixture without the split are left out; raises as core.data.dataset.mixed_sets.
    """
    if config.archive.suffix != SUFFIX or not config.archive.is_file():
        return {"": config}
    archives = mixed_sets(config.archive, split)
    return {path.stem: replace(config, archive=path, out=config.out / path.stem) for path in archives}


def run(config: Evaluate, split: str) -> EvaluationReport:
    """The report of one split; needs the archive and the checkpoints. Makes config.out, which then will be written."""
    device = pick_device(config.device)
    motions = motions_of(config, split)
    data = evaluation_set(motions)
    encoder = load_text_encoder("minilm", device)
    models: dict[str, Callable[[int], Features] | Features] = {}
    for version in config.versions:
        model = load_diffusion(config.checkpoints, device, version)
        if isinstance(model, LatentDiffusion):
            models.setdefault("vae", reconstructions(model.vae, motions))
        models[version] = generator(model, encoder, data.captions, motions, config)
    judge = judge_functions(load_judge(config.checkpoints, device))
    config.out.mkdir(parents=True, exist_ok=True)  # OSError now, not after an hour
    compared = [(config.versions[0], other) for other in config.versions[1:]]
    return evaluate(models, judge, data, config.evaluation, compared, callback=ProgressLine("evaluating"))


def motions_of(config: Evaluate, split: str) -> MotionSet:
    """The split composed with every seed of config.prompt_seeds, one after the other; what they share comes once."""
    sets, seen = [], set[bytes]()
    for seed in config.prompt_seeds:
        made = made_set(config, split, seed)
        keys = [made.motion(i).tobytes() for i in range(len(made))]
        sets.append(made.pick([i for i, key in enumerate(keys) if key not in seen]))
        seen.update(keys)
    return join(sets)


def made_set(config: Evaluate, split: str, seed: int) -> MotionSet:
    """The split's clips and composed items, or made near misses, in pools of evaluation.near_miss_size."""
    if config.near_pools:
        return load_near_misses(
            config.archive, NearMissConfig(split, config.near_pools, config.evaluation.near_miss_size, seed=seed)
        )
    return load_set(config.archive, SetConfig(split, config.items, seed=seed))


def evaluation_set(motions: MotionSet) -> EvaluationSet:
    """One paraphrase per motion; pools are distinct by meaning, near-miss pools share their actions."""
    captions = [rows[0] for rows in motions.captions]
    real = [motions.motion(i) for i in range(len(motions))]
    return EvaluationSet(captions, real, [action_group(m) for m in motions.meanings], list(motions.meanings))


@torch.no_grad()
def reconstructions(vae: MotionVae, motions: MotionSet) -> list[np.ndarray]:
    """What the VAE makes of every motion: the ceiling of any model on its latents."""
    out: list[np.ndarray] = []
    for indices in batches_in_order(len(motions), 32):
        features, lengths = to_tensors(motions, indices, vae.feature_mean.device)
        decoded = vae.reconstruct(features, lengths).cpu().numpy()
        out += [row[:n] for row, n in zip(decoded, lengths.tolist(), strict=True)]
    return out


def generator(
    model: MotionDiffusion, encoder: TextEncoder, captions: Sequence[str], motions: MotionSet, config: Evaluate
) -> Callable[[int], Features]:
    """Noise seed -> one motion per caption, as long as the real one; prompt i takes seed * 1,000,003 + i."""

    def generate(seed: int) -> list[np.ndarray]:
        seeds = [seed * 1_000_003 + i for i in range(len(captions))]
        frames = motions.lengths.tolist()
        return sample_motions(model, encoder, captions, frames, seeds, config.sampler, batch_size=config.batch_size)

    return generate


def judge_functions(judge: JudgeModel) -> Judge:
    """The judge as two functions of plain motions and texts."""

    @torch.no_grad()
    def motion(features: Features) -> np.ndarray:
        parts = []
        for chunk in batches_in_order(len(features), 64):
            picked = [torch.from_numpy(features[i]) for i in chunk]
            padded = torch.nn.utils.rnn.pad_sequence(picked, batch_first=True).to(judge.feature_mean.device)
            parts.append(judge.embed_motion(padded, torch.tensor([len(p) for p in picked], device=padded.device)))
        return torch.cat(parts).cpu().numpy()

    @torch.no_grad()
    def text(captions: Sequence[str]) -> np.ndarray:
        return judge.embed_text(captions).cpu().numpy()

    return Judge(motion, text)


@torch.no_grad()
def mean_reward(reward: Reward, motions: Features, captions: Sequence[str], encoder: TextEncoder) -> float:
    """Mean of a reward over N motions (F, 263) and their captions."""
    values = []
    for rows in batches_in_order(len(motions), 64):
        text = encoder.encode([captions[int(i)] for i in rows])
        parts = [torch.from_numpy(motions[i]) for i in rows]
        features = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).to(text.tokens.device)
        lengths = torch.tensor([len(part) for part in parts], device=features.device)
        values.append(reward(features, lengths, text))
    return float(torch.cat(values).mean())
