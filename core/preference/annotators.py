"""Simulated people: each prefers by one hidden rule and errs at a set rate.

A rule is a statistic of a motion; more of it is better. All are measured with numpy on joints, or by the judge: by
other code than the descriptors that the learner sees, so that agreement has to be learnt and is not built in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.metrics.physical import foot_skating, mean_acceleration
from core.motion.features import recover_joints
from core.motion.skeleton import FPS, JOINT
from core.preference.types import Verdict

Matching = Callable[[np.ndarray, str], float]  # features (F, 263), prompt -> how well they match, more is better
Statistic = Callable[[np.ndarray], float]  # joints (F, 22, 3) -> the hidden quantity, more is better


def hands_height(joints: np.ndarray) -> float:
    """Mean height of both wrists, metres."""
    return float(joints[:, [JOINT["left_wrist"], JOINT["right_wrist"]], 1].mean())


def calm(joints: np.ndarray) -> float:
    """Minus the mean joint acceleration, m/s^2."""
    return -mean_acceleration(joints)


def fast(joints: np.ndarray) -> float:
    """Mean speed of all joints in the world, m/s."""
    return float(np.linalg.norm(np.diff(joints.astype(np.float64), axis=0), axis=-1).mean() * FPS)


def smooth_feet(joints: np.ndarray) -> float:
    """Minus the speed of feet in contact, m/s; 0 where none ever is."""
    return -float(np.nan_to_num(foot_skating(joints)))


def upright(joints: np.ndarray) -> float:
    """Mean cosine between the line from pelvis to head and the vertical."""
    spine = joints[:, JOINT["head"]].astype(np.float64) - joints[:, 0]
    return float((spine[:, 1] / np.linalg.norm(spine, axis=-1)).mean())


RULES: dict[str, Statistic | None] = {
    "text match": None,  # by the judge
    "higher hands": hands_height,
    "calmer": calm,
    "faster": fast,
    "smoother feet": smooth_feet,
    "upright posture": upright,
}


@dataclass
class Annotator:
    """One simulated person. noise: share of votes that are flipped; indifference: differences up to it are ties."""

    rule: str  # a key of RULES
    noise: float = 0.1
    indifference: float = 0.0  # in the statistic's unit
    seed: int = 0
    matching: Matching | None = None  # the judge, needed by "text match"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule={self.rule!r} is unknown. Choose one of {', '.join(RULES)}.")
        if not 0.0 <= self.noise <= 0.5:
            raise ValueError(f"noise={self.noise} is outside 0-0.5. At 0.5 every vote is a coin.")
        if RULES[self.rule] is None and self.matching is None:
            raise ValueError(f"rule={self.rule!r} needs a judge. Pass matching=.")
        self._rng = np.random.default_rng(self.seed)

    def statistic(self, features: np.ndarray, prompt: str) -> float:
        """The hidden quantity of features (F, 263); more is better."""
        rule = RULES[self.rule]
        if rule is not None:
            return rule(recover_joints(features))
        assert self.matching is not None  # checked above
        return self.matching(features, prompt)

    def verdict(self, left: float, right: float) -> Verdict:
        """The answer to two values of the statistic; draws one random number."""
        flipped = self._rng.random() < self.noise
        if abs(left - right) <= self.indifference:
            return "tie"
        return "left" if (left > right) != flipped else "right"

    def vote(self, left: np.ndarray, right: np.ndarray, prompt: str) -> Verdict:
        """The answer to two motions of features (F, 263)."""
        return self.verdict(self.statistic(left, prompt), self.statistic(right, prompt))


def judge_matching(judge: object) -> Matching:
    """Minus the distance between the judge's embeddings of a motion and a prompt."""
    import torch

    from core.models.judge import Judge

    if not isinstance(judge, Judge):
        raise ValueError(f"judge is a {type(judge).__name__}, needed is a core.models.judge.Judge.")

    @torch.no_grad()
    def matching(features: np.ndarray, prompt: str) -> float:
        motion = judge.embed_motion(torch.from_numpy(features)[None], torch.tensor([len(features)]))
        return -float((motion - judge.embed_text([prompt])).norm())

    return matching
