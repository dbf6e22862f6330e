"""Every reward fine-tuner as data: for each sampling step, what keeps its gradient and where a reward is taken.

A plan is one StepPlan a sampling step, from noise to motion; it may end early. core.align.finetune runs any plan.
Sources: ReFL (Xu et al. 2023), DRaFT-K and DRaFT-LV (Clark et al. 2024), AlignProp (Prabhudesai et al. 2023),
DRTune (Wu et al. 2024), EasyTune (Tan et al. 2026). The terminal-gradient plan is this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np


class RewardOn(StrEnum):
    """Which estimate of the motion is rewarded at a step."""

    X0_HAT = "x0_hat"  # one-step clean estimate, decoded (ODE mode)
    X_PREV = "x_prev"  # what the step hands on, decoded: the final motion at the last step
    NOISED = "noised"  # what the step hands on, by a noise-aware reward (SDE mode)
    GRADIENT = "gradient"  # dR/dx_0 at the final motion, kept for the replayed steps


@dataclass(frozen=True)
class StepPlan:
    """One sampling step; the default only samples."""

    keep_grad: bool = False  # the network call keeps its gradient
    detach_input: bool = True  # the network sees stop_gradient(x_t)
    detach_chain: bool = True  # x_{t-1} is handed on without gradient
    reward: RewardOn | None = None
    update: bool = False  # backward and optimiser step right here
    replay: bool = False  # after the rollout: pull x0_hat(x_t) along the terminal gradient, then update
    renoised: int = 0  # further one-step samples of the final motion, noised anew (DRaFT-LV)
    stride: int = 1  # sampling steps that this one covers; 0 = covered by an earlier one

    def __post_init__(self) -> None:
        if not self.detach_input and not self.keep_grad:
            raise ValueError("detach_input=False needs keep_grad=True; a call without gradient has no attached input.")
        if self.update and self.reward is None:
            raise ValueError("update=True needs a reward at the same step; set reward.")
        if not self.detach_chain and self.update:
            raise ValueError("update=True frees the graph; set detach_chain=True.")


Plan = tuple[StepPlan, ...]

SAMPLE = StepPlan()
ATTACHED = StepPlan(keep_grad=True, detach_input=False, detach_chain=False)
CARRIED = StepPlan(detach_chain=False)  # no gradient of its own, but earlier ones pass through x_t -> x_{t-1}


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is outside {low}-{high}.")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}={value} is outside 0-1.")


def _strides(steps: int, stride: int) -> list[int]:
    """How far each of `steps` steps walks: every stride-th `stride` far or to the end, those between not at all."""
    return [0 if i % stride else min(stride, steps - i) for i in range(steps)]


def easytune(steps: int, last_k: int | None = None, on: RewardOn = RewardOn.X0_HAT, stride: int = 1) -> Plan:
    """EasyTune eq. (1): each of the last k steps (all by default) rewarded and updated by itself.

    stride: ours. Of the last k only every stride-th is trained, and walked that far: neighbouring steps of a trajectory
    tell nearly the same, so in equal time more prompts teach more than more steps do.
    """
    last_k = steps if last_k is None else last_k
    _check("last_k", last_k, 1, steps)
    _check("trained_stride", stride, 1, last_k)
    trained = StepPlan(keep_grad=True, reward=on, update=True)
    walk = (replace(trained if s else SAMPLE, stride=s) for s in _strides(last_k, stride))
    return (SAMPLE,) * (steps - last_k) + tuple(walk)


def draft(steps: int, last_k: int) -> Plan:
    """DRaFT-K: the last k steps attached, one reward on the final motion. DRaFT-50 is last_k = steps = 50."""
    _check("last_k", last_k, 1, steps)
    final = replace(ATTACHED, reward=RewardOn.X_PREV)
    return (SAMPLE,) * (steps - last_k) + (ATTACHED,) * (last_k - 1) + (final,)


def draft_lv(steps: int, renoised: int = 2) -> Plan:
    """DRaFT-LV: DRaFT-1 averaged with `renoised` fresh noisings of the final motion, for a lower variance."""
    _check("renoised", renoised, 1, 64)
    plan = draft(steps, 1)
    return (*plan[:-1], replace(plan[-1], renoised=renoised))


def alignprop(steps: int, share: float, rng: np.random.Generator) -> Plan:
    """AlignProp: each step attached with probability `share`; the last one if none was drawn."""
    _check_share("share", share)
    kept = rng.random(steps) < share
    kept[-1] |= not kept.any()
    plan = [ATTACHED if keep else CARRIED for keep in kept]
    return (*plan[:-1], replace(plan[-1], reward=RewardOn.X_PREV))


def _late_step(steps: int, earliest: float, rng: np.random.Generator) -> int:
    """A random step of the last part of the trajectory, `earliest` being the share that is never drawn."""
    _check_share("earliest", earliest)
    return int(rng.integers(min(int(steps * earliest), steps - 1), steps))


def drtune(steps: int, trained: int, rng: np.random.Generator, earliest: float = 0.8) -> Plan:
    """DRTune: stop at a random late step and reward x0_hat there; steps of one spacing back from it are trained.

    The spacing is steps // trained, so an early stop leaves room for fewer than `trained`: at trained = steps (last_k
    None) every step up to the stop is trained, and those after it never run.
    """
    _check("trained", trained, 1, steps)
    stop = _late_step(steps, earliest, rng)
    spacing = steps // trained
    chosen = {stop - j * spacing for j in range(trained)}
    plan = [replace(CARRIED, keep_grad=i in chosen) for i in range(stop + 1)]
    return (*plan[:-1], replace(plan[-1], reward=RewardOn.X0_HAT))


def refl(steps: int, rng: np.random.Generator, earliest: float = 0.75) -> Plan:
    """ReFL: stop at a random late step, reward its x0_hat once; earliest 0.75 = steps 30-39 of 40 as published."""
    stop = _late_step(steps, earliest, rng)
    return (SAMPLE,) * stop + (StepPlan(keep_grad=True, reward=RewardOn.X0_HAT),)


def terminal_gradient(steps: int, last_k: int | None = None, stride: int = 1) -> Plan:
    """Sample without gradient, take g = dR/dx_0 once at the final motion, then pull each step's x0_hat along g.

    Every step is trained on the reward of the true sample, in the memory of one step. stride: as easytune's.
    """
    last_k = steps if last_k is None else last_k
    _check("last_k", last_k, 1, steps)
    _check("trained_stride", stride, 1, last_k)
    plan = [replace(StepPlan(replay=True) if s else SAMPLE, stride=s) for s in _strides(last_k, stride)]
    last = max(i for i, step in enumerate(plan) if step.replay)
    plan[last] = replace(plan[last], reward=RewardOn.GRADIENT)
    return (SAMPLE,) * (steps - last_k) + tuple(plan)


@dataclass(frozen=True)
class PlanOptions:
    """All numbers that any method needs; each method reads its own."""

    steps: int  # sampling steps T
    last_k: int | None = None  # trained steps of EasyTune, DRaFT-K, DRTune and terminal gradient; None = all
    share: float = 0.2  # AlignProp's probability of keeping a step
    renoised: int = 2  # DRaFT-LV's extra noisings, as published
    prefix_stride: int = 1  # sampling steps in one, where nothing is trained yet
    trained_stride: int = 1  # ... and among the trained ones of EasyTune and the terminal gradient

    @property
    def k(self) -> int:
        """last_k with None resolved to all steps."""
        return self.steps if self.last_k is None else self.last_k


METHODS: dict[str, Callable[[PlanOptions, np.random.Generator], Plan]] = {
    "easytune": lambda o, rng: easytune(o.steps, o.last_k, stride=o.trained_stride),
    "easytune-sde": lambda o, rng: easytune(o.steps, o.last_k, RewardOn.NOISED, o.trained_stride),
    "terminal-gradient": lambda o, rng: terminal_gradient(o.steps, o.last_k, o.trained_stride),
    "draft": lambda o, rng: draft(o.steps, o.k),
    "draft-lv": lambda o, rng: draft_lv(o.steps, o.renoised),
    "alignprop": lambda o, rng: alignprop(o.steps, o.share, rng),
    "drtune": lambda o, rng: drtune(o.steps, o.k, rng),
    "refl": lambda o, rng: refl(o.steps, rng),
}


def make_plan(method: str, options: PlanOptions, rng: np.random.Generator) -> Plan:
    """The plan of one update of `method`; random methods draw from rng. ValueError for an unknown method.

    Steps before the first trained one are walked options.prefix_stride at a time.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown. Choose one of {', '.join(METHODS)}.")
    return hurried(METHODS[method](options, rng), options.prefix_stride)


def hurried(plan: Plan, stride: int) -> Plan:
    """The plan with the steps that only sample, up to the first other one, walked `stride` at a time.

    What is trained, and at which noise, stays as it is; x_t there comes from a coarser DDIM walk.
    """
    if stride < 1:
        raise ValueError(f"prefix_stride={stride} must be at least 1.")
    prefix = next((i for i, step in enumerate(plan) if step != SAMPLE), len(plan))
    return (*(replace(SAMPLE, stride=s) for s in _strides(prefix, stride)), *plan[prefix:])


def noise_aware(plan: Plan) -> bool:
    """Whether what is rewarded is noised (SDE mode): that takes a noise-aware reward, and steps that add noise."""
    return any(step.reward is RewardOn.NOISED for step in plan)


def segments(plan: Plan) -> list[range]:
    """Step indices between optimiser updates: one step each for EasyTune, the whole plan for chain methods."""
    ends = [i + 1 for i, step in enumerate(plan) if step.update]
    if not ends or ends[-1] != len(plan):
        ends.append(len(plan))
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
