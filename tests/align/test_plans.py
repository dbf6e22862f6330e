"""Plans are data; these tests read them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.align.config import AlignConfig
from core.align.plans import (
    METHODS,
    SAMPLE,
    PlanOptions,
    RewardOn,
    StepPlan,
    alignprop,
    draft,
    draft_lv,
    drtune,
    easytune,
    hurried,
    make_plan,
    refl,
    segments,
    terminal_gradient,
)


def trained(plan) -> list[int]:
    return [i for i, step in enumerate(plan) if step.keep_grad or step.replay]


def rewarded(plan) -> list[int]:
    return [i for i, step in enumerate(plan) if step.reward is not None]


def test_easytune_rewards_and_updates_each_of_the_last_k() -> None:
    """Off-by-one in "the last k" would train the noise end."""
    plan = easytune(50, 10)
    assert trained(plan) == rewarded(plan) == list(range(40, 50))
    assert all(step.detach_input and step.detach_chain and step.update for step in plan[40:])
    assert len(segments(plan)) == 10 and segments(plan)[0] == range(0, 41)
    assert trained(easytune(50)) == list(range(50))


def test_a_stride_of_easytune_trains_fewer_steps_and_walks_over_the_others() -> None:
    """A step trained twice, one left out of the walk, or a stride that other methods obey."""
    plan = easytune(50, 10, stride=4)
    assert trained(plan) == rewarded(plan) == [40, 44, 48]
    assert [step.stride for step in plan[40:]] == [4, 0, 0, 0, 4, 0, 0, 0, 2, 0]
    assert sum(step.stride for step in plan) == 50
    assert all(step.update for step in plan if step.keep_grad)
    assert easytune(50, 10, stride=1) == easytune(50, 10)
    with pytest.raises(ValueError, match="trained_stride=11 is outside 1-10"):
        easytune(50, 10, stride=11)
    options = PlanOptions(steps=20, last_k=4)
    for method in METHODS:
        plain, coarse = (
            make_plan(method, o, np.random.default_rng(5)) for o in (options, replace(options, trained_stride=2))
        )
        assert (plain != coarse) == (method in ("easytune", "easytune-sde", "terminal-gradient"))
    plan = terminal_gradient(50, 10, stride=4)
    assert trained(plan) == [40, 44, 48] and [step.stride for step in plan[40:]] == [4, 0, 0, 0, 4, 0, 0, 0, 2, 0]
    assert rewarded(plan) == [48] and plan[48].reward is RewardOn.GRADIENT  # the last walk ends at the motion


def test_draft_keeps_k_steps_and_one_reward() -> None:
    plan = draft(50, 10)
    assert trained(plan) == list(range(40, 50)) and rewarded(plan) == [49]
    assert not any(step.detach_input or step.detach_chain for step in plan[40:])
    assert segments(plan) == [range(50)]
    assert draft_lv(50, 2)[-1].renoised == 2 and trained(draft_lv(50)) == [49]


def test_what_a_run_configures_reaches_its_plan() -> None:
    """Fails where a setting of --help is read by nobody."""
    lv = AlignConfig(method="draft-lv", steps=8, renoised=5)
    assert lv.plan(3) == draft_lv(8, 5) and replace(lv, renoised=2).plan(3) == draft_lv(8, 2)
    prop = AlignConfig(method="alignprop", steps=8, share=1.0)
    assert trained(prop.plan(0)) == list(range(8)) and trained(replace(prop, share=0.0).plan(0)) == [7]
    assert AlignConfig(steps=8, last_k=3).plan(0) == easytune(8, 3)
    strided = AlignConfig(steps=9, last_k=4, prefix_stride=2, trained_stride=2)
    assert strided.plan(0) == hurried(easytune(9, 4, stride=2), 2)


def test_random_methods_follow_their_definition() -> None:
    """ReFL stops late, DRTune spaces its steps back from its stop, AlignProp keeps a share and never nothing."""
    rng = np.random.default_rng(0)
    reward_feedback = [refl(40, rng) for _ in range(300)]
    assert {len(plan) - 1 for plan in reward_feedback} == set(range(30, 40))
    assert all(plan[-1] == StepPlan(keep_grad=True, reward=RewardOn.X0_HAT) for plan in reward_feedback)
    assert all(step == SAMPLE for plan in reward_feedback for step in plan[:-1])
    for _ in range(50):
        plan = drtune(50, 5, rng)
        stop = len(plan) - 1
        assert 40 <= stop < 50 and trained(plan) == sorted(stop - 10 * j for j in range(5))
        assert plan[-1].reward is RewardOn.X0_HAT and all(s.detach_input and not s.detach_chain for s in plan)
    plans = [alignprop(50, 0.3, rng) for _ in range(300)]
    assert 14 < np.mean([len(trained(plan)) for plan in plans]) < 16
    for plan in plans:
        assert not any(step.detach_chain for step in plan) and all(s.detach_input != s.keep_grad for s in plan)
        assert rewarded(plan) == [49] and plan[-1].reward is RewardOn.X_PREV
    assert trained(alignprop(50, 0.0, rng)) == [49]


def test_a_stride_covers_every_step_once_and_only_where_nothing_is_trained() -> None:
    """A jump over a trained step, or past the end of the prefix."""
    for method in METHODS:
        options = PlanOptions(steps=23, last_k=4)
        plan = make_plan(method, options, np.random.default_rng(5))
        fast = make_plan(method, replace(options, prefix_stride=5), np.random.default_rng(5))
        assert [replace(step, stride=1) for step in fast] == list(plan) and sum(s.stride for s in fast) == len(plan)
        assert all(step.stride == 1 for step in fast if replace(step, stride=1) != SAMPLE)
        walked = [i for i, step in enumerate(fast) if step.stride]
        assert all(b - a == fast[a].stride for a, b in zip(walked, walked[1:], strict=False))
    assert [step.stride for step in hurried(easytune(9, 2), 3)] == [3, 0, 0, 3, 0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="prefix_stride=0 must be at least 1"):
        hurried(easytune(9, 2), 0)


def test_every_method_by_name() -> None:
    """A method that no name reaches is dead; an unknown name must say what is allowed."""
    for method in METHODS:
        plan = make_plan(method, PlanOptions(steps=10, last_k=2), np.random.default_rng(0))
        assert trained(plan) and rewarded(plan) and len(plan) <= 10
    assert trained(terminal_gradient(10)) == list(range(10))
    with pytest.raises(ValueError, match="Choose one of easytune"):
        make_plan("eztune", PlanOptions(10), np.random.default_rng(0))
    with pytest.raises(ValueError, match="outside 1-10"):
        easytune(10, 11)
    with pytest.raises(ValueError, match="outside 0-1"):
        alignprop(10, 1.5, np.random.default_rng(0))


def test_impossible_steps_are_refused() -> None:
    """Combinations that would silently train nothing or use a freed graph."""
    with pytest.raises(ValueError, match="keep_grad"):
        StepPlan(detach_input=False)
    with pytest.raises(ValueError, match="reward"):
        StepPlan(keep_grad=True, update=True)
    with pytest.raises(ValueError, match="detach_chain"):
        StepPlan(keep_grad=True, update=True, reward=RewardOn.X0_HAT, detach_chain=False)
