"""`python -m core align-report`: reward and judge of every kept policy of an alignment, and where they part."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from safetensors.torch import load_file

from core.align.guards import EnsembleReward
from core.align.parting import Look, picture, sentence
from core.commands.align import any_reward
from core.commands.console import ProgressLine
from core.commands.evaluate import judge_functions, mean_reward
from core.data.dataset import MotionSet, SetConfig, load_set
from core.diffusion.rollout import SamplerConfig, sample_motions
from core.metrics.retrieval import matching_distances
from core.models.card import write_card
from core.models.checkpoint import add_adapters, averaged, fingerprint, load_diffusion, load_judge
from core.motion.files import atomic_write
from core.text.encoder import TextEncoder, encoder_of, reward_encoder
from core.train.loop import pick_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignReport:
    """Draw reward and judge of a finished alignment together; the judge only looks, nothing is trained."""

    name: str = "aligned"  # folder below checkpoints and below runs
    unseen: tuple[str, ...] = ()  # rewards below checkpoints that the run did not train on
    split: str = "val"  # of the archive
    prompts: int = 128  # of the split, evenly spread
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(12, solver="dpm++"))  # of every motion
    archive: Path = Path("data/bandai-namco.npz")  # made by `python -m core prepare`
    checkpoints: Path = Path("checkpoints")  # folder of the models
    runs: Path = Path("runs")  # folder of what resuming needs, below it the name
    device: str = "auto"  # cpu, cuda or mps; auto takes what is there

    def __post_init__(self) -> None:
        if self.prompts < 2:
            raise ValueError(f"prompts={self.prompts} must be 2 or more: looks are compared prompt by prompt.")


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(AlignReport, args=arguments, prog="python -m core align-report")
    if members := averaged(config.checkpoints / config.name):
        told = f"{config.checkpoints / config.name} is an average."
        raise ValueError(f"{told} Report on its members with --name: {', '.join(members)}.")
    print(run(config, load_set(config.archive, SetConfig(config.split, 300))))


def run(config: AlignReport, motions: MotionSet) -> str:
    """What the card now says; writes curve.png and card.md of the checkpoint and report.json of the run.

    A second call measures only policies that are new. Raises FileNotFoundError where no policy was kept.
    """
    folder, target = config.runs / config.name, config.checkpoints / config.name
    policies = sorted((folder / "policies").glob("*.safetensors"))
    if not policies:
        raise FileNotFoundError(f"{folder / 'policies'} holds no policy. Align with --keep-every above 0.")
    looks = measure(config, policies, motions, folder / "report.json")
    described = json.loads((target / "config.json").read_text())
    described["parting"] = sentence(looks)
    image, text = picture(looks), json.dumps(described, indent=2)
    atomic_write(target / "curve.png", lambda file: file.write(image))
    atomic_write(target / "config.json", lambda file: file.write(text.encode()))
    write_card(target, described.get("command", "python -m core align"))
    return described["parting"]


def measure(config: AlignReport, policies: Sequence[Path], motions: MotionSet, store: Path) -> list[Look]:
    """The base and every policy, in the order of their updates; what `store` already holds is not made again."""
    observer, report = _Observer(config, motions), ProgressLine("looking at policies")
    settings = json.loads(json.dumps({**asdict(config), **observer.seen_with}, default=str))
    found: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    if found.get("settings") != settings:
        found = {"settings": settings, "looks": {}}
    for done, policy in enumerate([None, *policies]):
        update = int(policy.stem) if policy else 0
        if str(update) not in found["looks"]:
            found["looks"][str(update)] = asdict(observer.look(update, policy))
            text = json.dumps(found)
            atomic_write(store, lambda file, text=text: file.write(text.encode()))
        report(done + 1, len(policies) + 1, {})
    return sorted((Look(**look) for look in found["looks"].values()), key=lambda look: look.update)


class _Observer:
    """Fixed prompts and noise, the rewards of a run and the judge."""

    def __init__(self, config: AlignReport, motions: MotionSet) -> None:
        described = json.loads((config.checkpoints / config.name / "config.json").read_text())
        training, align = described["training"], described["training"]["align"]
        rank = align["lora_rank"]
        self.scale = training.get("keep", 1.0) * align["lora_alpha"] / rank if rank else None
        weights = ("judge", training.get("base", "base"), *training["rewards"], *config.unseen)
        seen_by = {name: fingerprint(config.checkpoints / name) for name in weights}
        self.sampler, device = config.sampler, pick_device(config.device)
        self.base = load_diffusion(config.checkpoints, device, training.get("base", "base"))
        self.encoder = encoder_of(self.base, device)
        trained = [any_reward(config.checkpoints / name, device) for name in training["rewards"]]
        self.reward, self.reads = EnsembleReward(trained), self._encoder_of(trained[0], device)
        unseen = {name: any_reward(config.checkpoints / name, device) for name in config.unseen}
        self.unseen = {name: (reward, self._encoder_of(reward, device)) for name, reward in unseen.items()}
        self.judge = judge_functions(load_judge(config.checkpoints, device))
        rows = np.linspace(0, len(motions) - 1, min(config.prompts, len(motions))).astype(int)
        self.captions = [motions.captions[i][0] for i in rows]
        self.frames = [int(motions.lengths[i]) for i in rows]
        self.text = self.judge.text(self.captions)
        prompts = hashlib.sha256(repr((self.captions, self.frames)).encode()).hexdigest()[:16]
        self.seen_with = {"scale": self.scale, "weights": seen_by, "prompts": prompts}  # with others it is another look

    def _encoder_of(self, reward: Any, device: str) -> TextEncoder:
        return reward_encoder(self.encoder, reward.reads, device) or self.encoder

    def look(self, update: int, policy: Path | None) -> Look:
        """Figures of a policy as it would be shipped; None is the base."""
        model = self.base
        if policy is not None:
            model, tensors = copy.deepcopy(self.base), load_file(policy)
            if self.scale is None:
                model.denoiser.load_state_dict(tensors)
            else:
                add_adapters(model.denoiser, tensors, self.scale)
        seeds = list(range(len(self.captions)))
        motions = sample_motions(model, self.encoder, self.captions, self.frames, seeds, self.sampler, batch_size=32)
        distances = matching_distances(self.text, self.judge.motion(motions)).round(5).tolist()
        unseen = {n: mean_reward(r, motions, self.captions, reads) for n, (r, reads) in self.unseen.items()}
        return Look(update, mean_reward(self.reward, motions, self.captions, self.reads), unseen, distances)
