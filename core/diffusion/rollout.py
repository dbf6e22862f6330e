"""From prompts to motions: one sampling loop over a scheduler of diffusers.

Noise depends on a motion's seed only, so the same prompt, seed and settings give the same motion in any company; two
models given the same seed start from the same noise. To make single motions, see core.diffusion.takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import Callback
from core.diffusion.ddim import from_diffusers
from core.diffusion.protocol import MotionDiffusion
from core.diffusion.schedule import SCHEDULER, TRAIN_STEPS
from core.motion.skeleton import FPS, MAX_FRAMES, MIN_FRAMES

SOLVERS = ("ddim", "dpm++", "lcm")
MAX_LCM_STEPS = 50  # steps of the solver that consistency models were distilled from
MAX_GUIDANCE = 20.0


@dataclass(frozen=True)
class SamplerConfig:
    """How a motion is sampled."""

    steps: int = 50  # network calls; 12 are enough for dpm++
    guidance_scale: float = 2.5  # classifier-free guidance weight; 1 = none
    # Song et al. 2021, Lu et al. 2022, Luo et al. 2023
    solver: str = "ddim"  # ddim, dpm++ (DPM-Solver++ 2M), or lcm for distilled models, in 1 to 4 steps

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= TRAIN_STEPS:
            raise ValueError(f"steps={self.steps} is outside 1-{TRAIN_STEPS}. 50 is usual for ddim, 12 for dpm++.")
        if not 0.0 <= self.guidance_scale <= MAX_GUIDANCE:
            raise ValueError(
                f"guidance_scale={self.guidance_scale} is outside 0-{MAX_GUIDANCE:g}. 2.5 is a good value."
            )
        if self.solver not in SOLVERS:
            raise ValueError(f"solver={self.solver!r} is unknown. Choose one of {', '.join(SOLVERS)}.")
        if self.solver == "lcm" and self.steps > MAX_LCM_STEPS:
            raise ValueError(f"steps={self.steps} is outside 1-{MAX_LCM_STEPS} for lcm. 4 are enough.")


def make_scheduler(config: SamplerConfig, schedule: Mapping[str, Any] = SCHEDULER) -> Any:
    """The diffusers scheduler of a config, exactly config.steps timesteps set.

    schedule: noise levels as diffusers names them; a model with others than ours has them as `model.schedule`.
    Raises ValueError where the model was trained with fewer noise levels than there are steps.

    diffusers computes trailing timesteps with a float arange that for some numbers (61, 103 ...) yields one more, -1.
    """
    if config.steps > schedule["num_train_timesteps"]:
        raise ValueError(
            f"steps={config.steps} is outside 1-{schedule['num_train_timesteps']}, this model's noise levels."
        )
    if config.solver == "ddim":
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        scheduler = DDIMScheduler(**schedule, clip_sample=False)
        scheduler.set_timesteps(config.steps)
    elif config.solver == "lcm":
        from diffusers.schedulers.scheduling_lcm import LCMScheduler

        scheduler = LCMScheduler(**schedule, clip_sample=False)
        scheduler.set_timesteps(config.steps, original_inference_steps=MAX_LCM_STEPS)
    else:
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        known = {k: v for k, v in schedule.items() if k != "set_alpha_to_one"}
        scheduler = DPMSolverMultistepScheduler(**known, algorithm_type="dpmsolver++", solver_order=2)
        scheduler.set_timesteps(config.steps)
        scheduler.sigmas = torch.cat([scheduler.sigmas[: config.steps], scheduler.sigmas[-1:]])
    scheduler.timesteps = scheduler.timesteps[: config.steps]
    return scheduler


def check_frames(frames: int) -> int:
    """The number of frames if it can be made; ValueError names seconds, the range and the fix."""
    if not MIN_FRAMES <= frames <= MAX_FRAMES:
        raise ValueError(
            f"duration_s={frames / FPS:.1f} is outside {MIN_FRAMES / FPS:.1f}-{MAX_FRAMES / FPS:.1f} "
            f"({MIN_FRAMES}-{MAX_FRAMES} frames at {FPS} fps). Choose another length."
        )
    return frames


def stream_seed(seed: int, stream: int) -> int:
    """Seed of one of several random streams of a seed: its 32 bits are all that PyTorch's CPU generator reads."""
    return (seed * 0x9E3779B1 ^ stream) & 0xFFFFFFFF  # an odd factor, so no two seeds meet


def seed_noise(seeds: Sequence[int], sizes: Sequence[int], width: int) -> Tensor:
    """Standard normal noise (B, max L, width) on the CPU: row i from seeds[i] alone, sizes[i] latents, then zeros."""
    rows = [
        torch.randn((n, width), generator=torch.Generator().manual_seed(seed))
        for seed, n in zip(seeds, sizes, strict=True)
    ]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


@torch.no_grad()
def sample_latents(
    model: MotionDiffusion,
    text: Any,
    lengths: Tensor,
    seeds: Sequence[int],
    config: SamplerConfig,
    callback: Callback | None = None,
) -> Tensor:
    """Clean latents (B, L, D) of B texts; lengths (B,) frames on the model's device.

    callback(step, steps, {"x0_hat": (B, L, D)}) after each step; raising from it cancels.
    """
    shapes = [model.latent_shape(n[None]) for n in lengths]
    scheduler = make_scheduler(config, getattr(model, "schedule", SCHEDULER))
    sizes, width = [size for size, _ in shapes], shapes[0][1]
    x_t = seed_noise(seeds, sizes, width).to(lengths.device)
    predict = predictor(model, text, config.guidance_scale, lengths, x_t.shape[1])
    step = stepper(scheduler, config.solver, lambda i: seed_noise([stream_seed(s, i) for s in seeds], sizes, width))
    for i, t in enumerate(scheduler.timesteps.tolist()):
        x0_hat = predict(x_t, t)
        x_t = step(x_t, x0_hat, i)
        if callback:
            callback(i + 1, config.steps, {"x0_hat": x0_hat})
    return x_t


Step = Callable[[Tensor, Tensor, int], Tensor]


def stepper(scheduler: Any, solver: str, noise: Callable[[int], Tensor]) -> Step:
    """(x_t, x0_hat, number of the step) -> what the next step sees. noise: of a step, for the solver that adds some.

    ddim goes by core.diffusion.ddim, as alignment does: diffusers' own step ends beside the next timestep, and leaves
    noise in the motion, where the steps do not divide the noise levels.
    """
    if solver == "ddim":
        return from_diffusers(scheduler).previous
    timesteps = scheduler.timesteps

    def step(x_t: Tensor, x0_hat: Tensor, i: int) -> Tensor:
        stepped = scheduler.step(x0_hat, int(timesteps[i]), x_t)
        if solver != "lcm" or i + 1 == len(timesteps):
            return stepped.prev_sample
        # the scheduler's own noise would hang on the batch's longest motion
        return scheduler.add_noise(stepped.denoised, noise(i + 1).to(x_t), timesteps[i + 1 : i + 2])

    return step


Predict = Callable[[Tensor, int], Tensor]


def predictor(model: MotionDiffusion, text: Any, guidance_scale: float, lengths: Tensor, size: int) -> Predict:
    """(x_t, t) -> x0_hat; what all steps share is computed once by models that have `prepare`.

    size: L of x_t. Holds while the weights stay as they are.
    """
    prepare = getattr(model, "prepare", None)
    if prepare is not None:
        return prepare(text, guidance_scale, lengths, size)
    return lambda x_t, t: model.predict_x0(x_t, t, text, guidance_scale, lengths)


@torch.no_grad()
def sample_motions(
    model: MotionDiffusion,
    text_encoder: Any,
    prompts: Sequence[str],
    frames: Sequence[int],
    seeds: Sequence[int],
    config: SamplerConfig,
    callback: Callback | None = None,
    batch_size: int = 1,
) -> list[np.ndarray]:
    """One motion per prompt: features (F, 263) float32 in physical units.

    batch_size 1 computes each motion alone, bit for bit the same in any company; larger batches, of similar lengths,
    are for evaluation and differ by float rounding. callback(step, total, info) counts network steps over all batches;
    raising from it cancels. Raises ValueError when prompts, frames and seeds differ in number or a length is out of
    range. A model trained on another text encoder than `text_encoder` brings its own as `model.text_encoder`.
    """
    text_encoder = getattr(model, "text_encoder", None) or text_encoder
    if not len(prompts) == len(frames) == len(seeds):
        raise ValueError(f"{len(prompts)} prompts, {len(frames)} lengths and {len(seeds)} seeds: give one of each.")
    for n in frames:
        check_frames(n)
    device = next(model.denoiser.parameters()).device
    order = sorted(range(len(prompts)), key=frames.__getitem__) if batch_size > 1 else list(range(len(prompts)))
    batches = [order[start : start + batch_size] for start in range(0, len(prompts), batch_size)]
    motions: dict[int, np.ndarray] = {}
    for done, rows in enumerate(batches):
        lengths = torch.tensor([frames[i] for i in rows], device=device)
        text = text_encoder.encode([prompts[i] for i in rows]).to(device)
        report = shifted(callback, done * config.steps, len(batches) * config.steps)
        latents = sample_latents(model, text, lengths, [seeds[i] for i in rows], config, report)
        features = model.decode(latents, lengths).float().cpu().numpy()
        motions |= {i: features[row, : frames[i]] for row, i in enumerate(rows)}
    return [motions[i] for i in range(len(prompts))]


def shifted(callback: Callback | None, done: int, total: int) -> Callback | None:
    """The callback of one part, after `done` steps of `total`."""
    return callback and (lambda step, _, info: callback(done + step, total, info))
