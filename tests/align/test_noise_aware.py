"""Noise-aware mode: x_t of a noisy chain, a reward that knows noised motions, and what goes with neither."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.align.config import AlignConfig, GuardConfig
from core.align.guards import EnsembleReward
from core.align.monitor import HeldOut
from core.align.run import align

GUARDS = GuardConfig(
    anchor_weight=0.01, ema=0.5, monitor_every=4, max_acceleration_gain=99, max_skating_gain=99, max_distance=99
)
SDE = AlignConfig("easytune-sde", steps=4, last_k=2, updates=12, batch=4, lr=3e-3, lora_rank=2, eta=1.0, guards=GUARDS)


def test_noisy_steps_are_monitored_with_noise(tiny, tmp_path) -> None:
    """Prevents monitors that fail for eta above 0, or look at another sampler than the one that is trained."""
    model, batch = tiny.Diffusion(), tiny.batch(4)
    schedule = replace(tiny.schedule(4), eta=1.0)
    held_out = HeldOut(model, tiny.Reward(), schedule, batch, 1.0, 0)
    assert torch.equal(held_out.sample(), held_out.sample())
    assert not torch.allclose(held_out.sample(), replace(held_out, schedule=tiny.schedule(4)).sample())
    result = align(model, tiny.Reward(), schedule, lambda i: batch, SDE, tmp_path, held_out=batch)
    assert result.updates == 12 and result.monitors["distance"] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eta": 0.0}, "eta=0.0: easytune-sde rewards noised motions.* Set --eta 1, or choose method easytune"),
        ({"eta": 1.5}, r"eta=1.5 is outside \[0, 1\]"),
        ({"guards": GuardConfig(physical_weight=0.1)}, "^physical_weight=0.1: .* Set --physical-weight 0"),
        (
            {"eta": 0.0, "guards": GuardConfig(realism_weight=1.0)},
            "^eta=0.0, realism_weight=1.0: .* Set --eta 1 --realism-weight 0",
        ),
    ],
)
def test_noise_aware_mode_says_what_it_needs(changes, said) -> None:
    """Prevents guards that are silently left out, and an SDE mode without noise."""
    with pytest.raises(ValueError, match=said):
        replace(SDE, **changes)


def test_only_a_noise_aware_reward_is_taken_for_noised_motions(tiny, tmp_path) -> None:
    """Prevents a run that fails after its first trajectory; an ensemble may watch what knows clean ones only."""
    schedule = replace(tiny.schedule(4), eta=1.0)

    def clean_only(features, lengths, text):
        return tiny.Reward()(features, lengths, text)

    for reward in (clean_only, EnsembleReward([tiny.Reward(), clean_only])):
        with pytest.raises(ValueError, match="function does not score noised motions, which easytune-sde needs"):
            align(tiny.Diffusion(), reward, schedule, tiny.batch, SDE, tmp_path)
    two = EnsembleReward([tiny.Reward(), tiny.Reward(seed=5)], [clean_only])
    held_out, batch = tiny.batch(8, seed=7), tiny.batch(4)
    result = align(tiny.Diffusion(), two, schedule, lambda i: batch, SDE, tmp_path, held_out)
    assert result.updates == 12 and {"reward_0", "reward_1", "watched_0"} <= result.monitors.keys()
    x, lengths, text = torch.randn(4, *tiny.Diffusion().latent_shape(batch.lengths)).double(), batch.lengths, batch.text
    parts = [member.noised(x, 7, lengths, text) for member in two.trained]
    torch.testing.assert_close(two.noised(x, 7, lengths, text), (parts[0] + parts[1]) / 2)
