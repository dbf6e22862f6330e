"""The one loop that runs any plan of core.align.plans; EasyTune, DRaFT, DRTune ... differ in their data only.

Symbols: x_t (B, L, D) noised latent, x0_hat the clean estimate, alpha_t = sqrt(alpha_bar_t), sg stop-gradient.

1. Cut the plan into segments that end with an optimiser update (EasyTune: every step; chain methods: one).
2. Within a segment, for each step: x0_hat = f(x_t or sg(x_t)), reward as planned, x_{t-1} = DDIM(x_t, x0_hat).
3. Backward and step. Afterwards x_t is a plain tensor again: memory is that of one segment.
4. Replayed steps (terminal gradient): loss = -<g, x0_hat(sg(x_t))> with g = dR/dx_0 taken at the final motion.

The reward of a step counts alpha_bar_t ** noise_power: an estimate from much noise is a guess, and a gradient of it
little worth. That weight is ours; AlignConfig.noise_power = 0 is EasyTune eq. (1) as published.

Where only the network's *input* is detached, the chain itself stays attached in noise form: with eps from sg(x_t),
x0_hat = (x_t - sigma_t eps) / alpha_t. That equals x0_hat(sg(x_t)) + (x_t - sg(x_t)) / alpha_t for any parametrisation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import isfinite, sqrt
from typing import Any

import torch
from torch import Tensor

from core.align.config import MAX_SEED, MAX_UPDATES, AlignConfig
from core.align.guards import Objective, PhysicalTerm, anchor, noised_reward
from core.align.plans import Plan, RewardOn, StepPlan, segments
from core.align.policy import Ema, Policy
from core.diffusion.protocol import MotionDiffusion, Schedule
from core.diffusion.rollout import Predict, predictor, stream_seed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignBatch:
    """Prompts of one update. text: what the model understands, one row a sample; lengths: (B,) frames.

    real: (B, E) embedding of a real motion of each prompt, rows 2i and 2i + 1 of one prompt, for the realism term.
    reward_text: the same prompts for a reward that reads another text encoder than the model; None: `text` is for both.
    weight: of what is maximised; an update without a realism term is small beside those that have one.
    """

    text: Any
    lengths: Tensor
    real: Tensor | None = None
    reward_text: Any = None
    weight: float = 1.0

    @property
    def rewarded_text(self) -> Any:
        """The prompts as the reward understands them."""
        return self.text if self.reward_text is None else self.reward_text

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass
class StepRecord:
    """What happened at one optimiser update. step: last sampling step it covers; grad_norm before clipping."""

    step: int
    reward: float
    loss: float
    grad_norm: float


@dataclass
class Rows:
    """Rows of a batch on their way from noise to motion; share: their part of the whole batch.

    sampling: the policy without gradient, until its next update; base: the base, for the whole trajectory.
    """

    x_t: Tensor
    text: Any
    lengths: Tensor
    generators: Sequence[torch.Generator]
    share: float
    real: Tensor | None = None
    rewarded_text: Any = None
    weight: float = 1.0
    replay: list[tuple[int, Tensor]] = field(default_factory=list)
    terminal_gradient: Tensor | None = None
    sampling: Predict | None = None
    base: Predict | None = None
    physical: PhysicalTerm | None = None

    def noise(self) -> Tensor:
        """Fresh noise like x_t; a row's noise does not depend on which rows travel with it."""
        return row_noise(self.generators, tuple(self.x_t.shape[1:])).to(self.x_t)

    def again(self) -> Rows:
        """The same rows and noise to come, for another model's way from here."""
        return replace(self, generators=[g.clone_state() for g in self.generators])


def take_rows(value: Any, rows: slice) -> Any:
    """Rows of a batch made of tensors, sequences, dicts and dataclasses; anything without rows is kept."""
    if isinstance(value, Tensor | list | tuple):
        return value[rows]
    if isinstance(value, dict):
        return {name: take_rows(part, rows) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: take_rows(getattr(value, f.name), rows) for f in fields(value)})
    return value


def row_generators(seed: int, update: int, rows: range) -> list[torch.Generator]:
    """One random stream a row, a pure function of (seed, update, row): nothing to restore on resume.

    Raises ValueError for a seed above MAX_SEED, an update above MAX_UPDATES, or a row from 2^16 on.
    """
    if not (0 <= seed <= MAX_SEED and 0 <= update <= MAX_UPDATES and rows.stop <= 2**16):
        raise ValueError(f"seed={seed}, update={update} or rows={rows} is beyond {MAX_SEED}, {MAX_UPDATES}, 65536.")
    return [torch.Generator().manual_seed(stream_seed(seed, update << 16 | row)) for row in rows]


def row_noise(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (B, *shape), float32 on the CPU."""
    return torch.stack([torch.randn(shape, generator=g) for g in generators])


def initial_noise(model: MotionDiffusion, generators: Sequence[torch.Generator], lengths: Tensor) -> Tensor:
    """x_T (B, L, D) on the model's device. lengths: of the whole batch, so that L is the same for every share of it."""
    parameter = next(model.denoiser.parameters())
    return row_noise(generators, model.latent_shape(lengths)).to(parameter.device, parameter.dtype)


@dataclass
class Finetuner:
    """Everything an update needs. reduce: averages a tensor over processes, None for one process."""

    model: MotionDiffusion
    objective: Objective
    schedule: Schedule
    policy: Policy
    optimizer: torch.optim.Optimizer
    config: AlignConfig
    ema: Ema | None = None
    reduce: Callable[[Tensor], Tensor] | None = None

    def run(
        self, plan: Plan, x_T: Tensor, batch: AlignBatch, generators: Sequence[torch.Generator]
    ) -> list[StepRecord]:
        """One trajectory of `batch` from noise x_T (B, L, D) by `plan`. Side effect: the plan's optimiser updates."""
        if len(plan) > len(self.schedule.timesteps):
            raise ValueError(f"the plan has {len(plan)} steps, the schedule {len(self.schedule.timesteps)}.")
        size = self.config.micro_batch or len(batch)
        cuts = [slice(start, min(start + size, len(batch))) for start in range(0, len(batch), size)]
        chunks = [
            Rows(x_T[c], b.text, b.lengths, generators[c], len(b) / len(batch), b.real, b.rewarded_text, b.weight)
            for c in cuts
            for b in [take_rows(batch, c)]
        ]
        for rows in chunks:
            rows.physical = self._limits(rows) if self.config.guards.physical_weight else None
        records = []
        for segment in segments(plan):
            with self.policy.still():
                losses = [self._backward(*self._run_segment(rows, plan, segment), rows) for rows in chunks]
            records += self._update(segment[-1], losses)
        for index in reversed(range(len(chunks[0].replay))):  # low noise first, where the gradient is truest
            losses = [self._backward(*self._replay(rows, index), rows) for rows in chunks]
            records += self._update(chunks[0].replay[index][0], losses)
        return records

    def _run_segment(self, rows: Rows, plan: Plan, segment: range) -> tuple[Tensor, float]:
        """Steps of one segment for some rows; returns loss and mean reward, leaves rows.x_t without gradient."""
        loss, rewards, rows.sampling = rows.x_t.new_zeros(()), [], None
        for step in segment:
            now, x_t = plan[step], rows.x_t
            if not now.stride:
                continue
            if now.replay:
                rows.replay.append((step, x_t.detach()))
            x0_hat, x_prev = self._denoise(rows, x_t, step, now)
            if now.keep_grad:
                loss = loss + self._anchor(rows, x_t, x0_hat, step)
            if now.reward is not None:
                term, reward = self._reward(rows, x0_hat, x_prev, step, now)
                loss = loss + term
                rewards.append(reward)
            rows.x_t = x_prev.detach() if now.detach_chain else x_prev
        rows.x_t = rows.x_t.detach()
        return loss, sum(rewards) / len(rewards) if rewards else float("nan")

    def _precision(self, x_t: Tensor) -> torch.autocast:
        return torch.autocast(x_t.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _predictor(self, rows: Rows) -> Predict:
        return predictor(self.model, rows.text, self.config.guidance_scale, rows.lengths, rows.x_t.shape[1])

    def _predict(self, rows: Rows, x_t: Tensor, step: int) -> Tensor:
        """x0_hat (B, L, D) of the policy; steps without gradient share what depends on texts and weights alone."""
        with self._precision(x_t):
            if torch.is_grad_enabled():
                predict = self._predictor(rows)
            else:
                predict = rows.sampling = rows.sampling or self._predictor(rows)
            return predict(x_t, self.schedule.timesteps[step]).to(x_t.dtype)

    def _denoise(self, rows: Rows, x_t: Tensor, step: int, now: StepPlan) -> tuple[Tensor, Tensor]:
        """x0_hat and x_{t-1}, (B, L, D) each, with gradient only as planned."""
        seen = x_t.detach() if now.detach_input else x_t
        with torch.set_grad_enabled(now.keep_grad):
            x0_hat = self._predict(rows, seen, step)
        if x_t.requires_grad and now.detach_input:
            x0_hat = x0_hat + (x_t - seen) / sqrt(self.schedule.alpha_bar(step))
        noise = rows.noise() if self.config.eta > 0 else None
        return x0_hat, self.schedule.previous(x_t, x0_hat, step, noise, now.stride)

    def _value(self, rows: Rows, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Objective and plain reward, (B,) each, of a clean latent."""
        features = self.model.decode(x0, rows.lengths)
        return self.objective(features, rows.lengths, rows.rewarded_text, rows.real, rows.physical)

    def _reward(self, rows: Rows, x0_hat: Tensor, x_prev: Tensor, step: int, now: StepPlan) -> tuple[Tensor, float]:
        """Loss term (scalar) and mean plain reward of one rewarded step."""
        scale = self.config.reward_weight * rows.share * rows.weight
        if now.reward is RewardOn.X0_HAT:
            value, reward = self._value(rows, x0_hat)
            return -scale * self._weight(step) * value.mean(), float(reward.mean())
        if now.reward is RewardOn.NOISED:
            t = self.schedule.timestep_after(step + now.stride - 1)
            noised = noised_reward(self.objective.reward).noised(x_prev, t, rows.lengths, rows.rewarded_text)
            return -scale * self._weight(step) * self.objective.shaped(noised).mean(), float(noised.detach().mean())
        if now.reward is RewardOn.GRADIENT:
            x0 = x_prev.detach().requires_grad_(True)
            value, reward = self._value(rows, x0)
            (rows.terminal_gradient,) = torch.autograd.grad(value.mean(), x0)
            return x_prev.new_zeros(()), float(reward.mean())
        value, reward = self._value(rows, x_prev)
        for _ in range(now.renoised):
            x_t = self.schedule.add_noise(x_prev.detach(), rows.noise(), step)
            value = value + self._value(rows, self._predict(rows, x_t, step))[0]
        return -scale * value.mean() / (1 + now.renoised), float(reward.mean())

    def _weight(self, step: int) -> float:
        return self.schedule.alpha_bar(step) ** self.config.noise_power

    def _anchor(self, rows: Rows, x_t: Tensor, x0_hat: Tensor, step: int) -> Tensor | float:
        weight = self.config.guards.anchor_weight
        if weight == 0:
            return 0.0
        return weight * rows.share * anchor(x0_hat, self._predict_base(rows, x_t.detach(), step))

    @torch.no_grad()
    def _predict_base(self, rows: Rows, x_t: Tensor, step: int) -> Tensor:
        """x0_hat (B, L, D) of the base."""
        with self.policy.base(), self._precision(x_t):
            rows.base = rows.base or self._predictor(rows)
            return rows.base(x_t, self.schedule.timesteps[step]).to(x_t.dtype)

    @torch.no_grad()
    def _limits(self, rows: Rows) -> PhysicalTerm:
        """Skating and acceleration of the base's own takes from the same noise."""
        take = rows.again()
        for step in range(len(self.schedule.timesteps)):
            x0_hat = self._predict_base(rows, take.x_t, step)
            noise = take.noise() if self.config.eta > 0 else None
            take.x_t = self.schedule.previous(take.x_t, x0_hat, step, noise)
        return PhysicalTerm.of(self.model.decode(take.x_t, rows.lengths), rows.lengths)

    def _replay(self, rows: Rows, index: int) -> tuple[Tensor, float]:
        """Loss -w_t <g, x0_hat(sg(x_t))> of one remembered step: the terminal gradient, one step at a time."""
        if rows.terminal_gradient is None:
            raise ValueError("a plan that replays steps needs reward=RewardOn.GRADIENT at its last step.")
        step, x_t = rows.replay[index]
        x0_hat = self._predict(rows, x_t, step)
        pull = (rows.terminal_gradient * x0_hat).sum()
        loss = -self.config.reward_weight * rows.share * rows.weight * self._weight(step) * pull
        return loss + self._anchor(rows, x_t, x0_hat, step), float("nan")

    def _backward(self, loss: Tensor, reward: float, rows: Rows) -> tuple[float, float, bool]:
        """(loss, reward, whether anything was trained), both already weighted by the rows' share."""
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach()), reward * rows.share, loss.requires_grad

    def _update(self, step: int, losses: Sequence[tuple[float, float, bool]]) -> list[StepRecord]:
        """Clip and step, once for all chunks; segments that only sample leave a record of their reward, if any."""
        parameters = self.policy.parameters
        loss, reward = sum(v[0] for v in losses), sum(v[1] for v in losses)
        if self.reduce is not None:  # each process has the figures of its own rows only
            loss, reward = self.reduce(torch.tensor([loss, reward], device=parameters[0].device)).tolist()
        if not losses[0][2]:
            return [] if reward != reward else [StepRecord(step, reward, loss, 0.0)]
        if self.reduce is not None:
            for p in parameters:
                if p.grad is not None:
                    p.grad = self.reduce(p.grad)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.config.clip))
        if isfinite(norm):
            self.optimizer.step()
        else:
            logger.warning("step %d: the gradient is not finite, the update is left out", step)
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update()
        return [StepRecord(step, reward, loss, norm)]


@torch.no_grad()
def sample(
    model: MotionDiffusion,
    schedule: Schedule,
    x_T: Tensor,
    batch: AlignBatch,
    guidance_scale: float,
    generators: Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Clean latents (B, L, D) from noise x_T, without gradient. generators: one a row, where the steps add noise."""
    x_t, predict = x_T, predictor(model, batch.text, guidance_scale, batch.lengths, x_T.shape[1])
    for step, t in enumerate(schedule.timesteps):
        noise = row_noise(generators, tuple(x_t.shape[1:])).to(x_t) if generators else None
        x_t = schedule.previous(x_t, predict(x_t, t), step, noise)
    return x_t
