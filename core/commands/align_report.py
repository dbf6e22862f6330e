"""`python -m core align-report`: reward and judge along an alignment, and where they part.

Of a run every kept policy is looked at; of an average, which has none, multiples of its change of the base.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Mapping
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
from core.models.checkpoint import add_adapters, fingerprint, load_diffusion, load_judge
from core.motion.files import atomic_write
from core.text.encoder import TextEncoder, encoder_of, reward_encoder
from core.train.loop import pick_device

log = logging.getLogger(__name__)
MULTIPLES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the change that an average makes to its base


@dataclass(frozen=True)
class AlignReport:
    """Draw reward and judge of a finished alignment, or an average, together; the judge only looks."""

    name: str = "aligned"  # folder below checkpoints and below runs
    unseen: tuple[str, ...] = ()  # rewards below checkpoints that were not trained on
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
    print(run(config, load_set(config.archive, SetConfig(config.split, 300))))


@dataclass(frozen=True)
class Subject:
    """What to look at. policies: place -> (weights, scale of adapters; None: a whole denoiser)."""

    base: str
    rewards: tuple[str, ...]
    policies: dict[float, tuple[Path, float | None]]
    averaged: bool


def run(config: AlignReport, motions: MotionSet) -> str:
    """What the card now says; writes curve.png and card.md of the checkpoint and report.json of the run.

    A second call measures only policies that are new. Raises FileNotFoundError where no policy was kept.
    """
    target = config.checkpoints / config.name
    described = json.loads((target / "config.json").read_text())
    if "averaged" not in described and "align" not in described.get("training", {}):
        raise ValueError(f"{target} is no alignment. Name one that `python -m core align` or align-average made.")
    subject = (_averaged if "averaged" in described else _run)(config, described)
    looks = measure(config, subject, motions, config.runs / config.name / "report.json")
    described["parting"] = sentence(looks, subject.averaged)
    image, text = picture(looks, subject.averaged), json.dumps(described, indent=2)
    atomic_write(target / "curve.png", lambda file: file.write(image))
    atomic_write(target / "config.json", lambda file: file.write(text.encode()))
    write_card(target, described.get("command", "python -m core align"))
    return described["parting"]


def _run(config: AlignReport, described: Mapping[str, Any]) -> Subject:
    """The kept policies of a run."""
    folder, training = config.runs / config.name / "policies", described["training"]
    if not (found := sorted(folder.glob("*.safetensors"))):
        raise FileNotFoundError(f"{folder} holds no policy. Align with --keep-every above 0.")
    rank = training["align"]["lora_rank"]
    scale = training.get("keep", 1.0) * training["align"]["lora_alpha"] / rank if rank else None
    policies: dict[float, tuple[Path, float | None]] = {int(path.stem): (path, scale) for path in found}
    return Subject(training.get("base", "base"), tuple(training["rewards"]), policies, False)


def _averaged(config: AlignReport, described: Mapping[str, Any]) -> Subject:
    """Multiples of an average, seen by every reward that one of its members was trained on."""
    rewards = dict.fromkeys(name for one in described["averaged"].values() for name in one["training"]["rewards"])
    scale, weights = described["config"]["scale"], config.checkpoints / config.name / "model.safetensors"
    policies: dict[float, tuple[Path, float | None]] = {times: (weights, times * scale) for times in MULTIPLES}
    return Subject(described["config"].get("from", "base"), tuple(rewards), policies, True)


def measure(config: AlignReport, subject: Subject, motions: MotionSet, store: Path) -> list[Look]:
    """The base and every policy, in the order of their places; what `store` already holds is not made again."""
    observer, report = _Observer(config, subject, motions), ProgressLine("looking at policies")
    settings = json.loads(json.dumps({**asdict(config), **observer.seen_with}, default=str))
    found: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    if found.get("settings") != settings:
        found = {"settings": settings, "looks": {}}
    for done, place in enumerate([0, *subject.policies]):
        if str(place) not in found["looks"]:
            found["looks"][str(place)] = asdict(observer.look(place))
            text = json.dumps(found)
            atomic_write(store, lambda file, text=text: file.write(text.encode()))
        report(done + 1, len(subject.policies) + 1, {})
    return sorted((Look(**look) for look in found["looks"].values()), key=lambda look: look.place)


class _Observer:
    """Fixed prompts and noise, the rewards that were trained on and the judge."""

    def __init__(self, config: AlignReport, subject: Subject, motions: MotionSet) -> None:
        self.sampler, self.policies, device = config.sampler, subject.policies, pick_device(config.device)
        self.base = load_diffusion(config.checkpoints, device, subject.base)
        self.encoder = encoder_of(self.base, device)
        trained = [any_reward(config.checkpoints / name, device) for name in subject.rewards]
        self.reward, self.reads = EnsembleReward(trained), self._encoder_of(trained[0], device)
        unseen = {name: any_reward(config.checkpoints / name, device) for name in config.unseen}
        self.unseen = {name: (reward, self._encoder_of(reward, device)) for name, reward in unseen.items()}
        self.judge = judge_functions(load_judge(config.checkpoints, device))
        rows = np.linspace(0, len(motions) - 1, min(config.prompts, len(motions))).astype(int)
        self.captions = [motions.captions[i][0] for i in rows]
        self.frames = [int(motions.lengths[i]) for i in rows]
        self.text = self.judge.text(self.captions)
        prompts = hashlib.sha256(repr((self.captions, self.frames)).encode()).hexdigest()[:16]
        names = ["judge", subject.base, *subject.rewards, *config.unseen, *[config.name] * subject.averaged]
        weights = {name: fingerprint(config.checkpoints / name) for name in names}
        scales = sorted({scale for _, scale in subject.policies.values() if scale is not None})
        self.seen_with = {"scales": scales, "weights": weights, "prompts": prompts}  # with others it is another look

    def _encoder_of(self, reward: Any, device: str) -> TextEncoder:
        return reward_encoder(self.encoder, reward.reads, device) or self.encoder

    def look(self, place: float) -> Look:
        """Figures of a policy as it would be shipped; 0 is the base."""
        model = self.base
        if place:
            (path, scale), model = self.policies[place], copy.deepcopy(self.base)
            tensors = load_file(path)
            if scale is None:
                model.denoiser.load_state_dict(tensors)
            else:
                add_adapters(model.denoiser, tensors, scale)
        seeds = list(range(len(self.captions)))
        motions = sample_motions(model, self.encoder, self.captions, self.frames, seeds, self.sampler, batch_size=32)
        distances = matching_distances(self.text, self.judge.motion(motions)).round(5).tolist()
        unseen = {n: mean_reward(r, motions, self.captions, reads) for n, (r, reads) in self.unseen.items()}
        return Look(place, mean_reward(self.reward, motions, self.captions, self.reads), unseen, distances)
