"""Sampling: a motion depends on its prompt, length, seed and settings, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import torch

from core.align.finetune import AlignBatch, sample
from core.diffusion.ddim import from_diffusers
from core.diffusion.rollout import (
    SamplerConfig,
    check_frames,
    make_scheduler,
    sample_latents,
    sample_motions,
    seed_noise,
    stepper,
    stream_seed,
)
from core.diffusion.schedule import training_alphas
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.latent import LatentDiffusion
from core.models.vae import MotionVae, VaeConfig
from core.text.features import TextFeatures

PROMPTS, FRAMES, SEEDS = ["a person walks", "someone waves", "bows"], [61, 40, 44], [7, 8, 9]


class WordEncoder:
    """A real, tiny text encoder: one fixed random vector a word."""

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        rows = [[sum(map(ord, word)) for word in ["^", *prompt.split()]] for prompt in prompts]
        mask = torch.arange(max(map(len, rows))) < torch.tensor([len(r) for r in rows])[:, None]
        tokens = torch.zeros(*mask.shape, 12)
        for i, row in enumerate(rows):
            for j, word in enumerate(row):
                tokens[i, j] = torch.randn(12, generator=torch.Generator().manual_seed(word))
        return TextFeatures(tokens, mask, tokens.sum(1) / mask.sum(1, keepdim=True))


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    torch.manual_seed(0)
    denoiser = Denoiser(DenoiserConfig(latent_dim=4, text_dim=12, width=16, layers=1, heads=2))
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    vae = MotionVae(VaeConfig(latent_dim=4, width=16, hidden=16, blocks=1, refine_width=8))
    return LatentDiffusion(vae, denoiser, WordEncoder().encode([""])).eval().requires_grad_(False)


FOUR = SamplerConfig(steps=4)


def motions(model, rows=(0, 1, 2), config=FOUR, **options) -> list[np.ndarray]:
    prompts, frames, seeds = ([values[i] for i in rows] for values in (PROMPTS, FRAMES, SEEDS))
    return sample_motions(model, WordEncoder(), prompts, frames, seeds, config, **options)


def test_same_request_same_motion_in_any_company(model) -> None:
    """Bit for bit: fails where a regenerated motion differs from the one that was voted on."""
    together = motions(model)
    assert [m.shape for m in together] == [(61, 263), (40, 263), (44, 263)]
    assert all(m.dtype == np.float32 and np.isfinite(m).all() for m in together)
    for rows in ([2, 0], [1]):
        for i, motion in zip(rows, motions(model, rows), strict=True):
            np.testing.assert_array_equal(motion, together[i])


@pytest.mark.parametrize("config", [FOUR, SamplerConfig(steps=4, solver="lcm")], ids=lambda config: config.solver)
def test_batched_sampling_equals_single_up_to_rounding(model, config) -> None:
    """Fails where padding of a shorter motion or prompt leaks, noise between the steps hangs on the batch's longest
    motion, or batches come back in another order."""
    for one, many in zip(motions(model, config=config), motions(model, config=config, batch_size=2), strict=True):
        assert one.shape == many.shape
        np.testing.assert_allclose(many, one, atol=1e-4)


def test_seed_prompt_guidance_and_solver_matter(model) -> None:
    """Fails where a setting of the page is not passed on."""
    base = motions(model, [0])[0]
    for prompt, seed, config in (
        (PROMPTS[0], 8, SamplerConfig(steps=4)),
        ("a person bows", 7, SamplerConfig(steps=4)),
        (PROMPTS[0], 7, SamplerConfig(steps=4, guidance_scale=5.0)),
        (PROMPTS[0], 7, SamplerConfig(steps=5)),
        (PROMPTS[0], 7, SamplerConfig(steps=4, solver="dpm++")),
    ):
        other = sample_motions(model, WordEncoder(), [prompt], [61], [seed], config)[0]
        assert np.isfinite(other).all() and np.abs(other - base).max() > 1e-4, (prompt, seed, config)


def test_noise_depends_on_the_seed_only() -> None:
    """Base and aligned of one seed start from the same noise, whatever travels with them."""
    both = seed_noise([3, 4], [10, 15], 4)
    assert both.shape == (2, 15, 4) and not both[0, 10:].any()
    assert torch.equal(both[0, :10], seed_noise([3], [10], 4)[0])
    assert torch.equal(both[1], seed_noise([4], [15], 4)[0])


def test_lcm_draws_fresh_noise_at_every_step(model) -> None:
    """Fails where a step is renoised by the noise it started from, or a step's noise comes twice."""
    seen: list[torch.Tensor] = []
    config, lengths = SamplerConfig(steps=3, solver="lcm"), torch.tensor(FRAMES[:1])
    scheduler = make_scheduler(config)

    def watch(step: int, total: int, info: dict) -> None:
        seen.append(info["x0_hat"])

    last = sample_latents(model, WordEncoder().encode(PROMPTS[:1]), lengths, [7], config, watch)
    noises = [seed_noise([7], [16], 4)] + [seed_noise([stream_seed(7, i)], [16], 4) for i in (1, 2)]
    assert all(abs(float((a * b).mean())) < 0.5 for a, b in combinations(noises, 2))
    x_t = noises[0]
    for i, (t, x0_hat) in enumerate(zip(scheduler.timesteps.tolist(), seen, strict=True)):
        torch.testing.assert_close(model.predict_x0(x_t, t, WordEncoder().encode(PROMPTS[:1]), 2.5, lengths), x0_hat)
        denoised = scheduler.step(x0_hat, t, x_t).denoised
        if i < 2:
            alpha = scheduler.alphas_cumprod[scheduler.timesteps[i + 1]]
            x_t = alpha.sqrt() * denoised + (1 - alpha).sqrt() * noises[i + 1]
    torch.testing.assert_close(denoised, last)


def test_ddim_equals_the_schedule_that_alignment_trains_on(model) -> None:
    """Fails where the aligned model is sampled by other steps than those it was trained through."""
    config = SamplerConfig(steps=10, guidance_scale=2.0)
    text, lengths = WordEncoder().encode(PROMPTS), torch.tensor(FRAMES)
    ours = sample_latents(model, text, lengths, SEEDS, config)
    noise = seed_noise(SEEDS, [16, 10, 11], 4)
    theirs = sample(model, from_diffusers(make_scheduler(config)), noise, AlignBatch(text, lengths), 2.0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("solver", ["ddim", "dpm++"])
@pytest.mark.parametrize("steps", [1, 2, 12, 50, 61, 103, 999, 1000])
def test_exactly_as_many_steps_as_asked(solver, steps) -> None:
    """Fails where rounding in diffusers gives one step more, at timestep -1 (61, 103, ...), or the end keeps noise."""
    scheduler = make_scheduler(SamplerConfig(steps=steps, solver=solver))
    timesteps = scheduler.timesteps.tolist()
    assert len(timesteps) == steps and timesteps[0] == 999
    assert timesteps == sorted(set(timesteps), reverse=True) and timesteps[-1] >= 0


@pytest.mark.parametrize("solver", ["ddim", "dpm++"])
@pytest.mark.parametrize("steps", [1, 5, 61])
def test_a_perfect_model_is_sampled_exactly(solver, steps) -> None:
    """Whoever predicts x0 gets x0: fails where the last step stops short of the clean end."""
    scheduler, x0 = make_scheduler(SamplerConfig(steps=steps, solver=solver)), torch.linspace(-2, 2, 24).view(1, 6, 4)
    x_t, step = seed_noise([0], [6], 4), stepper(scheduler, solver, torch.zeros)
    for i in range(steps):
        x_t = step(x_t, x0, i)
    torch.testing.assert_close(x_t, x0, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("solver", "steps", "tolerance"), [("ddim", 500, 0.02), ("dpm++", 20, 0.02), ("ddim", 20, 0.2)]
)
def test_solvers_solve_the_equation(solver, steps, tolerance) -> None:
    """Data N(m, s^2) has a known best estimate and a known path, x_0 = m + s x_T; fails where a solver is set up for
    another schedule or another kind of prediction."""
    m, s = 0.7, 0.5
    scheduler = make_scheduler(SamplerConfig(steps=steps, solver=solver))
    x_t = x_T = seed_noise([0], [6], 4)
    alphas, step = training_alphas(), stepper(scheduler, solver, torch.zeros)
    for i, t in enumerate(scheduler.timesteps.tolist()):
        a = float(alphas[t]) ** 0.5
        x0_hat = m + a * s**2 / (a**2 * s**2 + 1 - a**2) * (x_t - a * m)
        x_t = step(x_t, x0_hat, i)
    assert float((x_t - (m + s * x_T)).abs().max()) < tolerance


@pytest.mark.parametrize("steps", [60, 501])
def test_no_noise_is_left_where_steps_do_not_divide_the_levels(steps) -> None:
    """Fails where a step ends beside the noise level that the next one is told, as diffusers' own does."""
    spread, alphas = 0.5, training_alphas().double()

    class Ideal:
        denoiser = torch.nn.Linear(1, 1)

        def latent_shape(self, lengths):
            return int(lengths.max()), 8

        def predict_x0(self, x_t, t, text, guidance_scale, lengths):
            signal = float(alphas[t]) * spread**2
            return x_t * (signal / (signal + 1 - float(alphas[t]))) / float(alphas[t]) ** 0.5

    made = sample_latents(Ideal(), None, torch.tensor([2000]), [0], SamplerConfig(steps))
    assert float(made.std()) == pytest.approx(spread, abs=0.015)


def test_callback_counts_all_steps_and_may_cancel(model) -> None:
    """Fails where the progress bar jumps back with every motion, or Cancel is swallowed."""
    seen = []
    motions(model, callback=lambda step, total, info: seen.append((step, total, tuple(info["x0_hat"].shape))))
    assert [s[:2] for s in seen] == [(i + 1, 12) for i in range(12)]
    assert seen[0][2] == (1, 16, 4) and seen[-1][2] == (1, 11, 4)
    seen.clear()
    motions(model, callback=lambda step, total, info: seen.append((step, total)), batch_size=2)
    assert seen == [(i + 1, 8) for i in range(8)]

    def cancel(step: int, total: int, info: dict) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        motions(model, callback=cancel)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps=0 is outside 1-1000"),
        ({"steps": 1001}, r"steps=1001 is outside 1-1000"),
        ({"guidance_scale": -3.0}, r"guidance_scale=-3.0 is outside 0-20"),
        ({"guidance_scale": float("nan")}, r"guidance_scale=nan is outside 0-20"),
        ({"solver": "euler"}, r"solver='euler' is unknown. Choose one of ddim, dpm\+\+"),
    ],
)
def test_settings_out_of_range_are_one_sentence(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**options)


def test_lengths_out_of_range_are_refused_before_anything_is_computed(model) -> None:
    assert check_frames(40) == 40 and check_frames(196) == 196
    for frames, seconds in ((39, "1.9"), (197, "9.8"), (280, "14.0")):
        with pytest.raises(
            ValueError, match=rf"duration_s={seconds}\d* is outside 2.0-9.8 \(40-196 frames at 20 fps\)"
        ):
            check_frames(frames)
    steps = []
    with pytest.raises(ValueError, match="duration_s=14.0"):
        sample_motions(
            model, WordEncoder(), ["a", "b"], [40, 280], [0, 1], SamplerConfig(2), lambda *a: steps.append(a)
        )
    assert not steps


def test_numbers_of_prompts_and_seeds_must_agree(model) -> None:
    with pytest.raises(ValueError, match="2 prompts, 2 lengths and 1 seeds"):
        sample_motions(model, WordEncoder(), ["a", "b"], [40, 40], [0], SamplerConfig(2))
