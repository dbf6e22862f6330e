"""Guards, adapters and the average, each by a fact about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from core.align.adapters import Lora, linear_weights
from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import Rows, row_generators, row_noise, take_rows
from core.align.guards import EnsembleReward, PhysicalTerm, acceleration, saturate, soft_skating
from core.align.memory import saved_bytes
from core.align.monitor import StopRules
from core.align.plans import draft, easytune
from core.align.policy import Ema, Policy
from core.metrics.physical import FOOT_JOINTS, foot_skating, mean_acceleration


def walking(frames: int = 40) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    joints = torch.rand(2, frames, 22, 3, generator=g, dtype=torch.float64) * 0.05
    joints[..., FOOT_JOINTS, 1] = 0.01
    return joints


def test_soft_terms_agree_with_the_metrics() -> None:
    """The policy must be trained on what is measured; padding must not count."""
    joints = walking()
    lengths = torch.tensor([40, 30])
    joints[1, 30:] = 99.0
    for i, frames in enumerate(lengths.tolist()):
        clip = joints[i, :frames].numpy()
        assert float(acceleration(joints, lengths)[i]) == pytest.approx(mean_acceleration(clip), rel=1e-4)
        assert float(soft_skating(joints, lengths)[i]) == pytest.approx(foot_skating(clip), rel=0.02)


def shaken(size: float) -> torch.Tensor:
    return size * torch.randn(2, 40, 263, generator=torch.Generator().manual_seed(0))


def test_physical_term_measures_each_prompt_against_itself() -> None:
    """A lively take of the base is no fault, calming it earns nothing; the same noise on a still one is penalised."""
    lengths = torch.tensor([40, 30])
    rows = torch.stack([shaken(0.1)[0], torch.zeros(40, 263)])
    term = PhysicalTerm.of(rows, lengths)
    assert term(rows, lengths).tolist() == [0.0, 0.0]
    lively, still = term(shaken(0.1), lengths).tolist()
    assert lively == 0.0 and still > 1.0
    assert term(shaken(0.05), lengths)[0] == 0.0 < term(shaken(0.2), lengths)[0]


def test_physical_term_has_a_gradient_at_rest() -> None:
    """A square root of an exact zero would train on NaN."""
    features, lengths = torch.zeros(2, 40, 263, requires_grad=True), torch.tensor([40, 30])
    PhysicalTerm.of(shaken(0.1), lengths)(features, lengths).sum().backward()
    assert features.grad is not None and torch.isfinite(features.grad).all()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_limits_are_those_of_the_base_take_from_the_same_noise(bench, tiny, eta) -> None:
    """Whatever was learnt since, the limits stay the base's; the policy's own noise is not used up."""
    guards = replace(tiny.no_guards, physical_weight=1.0)
    b = bench(3, config=AlignConfig(guards=guards, eta=eta, noise_power=0.0, clip=1e12), lora_rank=2)
    b.finetuner.schedule = replace(b.schedule, eta=eta)
    generators = row_generators(0, 0, range(4))
    rows = Rows(b.x_T, b.batch.text, b.batch.lengths, generators, 1.0)
    before = b.finetuner._limits(rows)
    with torch.no_grad():
        for p in b.policy.parameters:
            p += 0.3
    after = b.finetuner._limits(rows)
    assert torch.equal(before.skating, after.skating) and torch.equal(before.acceleration, after.acceleration)
    assert torch.equal(rows.x_t, b.x_T) and torch.equal(rows.noise(), row_noise(row_generators(0, 0, range(4)), (3, 4)))


def test_base_pays_no_physical_penalty(bench, tiny) -> None:
    """At the base every take meets its own limits: a chain method's gradient is that of the reward alone."""
    guards = replace(tiny.no_guards, physical_weight=1.0)
    plain = bench(3, config=AlignConfig(guards=tiny.no_guards, noise_power=0.0, clip=1e12)).run(draft(3, 3))[0]
    guarded = bench(3, config=AlignConfig(guards=guards, noise_power=0.0, clip=1e12)).run(draft(3, 3))[0]
    for a, b in zip(plain, guarded, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_beyond_the_base_takes_limits_the_physical_term_is_part_of_the_loss(bench, tiny, close) -> None:
    """Fails where the term is computed and left out: DRaFT's gradient against reward less penalty by hand."""
    guards = replace(tiny.no_guards, physical_weight=0.7)
    b = bench(2, config=AlignConfig(guards=guards, noise_power=0.0, clip=1e12), lora_rank=2)
    with torch.no_grad():
        for p in b.policy.parameters:
            p += 0.3

    def take() -> torch.Tensor:
        x, schedule = b.x_T, b.schedule
        for i in range(2):
            x = schedule.previous(x, b.x0_hat(x, i), i)
        return b.model.decode(x, b.batch.lengths)

    with b.policy.base():
        limits = PhysicalTerm.of(take(), b.batch.lengths)
    (gradient,) = b.run(draft(2, 2))
    features = take()
    penalty = limits(features, b.batch.lengths)
    assert penalty.max() > 0.01
    reward = b.reward(features, b.batch.lengths, b.batch.text)
    close(gradient, b.gradient_of(-(reward - 0.7 * penalty).mean()))


def test_a_saturating_reward_is_what_is_trained_on(bench, tiny, close) -> None:
    """Fails where the ceiling is configured and the plain reward maximised; the log shows the plain one."""
    guards = replace(tiny.no_guards, saturation=0.1, saturation_sharpness=5.0)
    b = bench(1, config=AlignConfig(guards=guards, noise_power=0.0, clip=1e12))
    (gradient,) = b.run(easytune(1))
    reward = b.reward(b.model.decode(b.x0_hat(b.x_T, 0), b.batch.lengths), b.batch.lengths, b.batch.text)
    close(gradient, b.gradient_of(-saturate(reward, 0.1, 5.0).mean()))
    assert b.records[0].reward == pytest.approx(float(reward.mean().detach()))


def test_saturation_bends_at_the_ceiling() -> None:
    """Slope 1 far below, a half at, 0 far above: beyond the ceiling there is nothing to hack for."""
    reward = torch.tensor([-1.0, 0.8, 3.0], requires_grad=True)
    value = saturate(reward, 0.8, 20.0)
    (slope,) = torch.autograd.grad(value.sum(), reward)
    torch.testing.assert_close(slope, torch.tensor([1.0, 0.5, 0.0]))
    assert value.tolist() == pytest.approx([-1.0, 0.8 - np.log(2) / 20, 0.8])


def test_ensemble_trains_on_its_trained_members_only(tiny) -> None:
    batch = tiny.batch()
    features = tiny.Diffusion().decode(torch.ones(4, 3, 4).double(), batch.lengths)
    a, b, c = (tiny.Reward(seed=s) for s in (1, 2, 3))
    ensemble = EnsembleReward([a, b], watched=[c])
    members = ensemble.members(features, batch.lengths, batch.text)
    assert {name: tuple(value.shape) for name, value in members.items()} == dict.fromkeys(
        ("reward_0", "reward_1", "watched_0"), (4,)
    )
    mean = (members["reward_0"] + members["reward_1"]) / 2
    torch.testing.assert_close(ensemble(features, batch.lengths, batch.text), mean)


def test_stop_rules_name_what_broke() -> None:
    """Each limit trips by itself, NaN included, and a base-like policy passes."""
    base = {"diversity": 5.0, "skating": 0.2, "acceleration": 4.0, "distance": 0.0, "reward_0": 0.5, "reward_1": 0.5}
    fine = base | {"distance": 0.3, "reward_0": 0.6, "reward_1": 0.55}
    assert StopRules(GuardConfig(), base).check(fine) is None
    for name, value in {"diversity": 4.0, "skating": 0.3, "acceleration": 6.0, "distance": 1.5}.items():
        assert name in str(StopRules(GuardConfig(), base).check(fine | {name: value}))
        assert StopRules(GuardConfig(), base).check(fine | {name: float("nan")}) is not None
    rules, parting = StopRules(GuardConfig(alarm_patience=2), base), fine | {"reward_1": 0.4}
    assert rules.check(parting) is None and "part" in str(rules.check(parting))
    assert rules.check(fine) is None and rules.parted == 0
    assert "part" in str(rules.refuse(parting)) and rules.refuse(fine) is None and rules.parted == 0
    watching = StopRules(GuardConfig(alarm_patience=1), base | {"watched_0": 0.8})
    assert watching.check(fine | {"watched_0": 0.9, "reward_0": 0.4, "reward_1": 0.4}) is None, "nobody is pleased"
    assert "part" in str(watching.check(fine | {"watched_0": 0.7}))
    modest = StopRules(GuardConfig(max_reward_gain=0.2), base)
    assert modest.check(fine) is None and "risen by 0.3, which is enough" in str(modest.check(fine | {"reward_1": 0.8}))


def test_anchor_pulls_back_to_the_base(bench) -> None:
    """At the base the anchor has no gradient; away from it, it points home. Works for weights and for adapters."""
    guards = GuardConfig(anchor_weight=1.0, ema=0.0, monitor_every=0)
    config = AlignConfig(guards=guards, reward_weight=0.0, noise_power=0.0, clip=1e12)
    for rank in (0, 2):
        b = bench(2, config=config, lora_rank=rank)
        assert max(float(g.abs().max()) for g in b.run(easytune(2))[0]) == 0.0
        moved = bench(2, config=config, lora_rank=rank)
        with torch.no_grad():
            for p in moved.policy.parameters:
                p += 0.1
        gradient = moved.run(draft(2, 2))[0]
        step = sum(float((g * 0.1).sum()) for g in gradient)
        assert step > 0  # the loss grows along the move away


def test_adapters_start_as_the_base_and_merge_exactly() -> None:
    """The base while disabled, own names and same function after merging, fused attention included."""
    torch.manual_seed(0)
    module = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True).double()
    x = torch.randn(2, 5, 16).double()
    names, before = set(module.state_dict()), module(x).detach()
    assert "self_attn.in_proj_weight" in linear_weights(module)
    lora = Lora(module, rank=3, alpha=6.0)
    torch.testing.assert_close(module(x), before, rtol=1e-12, atol=1e-12)
    for p in lora.parameters():
        nn.init.normal_(p, std=0.2)
    moved = module(x).detach()
    assert (moved - before).abs().max() > 1e-2
    with lora.disabled():
        torch.testing.assert_close(module(x), before, rtol=1e-12, atol=1e-12)
    module(x).sum().backward()
    assert all(p.grad is not None for p in lora.parameters())
    assert {n for n, p in module.named_parameters() if p.requires_grad} and not module.norm1.weight.requires_grad
    lora.merge()
    assert set(module.state_dict()) == names
    torch.testing.assert_close(module(x), moved, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="LayerNorm has no linear weight"):
        Lora(nn.LayerNorm(4))
    with pytest.raises(ValueError, match="at least 1"):
        Lora(module, rank=0)


def test_branch_and_merged_weight_agree() -> None:
    """The two ways through an adapted Linear, with gradient and without, are one function with one gradient."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 5)).double()
    lora = Lora(module, rank=2)
    for p in lora.parameters():
        nn.init.normal_(p)
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    inputs = [x, *lora.parameters()]
    branch, merged = module(x), nn.functional.linear(x, module[0].weight, module[0].bias)
    weights = torch.randn_like(merged)
    torch.testing.assert_close(branch, merged, rtol=1e-12, atol=1e-12)
    ours, expected = (torch.autograd.grad((y * weights).sum(), inputs) for y in (branch, merged))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad(), lora.still():
        assert module[0].weight is module[0].weight
        torch.testing.assert_close(module(x), merged, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        lora.parameters()[0].add_(1.0)  # held weights must not outlive the block
        assert not torch.allclose(module(x), merged)
    lora.merge()
    assert type(module[0]) is nn.Linear


def test_average_follows_and_leaves_the_policy_alone(tiny) -> None:
    policy = Policy(tiny.Diffusion().denoiser, lora_rank=0)
    ema = Ema(policy.named, 0.9)
    before = policy.state_dict()
    with torch.no_grad():
        for p in policy.parameters:
            p += 1.0
    ema.update()
    with ema.applied():
        for name, value in policy.state_dict().items():
            torch.testing.assert_close(value, before[name] + 0.1)
    with policy.base():
        for name, value in policy.state_dict().items():
            torch.testing.assert_close(value, before[name])
    for name, value in policy.state_dict().items():
        torch.testing.assert_close(value, before[name] + 1.0)
    with pytest.raises(ValueError, match="does not fit"):
        policy.load_state_dict({"a": torch.zeros(1)})


def test_noise_belongs_to_its_row() -> None:
    """The same row gets the same noise in any micro-batch or process."""
    whole = row_noise(row_generators(1, 5, range(4)), (3, 4))
    assert torch.equal(whole[2:], row_noise(row_generators(1, 5, range(2, 4)), (3, 4)))
    with pytest.raises(ValueError, match="beyond"):
        row_generators(-1, 0, range(2))


def test_no_two_seeds_updates_or_rows_share_their_noise() -> None:
    """Prevents seeds that train on the same noise: PyTorch's generator reads the low 32 bits of what it is given."""
    triples = [(seed, update) for seed in (0, 1, 2, 91, 2**20 - 1) for update in (0, 1, 5, 255, 256, 2**16 - 1)]
    noise = torch.cat([row_noise(row_generators(seed, update, range(4)), (8,)) for seed, update in triples])
    assert len(torch.unique(noise, dim=0)) == 4 * len(triples)
    every = [row_generators(seed, update, range(8)) for seed in range(60) for update in range(100)]
    seeds = {generator.initial_seed() for generators in every for generator in generators}
    assert len(seeds) == 60 * 100 * 8 and max(seeds) < 2**32


def test_rows_of_nested_text() -> None:
    """Text features are dataclasses of tensors; settings inside them have no rows."""
    batch = {"tokens": torch.arange(6).view(3, 2), "captions": ["a", "b", "c"], "width": 2}
    part = take_rows(batch, slice(1, 3))
    assert part["tokens"].tolist() == [[2, 3], [4, 5]] and part["captions"] == ["b", "c"] and part["width"] == 2
    config = replace(GuardConfig(), ema=0.5)
    assert take_rows(config, slice(0, 1)) == config


def test_saved_bytes_counts_distinct_storages() -> None:
    """x * x saves x twice but keeps it once; parameters cost nothing extra."""
    x = torch.randn(1000, requires_grad=True)
    with saved_bytes() as saved:
        y = torch.exp(x * 2)  # exp keeps its result: 4000 bytes
        z = (y * y).sum()  # keeps y again
        assert saved.peak == saved.live == 4000
        z.backward()
    assert saved.live == 0 and np.isclose(saved.peak, 4000)


def test_saved_bytes_leaves_out_frozen_weights() -> None:
    """A Linear saves a view of its frozen weight: counted as activations, it would hide what methods differ in."""
    layer, x = nn.Linear(100, 10).requires_grad_(False), torch.randn(4, 100, requires_grad=True)
    for weights, expected in ((), 4000), (layer.parameters(), 0):
        with saved_bytes(weights) as saved:
            layer(x)
        assert saved.peak == expected


def test_settings_are_checked_at_the_start() -> None:
    for wrong in ({"method": "eztune"}, {"last_k": 99}, {"precision": "fp8"}, {"updates": 0}, {"micro_batch": 0}):
        with pytest.raises(ValueError):
            AlignConfig(**wrong)
    with pytest.raises(ValueError, match="ema"):
        GuardConfig(ema=1.0)
    with pytest.raises(ValueError, match="anchor_weight=-1.0 must be at least 0"):
        GuardConfig(anchor_weight=-1.0)
