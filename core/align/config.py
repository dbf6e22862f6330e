"""Settings of one alignment run; what the shipped ones were made with is told on their card."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from core import require
from core.align.plans import METHODS, Plan, PlanOptions, make_plan, noise_aware
from core.diffusion.rollout import MAX_GUIDANCE

MAX_SEED, MAX_UPDATES = 2**20 - 1, 2**16 - 1  # random streams that core.align.finetune.row_generators tells apart


@dataclass(frozen=True)
class GuardConfig:
    """What keeps the policy from pleasing the reward only."""

    anchor_weight: float = 0.5  # on mean |x0_hat - base x0_hat|^2; 0 = off
    ema: float = 0.97  # decay of the averaged policy, per optimiser step; 0 = off
    saturation: float | None = None  # reward above which more is worth less and less, e.g. the mean of real motions
    saturation_sharpness: float = 20.0  # 1 / width of that bend, per unit of reward
    physical_weight: float = 0.0  # reward units per 100 % more skating or acceleration than in the base's own take
    realism_weight: float = 0.0  # on the energy score against real motions of the same prompts; needs an even batch
    monitor_every: int = 25  # updates between checks on held-out prompts; 0 = never
    max_diversity_loss: float = 0.15  # stop where diversity falls by more than this share of the base's
    max_skating_gain: float = 0.25  # ... or skating rises by more than this share
    max_acceleration_gain: float = 0.35  # ... or acceleration
    max_distance: float = 1.0  # ... or mean |x0 - base x0|^2 exceeds this multiple of the base's own variance
    max_reward_gain: float | None = None  # ... or a trained reward has risen by this much, which is enough
    alarm_patience: int = 2  # ... or ensemble members part in this many checks on end
    alarm_tolerance: float = 0.002  # fall of a member's reward that counts as parting
    halvings: int = 0  # looks between the last policy that passed and the one that did not, to ship the farthest

    def __post_init__(self) -> None:
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"ema={self.ema} is outside [0, 1).")
        require(self, "anchor_weight", "physical_weight", "realism_weight", "monitor_every", "halvings")
        require(self, "max_diversity_loss", "max_skating_gain", "max_acceleration_gain", "max_distance")
        require(self, "max_reward_gain", "saturation_sharpness", above=True)
        require(self, "saturation", low=-1.0)
        require(self, "alarm_patience", low=1)
        require(self, "alarm_tolerance")


def check_held_out(prompts: int) -> None:
    """ValueError for a number of held-out prompts that has no diversity."""
    if prompts < 0 or prompts == 1:
        raise ValueError(
            f"held_out_prompts={prompts} must be 2 or more, whose diversity is watched, or 0 for no monitors."
        )


@dataclass(frozen=True)
class AlignConfig:
    """One run: method, length, optimiser, adapters."""

    method: str = "easytune"  # or easytune-sde, terminal-gradient, draft, draft-lv, alignprop, drtune, refl
    steps: int = 20  # DDIM sampling steps T; 50 in the paper
    last_k: int | None = 4  # trained steps, from the end; None = all. A fifth of the steps, as published
    prefix_stride: int = 1  # ours: steps before the first trained one are walked this many at a time
    trained_stride: int = 1  # ours: of the last_k steps of easytune and terminal-gradient every so many-th is trained
    share: float = 0.2  # AlignProp: probability that a step keeps its gradient
    renoised: int = 2  # DRaFT-LV: fresh noisings of the final motion beside it, as published
    guidance_scale: float = 2.5  # classifier-free guidance weight while aligning and sampling; 7.5 in MLD
    updates: int = 150  # batches of prompts; an EasyTune batch makes an optimiser step for each trained step
    batch: int = 16  # prompts a batch over all processes; 64 in the paper
    micro_batch: int | None = None  # rows held in memory at once; gradients add up to those of the whole batch
    lr: float = 5e-5  # AdamW; 1e-5 in the paper with full weights
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW's averages of gradient and square
    weight_decay: float = 0.0  # AdamW's, a step and unit of lr
    clip: float = 1.0  # gradient norm limit, published code
    reward_weight: float = 1.0  # lambda of EasyTune's loss
    noise_power: float = 0.5  # ours: a step's reward counts alpha_bar_t ** noise_power; 0 = eq. (1) as published
    eta: float = 0.0  # noise of a DDIM step: 0 = none (ODE), 1 = as much as DDPM; easytune-sde needs it
    lora_rank: int = 8  # 0 = train all weights of the denoiser
    lora_alpha: float = 16.0  # adapters count lora_alpha / lora_rank
    precision: str = "float32"  # or "bfloat16": network calls in mixed precision
    seed: int = 0  # of adapters, prompts, noise and random plans
    save_every: int = 10  # updates between saved states
    keep_every: int = 25  # updates between policies kept for `python -m core align-report`; 0 = none
    guards: GuardConfig = field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown. Choose one of {', '.join(METHODS)}.")
        require(self, "steps", "prefix_stride", "trained_stride", "updates", "batch", "save_every", low=1)
        require(self, "clip", "lora_alpha", above=True)
        require(self, "lr", "weight_decay", "reward_weight", "noise_power", "lora_rank", "keep_every")
        require(self, "seed", high=MAX_SEED)
        require(self, "guidance_scale", high=MAX_GUIDANCE)
        require(self, "eta", high=1.0)
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas={self.betas} must be within [0, 1). 0.9 0.999 are usual.")
        if self.last_k is not None and not 1 <= self.last_k <= self.steps:
            raise ValueError(f"last_k={self.last_k} is outside 1-{self.steps} (steps). Use None for all steps.")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch={self.micro_batch} must be at least 1, or None for the whole batch.")
        if self.guards.realism_weight and (self.batch % 2 or (self.micro_batch or 2) % 2):
            raise ValueError(
                f"batch={self.batch} and micro_batch={self.micro_batch} must be even: realism_weight takes two motions "
                "of each prompt."
            )
        if noise_aware(self.plan(0)):  # whose own checks speak first
            self._check_noise_aware()
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r} is unknown. Choose float32 or bfloat16.")

    def _check_noise_aware(self) -> None:
        wanted = {"eta": 1} if self.eta == 0 else {}
        wanted |= {name: 0 for name in ("realism_weight", "physical_weight") if getattr(self.guards, name)}
        if wanted:
            found = ", ".join(f"{name}={getattr(self.guards, name, self.eta)}" for name in wanted)
            flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in wanted.items())
            raise ValueError(
                f"{found}: {self.method} rewards noised motions, so it needs noise and no term that looks at clean "
                f"ones. Set {flags}, or choose method easytune."
            )

    def plan(self, update: int) -> Plan:
        """The plan of one update; a pure function of (seed, update), also where the method draws it."""
        options = PlanOptions(
            self.steps, self.last_k, self.share, self.renoised, self.prefix_stride, self.trained_stride
        )
        return make_plan(self.method, options, np.random.default_rng([self.seed, update]))
