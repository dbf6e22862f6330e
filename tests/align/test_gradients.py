"""The loop's gradients against graphs written out by hand, in float64."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch

from core.align.config import AlignConfig
from core.align.finetune import row_generators, row_noise
from core.align.memory import saved_bytes
from core.align.plans import (
    RewardOn,
    alignprop,
    draft,
    draft_lv,
    drtune,
    easytune,
    hurried,
    refl,
    terminal_gradient,
)


def ddim(schedule, x_t, x0_hat, i):
    """The DDIM step in noise form, written independently of the schedule's."""
    now, after = schedule.alpha_bars[i], schedule.alpha_bars[i + 1]
    return jump(x_t, x0_hat, now, after)


def jump(x_t, x0_hat, now, after):
    """The DDIM step between any two noise levels."""
    eps = (x_t - sqrt(now) * x0_hat) / sqrt(1 - now)
    return sqrt(after) * x0_hat + sqrt(1 - after) * eps


def test_easytune_gradient_is_the_one_step_graph(bench, close) -> None:
    """Each update's gradient is that of -R(decode(x0_hat(sg(x_t)))) alone: nothing leaks in from other steps."""
    b = bench(4)
    gradients = b.run(easytune(4))
    x = b.x_T
    assert len(gradients) == 4
    for i in range(4):
        x0_hat = b.x0_hat(x, i)
        close(gradients[i], b.gradient_of(-b.mean_reward(x0_hat)))
        x = ddim(b.schedule, x, x0_hat, i).detach()


@pytest.mark.parametrize("make", [easytune, terminal_gradient])
def test_a_step_counts_as_much_as_there_is_signal(bench, tiny, close, make) -> None:
    """Fails where noise_power, on by default, is left out: a step's gradient is alpha_bar ** power times as long."""
    config = AlignConfig(guards=tiny.no_guards, noise_power=0.5, clip=1e12)
    plain, weighted = bench(3), bench(3, config=config)
    plain.run(make(3))
    weighted.run(make(3))
    steps = [record.step for record in plain.records if record.grad_norm > 0]
    for step, p, w in zip(steps, plain.gradients, weighted.gradients, strict=True):
        close(w, [g * plain.schedule.alpha_bar(step) ** 0.5 for g in p])


def test_easytune_trajectory_sees_its_own_updates(bench, close) -> None:
    """The published code samples from a stale copy; here the second gradient is that of the updated policy."""
    b = bench(3, lr=0.5)
    gradients = b.run(easytune(3))
    fresh = bench(3)
    x0_hat = fresh.x0_hat(fresh.x_T, 0)
    x = ddim(fresh.schedule, fresh.x_T, x0_hat, 0).detach()
    with torch.no_grad():
        for p, g in zip(fresh.policy.parameters, gradients[0], strict=True):
            p -= 0.5 * g
    close(gradients[1], fresh.gradient_of(-fresh.mean_reward(fresh.x0_hat(x, 1))))


def test_a_hurried_prefix_trains_the_same_steps_from_a_coarser_walk(bench, close) -> None:
    """A stride that trains other steps, forgets the rest of the prefix, or costs the calls that it should save."""
    b = bench(7)
    gradients = b.run(hurried(easytune(7, 2), 3))
    bars, x, calls = b.schedule.alpha_bars, b.x_T, [0, 3]  # steps 0-2 in one, then 3 and 4
    for i, after in zip(calls, [3, 5], strict=True):
        x = jump(x, b.x0_hat(x, i), bars[i], bars[after]).detach()
    assert len(gradients) == 2 and [record.step for record in b.records] == [5, 6]
    for gradient, i in zip(gradients, (5, 6), strict=True):
        x0_hat = b.x0_hat(x, i)
        close(gradient, b.gradient_of(-b.mean_reward(x0_hat)))
        x = ddim(b.schedule, x, x0_hat, i).detach()


def test_a_stride_among_trained_steps_walks_on_from_where_the_last_one_was(bench, close) -> None:
    """The next trained step must see x_t after a jump of the stride, by the estimate that was trained."""
    b = bench(7)
    gradients = b.run(easytune(7, 5, stride=2))
    bars, x = b.schedule.alpha_bars, b.x_T
    for i in range(2):
        x = ddim(b.schedule, x, b.x0_hat(x, i), i).detach()
    assert [record.step for record in b.records] == [2, 4, 6]
    for gradient, i in zip(gradients, (2, 4, 6), strict=True):
        x0_hat = b.x0_hat(x, i)
        close(gradient, b.gradient_of(-b.mean_reward(x0_hat)))
        x = jump(x, x0_hat, bars[i], bars[min(i + 2, 7)]).detach()


def test_methods_agree_at_one_step(bench, close) -> None:
    """With T = 1 there is nothing left to detach: EasyTune, ReFL, DRaFT-1, DRTune and terminal gradient are one."""
    rng = np.random.default_rng(0)
    expected = bench(1).run(easytune(1))[0]
    for plan in (refl(1, rng), draft(1, 1), drtune(1, 1, rng), alignprop(1, 1.0, rng), terminal_gradient(1)):
        close(bench(1).run(plan)[0], expected)


def test_draft_gradient_is_the_full_chain(bench, close) -> None:
    """DRaFT-3 of 3 against plain backpropagation through the sampler."""
    b = bench(3)
    (gradient,) = b.run(draft(3, 3))
    x = b.x_T
    for i in range(3):
        x = ddim(b.schedule, x, b.x0_hat(x, i), i)
    close(gradient, b.gradient_of(-b.mean_reward(x)))


def test_draft_1_ignores_earlier_steps(bench, close) -> None:
    b = bench(3)
    (gradient,) = b.run(draft(3, 1))
    x = b.x_T
    for i in range(3):
        x = ddim(b.schedule, x.detach(), b.x0_hat(x.detach(), i), i)
    close(gradient, b.gradient_of(-b.mean_reward(x)))


def test_drtune_detaches_the_input_but_not_the_chain(bench, close) -> None:
    """Three steps by hand in DRTune's noise form: eps from sg(x_t), x_t attached, reward on x0_hat at the stop."""
    b = bench(3)
    plan = drtune(3, 3, np.random.default_rng(0), earliest=1.0)
    (gradient,) = b.run(plan)
    x = b.x_T
    for i in range(3):
        alpha, sigma = sqrt(b.schedule.alpha_bars[i]), sqrt(1 - b.schedule.alpha_bars[i])
        after = b.schedule.alpha_bars[i + 1]
        eps = (x.detach() - alpha * b.x0_hat(x.detach(), i)) / sigma
        x0_hat = (x - sigma * eps) / alpha
        x = sqrt(after) * x0_hat + sqrt(1 - after) * eps
    close(gradient, b.gradient_of(-b.mean_reward(x0_hat)))
    only_last = bench(3).run(drtune(3, 1, np.random.default_rng(0), earliest=1.0))[0]
    assert (gradient[0] - only_last[0]).abs().max() > 1e-4  # earlier steps do contribute


def test_alignprop_carries_gradient_through_dropped_steps(bench, close) -> None:
    """Steps kept, dropped, kept: the dropped call is a constant, its x_t -> x_{t-1} line is not."""
    b = bench(3)
    drawn = (alignprop(3, 0.7, np.random.default_rng(seed)) for seed in range(100))
    (gradient,) = b.run(next(plan for plan in drawn if [step.keep_grad for step in plan] == [True, False, True]))
    x = ddim(b.schedule, b.x_T, b.x0_hat(b.x_T, 0), 0)
    alpha, sigma = sqrt(b.schedule.alpha_bars[1]), sqrt(1 - b.schedule.alpha_bars[1])
    eps = ((x - alpha * b.x0_hat(x, 1)) / sigma).detach()
    after = b.schedule.alpha_bars[2]
    x = sqrt(after) * (x - sigma * eps) / alpha + sqrt(1 - after) * eps
    x = ddim(b.schedule, x, b.x0_hat(x, 2), 2)
    close(gradient, b.gradient_of(-b.mean_reward(x)))


def test_terminal_gradient_is_the_reward_of_the_true_sample(bench, close) -> None:
    """Every step is pulled along dR/dx_0 of the final motion; low noise comes first."""
    b = bench(3)
    gradients = b.run(terminal_gradient(3))
    states, x = [], b.x_T
    for i in range(3):
        states.append(x)
        x = ddim(b.schedule, x, b.x0_hat(x, i), i).detach()
    x.requires_grad_(True)
    (g,) = torch.autograd.grad(b.mean_reward(x), x)
    assert [r.step for r in b.records] == [2, 2, 1, 0]  # the reward itself, then three updates
    for gradient, i in zip(gradients, (2, 1, 0), strict=True):
        close(gradient, b.gradient_of(-(g * b.x0_hat(states[i], i)).sum()))


def test_a_stride_of_the_terminal_gradient_walks_to_the_motion(bench, close) -> None:
    """Fails where g is taken at a latent on the way, or a step that was walked over is pulled."""
    b = bench(4)
    gradients, bars = b.run(terminal_gradient(4, stride=2)), b.schedule.alpha_bars
    half = jump(b.x_T, b.x0_hat(b.x_T, 0), bars[0], bars[2]).detach()
    x = jump(half, b.x0_hat(half, 2), bars[2], bars[4]).detach().requires_grad_(True)
    (g,) = torch.autograd.grad(b.mean_reward(x), x)
    assert [r.step for r in b.records] == [3, 2, 0]
    for gradient, (state, i) in zip(gradients, ((half, 2), (b.x_T, 0)), strict=True):
        close(gradient, b.gradient_of(-(g * b.x0_hat(state, i)).sum()))


def test_draft_lv_is_the_mean_over_fresh_noisings(bench, close) -> None:
    """DRaFT-1's reward and those of one step from the final motion, noised anew to the last level, in equal parts."""
    b = bench(3)
    (gradient,) = b.run(draft_lv(3, 2))
    x, fresh = b.x_T, row_generators(0, 0, range(4))
    for i in range(2):
        x = ddim(b.schedule, x, b.x0_hat(x, i), i).detach()
    x0 = b.x0_hat(x, 2)
    reward, level = b.mean_reward(x0), b.schedule.alpha_bars[2]
    for _ in range(2):
        noise = row_noise(fresh, tuple(x.shape[1:])).double()
        reward = reward + b.mean_reward(b.x0_hat(sqrt(level) * x0.detach() + sqrt(1 - level) * noise, 2))
    close(gradient, b.gradient_of(-reward / 3))


def test_noise_aware_mode_rewards_the_next_latent(bench, close) -> None:
    """SDE mode: R(x_{t-1}, t-1, c) with the gradient through one step."""
    b = bench(2)
    gradients = b.run(easytune(2, on=RewardOn.NOISED))
    x = ddim(b.schedule, b.x_T, b.x0_hat(b.x_T, 0), 0)
    reward = b.reward.noised(x, b.schedule.timesteps[1], b.batch.lengths, b.batch.text).mean()
    close(gradients[0], b.gradient_of(-reward))


def test_noise_aware_mode_says_how_noised_a_latent_is_after_a_stride(bench, close) -> None:
    """Prevents a latent that was walked two steps far from being rewarded as one of the step between."""
    b = bench(4)
    gradients = b.run(easytune(4, on=RewardOn.NOISED, stride=2))
    bars = b.schedule.alpha_bars
    x = jump(b.x_T, b.x0_hat(b.x_T, 0), bars[0], bars[2])
    reward = b.reward.noised(x, b.schedule.timesteps[2], b.batch.lengths, b.batch.text).mean()
    close(gradients[0], b.gradient_of(-reward))


@pytest.mark.parametrize("plan", [easytune(2), easytune(2, on=RewardOn.NOISED), draft(2, 2), terminal_gradient(2)])
def test_a_batch_weighs_as_much_as_it_says(bench, close, plan) -> None:
    """Prevents prompts without real motions from counting in some methods only."""
    once, thrice = bench(2), bench(2)
    thrice.batch = replace(thrice.batch, weight=3.0)
    for ours, plain in zip(thrice.run(plan), once.run(plan), strict=True):
        close(ours, [3.0 * gradient for gradient in plain])


def test_saved_bytes_do_not_grow_with_steps(bench) -> None:
    """EasyTune's memory is that of one step, whatever T; DRaFT's grows with K."""

    def peak(plan) -> int:
        b = bench(len(plan))
        with saved_bytes() as saved:
            b.run(plan)
        assert saved.live == 0  # every graph was freed
        return saved.peak

    short, long = peak(easytune(10)), peak(easytune(50))
    assert short > 0 and long <= 1.05 * short
    assert peak(terminal_gradient(50)) <= 1.05 * short
    assert peak(draft(50, 50)) - peak(draft(50, 10)) > 3 * (peak(draft(50, 10)) - long)
