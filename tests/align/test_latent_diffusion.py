"""Every method on the project's own model and reward classes, at toy size: shapes, masks and text rows fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import AlignBatch
from core.align.guards import EnsembleReward
from core.align.plans import METHODS
from core.align.run import align
from core.diffusion.ddim import from_diffusers
from core.diffusion.rollout import SamplerConfig, make_scheduler
from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.latent import LatentDiffusion
from core.models.reward import RewardConfig, RewardModel
from core.models.vae import MotionVae, VaeConfig
from core.text.encoder import TextFeatures

WIDTH = 12  # of a text token
GUARDS = GuardConfig(monitor_every=1, max_skating_gain=99, max_acceleration_gain=99, max_distance=1e9)
CONFIG = AlignConfig(steps=3, last_k=2, updates=2, batch=3, lora_rank=2, lr=1e-3, micro_batch=2, guards=GUARDS)


def text(rows: int, tokens: int, seed: int) -> TextFeatures:
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(tokens) < torch.tensor([tokens, 2, 3])[:rows, None].clamp(max=tokens)
    values = torch.randn(rows, tokens, WIDTH, generator=g) * mask[..., None]
    return TextFeatures(values, mask, torch.nn.functional.normalize(values.sum(1), dim=-1))


def models() -> tuple[LatentDiffusion, EnsembleReward]:
    torch.manual_seed(0)
    vae = MotionVae(VaeConfig(latent_dim=4, width=16, hidden=16, blocks=1, refine_width=8))
    denoiser = Denoiser(DenoiserConfig(latent_dim=4, text_dim=WIDTH, width=20, layers=1, heads=2))
    torch.nn.init.normal_(denoiser.output.weight, std=0.1)
    rewards = [
        RewardModel(RewardConfig(text_dim=WIDTH, width=16, heads=2, motion_layers=1, text_layers=1, embedding=8))
        for _ in range(2)
    ]
    model = LatentDiffusion(vae, denoiser, text(1, 2, 9))
    for module in (model, *rewards):
        module.eval().requires_grad_(False)
    return model, EnsembleReward(rewards)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "easytune-sde"])
def test_every_method_trains_the_latent_model(tmp_path, method) -> None:
    """Fails where a method meets a mask, dtype, text row or schedule end that the tiny test model does not have."""
    model, reward = models()
    before = {k: v.clone() for k, v in model.denoiser.state_dict().items()}
    schedule = from_diffusers(make_scheduler(SamplerConfig(steps=3)))
    batch = AlignBatch(text(3, 5, 1), torch.tensor([44, 40, 41]))
    config = replace(CONFIG, method=method)
    result = align(model, reward, schedule, lambda update: batch, config, tmp_path, batch)
    after = model.denoiser.state_dict()
    assert after.keys() == before.keys() and result.updates == 2 and {"reward_0", "reward_1"} <= set(result.monitors)
    moved = max(float((after[k] - before[k]).abs().max()) for k in before)
    assert 1e-6 < moved < 1.0 and all(torch.isfinite(v).all() for v in after.values())


def test_bfloat16_moves_the_weights_about_where_float32_does(tmp_path) -> None:
    """Fails where the setting is ignored, or half of the digits are lost in what must stay float32."""
    moves = {}
    for precision in ("float32", "bfloat16"):
        model, reward = models()
        before = {k: v.clone() for k, v in model.denoiser.state_dict().items()}
        batch = AlignBatch(text(3, 5, 1), torch.tensor([44, 40, 41]))
        config = replace(CONFIG, precision=precision, guards=GuardConfig(anchor_weight=0.1, monitor_every=0))
        schedule = from_diffusers(make_scheduler(SamplerConfig(steps=3)))
        align(model, reward, schedule, lambda update, batch=batch: batch, config, tmp_path / precision)
        after = model.denoiser.state_dict()
        moves[precision] = torch.cat([(after[k] - before[k]).flatten() for k in before])
        assert all(v.dtype == torch.float32 and torch.isfinite(v).all() for v in after.values())
    a, b = moves["float32"], moves["bfloat16"]
    assert not torch.equal(a, b) and torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.8


def test_noise_aware_mode_needs_a_noise_aware_reward(tmp_path) -> None:
    """The SDE mode with an ordinary reward must say so instead of rewarding noise."""
    model, reward = models()
    batch = AlignBatch(text(3, 5, 1), torch.tensor([44, 40, 41]))
    schedule = from_diffusers(make_scheduler(SamplerConfig(steps=3)), eta=1.0)
    with pytest.raises(ValueError, match="noised"):
        align(model, reward, schedule, lambda u: batch, replace(CONFIG, method="easytune-sde", eta=1.0), tmp_path)
