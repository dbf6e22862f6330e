"""The loop against the published EasyTune method, run unedited on small published-architecture modules in float64.

Fixture easytune_step: 50 guided steps without updates, every x_t, x0_hat, reward and gradient norm, some gradients.
Fixture easytune_updates: AdamW really stepping on the last 5 or all 50 steps, trajectory and update in one model.
The published code takes roots of alpha_bar and the time's sinusoid in float32 even for float64 latents, and 50 Adam
steps at lr 1e-3 blow their last bit up from 1e-8 to 1e-2. PyTorch's float32 sqrt, exp, cos and sin hang on the CPU in
that bit; here they are rounded to the nearest, which the fixtures are nearer to than any CPU's own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import AlignBatch, Finetuner, row_generators
from core.align.guards import Objective
from core.align.plans import easytune
from core.align.policy import Policy
from core.diffusion.ddim import DdimSchedule, from_table
from core.models.mld import layers
from core.models.mld.denoiser import MldDenoiser, MldDenoiserConfig
from core.models.mld.layers import TransformerConfig, frame_mask
from core.models.mld.spm import Spm, SpmConfig
from core.models.mld.vae import MldVae, MldVaeConfig

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = TransformerConfig(width=64, ff_width=128, layers=3, heads=4)
GUARDS = GuardConfig(anchor_weight=0.0, ema=0.0, monitor_every=0)
STEPS = 50


def open_fixture(name: str):
    return np.load(FIXTURES / f"{name}.npz")


def published(module: torch.nn.Module, name: str) -> torch.nn.Module:
    data = open_fixture(name)
    weights = {k[2:]: torch.from_numpy(data[k]).double() for k in data.files if k.startswith("w/")}
    module.double().load_state_dict(weights, strict=True)
    return module.eval().requires_grad_(False)


class Float32Roots(DdimSchedule):
    """DDIM whose coefficients are rounded to float32, as in diffusers."""

    def roots(self, step: int) -> tuple[float, float]:
        """(sqrt(alpha_bar), sqrt(1 - alpha_bar)) before step `step`."""
        alpha_bar = np.float32(self.alpha_bars[step])
        return float(np.sqrt(alpha_bar)), float(np.sqrt(1 - alpha_bar))

    def previous(self, x_t, x0_hat, step, noise=None, stride=1):
        (alpha, sigma), (alpha_prev, sigma_prev) = self.roots(step), self.roots(step + 1)
        return alpha_prev * x0_hat + sigma_prev * (x_t - alpha * x0_hat) / sigma


def rounded_sinusoid(t: torch.Tensor, width: int) -> torch.Tensor:
    """time_sinusoid of the published layers, each float32 step of it rounded to the nearest."""
    half = width // 2
    exponents = -np.log(10000.0) * torch.arange(half, dtype=torch.float32) / half
    angles = (t[:, None].float() * exponents.double().exp().float()).double()
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float()


@pytest.fixture(autouse=True)
def no_bit_of_this_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "time_sinusoid", rounded_sinusoid)


class PublishedMld:
    """Protocol MotionDiffusion over the published modules; text holds cond and uncond (B, 1, 768)."""

    def __init__(self, schedule: Float32Roots) -> None:
        self.denoiser = published(
            MldDenoiser(MldDenoiserConfig(latent_width=64, transformer=SMALL)), "mld_denoiser_small"
        )
        self.vae = published(MldVae(MldVaeConfig(latent_width=64, transformer=SMALL)), "mld_vae_small")
        self.schedule = schedule
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def predict_x0(self, x_t, t, text, guidance_scale, lengths):
        time, (alpha, sigma) = torch.tensor(t), self.schedule.roots(self.schedule.timesteps.index(t))
        free, bound = (self.denoiser(x_t, time, text[k]) for k in ("uncond", "cond"))
        eps = free + guidance_scale * (bound - free)
        x0_hat = (x_t - sigma * eps) / alpha
        self.seen.append((x_t.detach(), x0_hat.detach()))
        return x0_hat

    def decode(self, x0, lengths):
        return self.vae.decode(x0, lengths)

    def latent_shape(self, lengths):
        return 1, 64


class PublishedReward:
    def __init__(self) -> None:
        self.spm = published(Spm(SpmConfig(transformer=SMALL)), "spm_small")
        self.rewards: list[np.ndarray] = []

    def __call__(self, features, lengths, text):
        mask = frame_mask(text["token_lengths"], text["tokens"].shape[1])
        reward = self.spm(features, lengths, text["tokens"], mask)
        self.rewards.append(reward.detach().numpy())
        return reward


class Run:
    """One trajectory of a fixture case; gradients and their norms by update."""

    def __init__(self, case: str, last_k: int, lr: float, clip: float) -> None:
        ddim, data = open_fixture("ddim"), open_fixture("easytune_step")
        table = from_table(ddim["alphas_cumprod"], ddim["timesteps"], float(ddim["final_alpha_cumprod"]))
        schedule = Float32Roots(table.timesteps, table.alpha_bars)
        self.model, self.reward = PublishedMld(schedule), PublishedReward()
        policy = Policy(self.model.denoiser, lora_rank=0)
        self.named, self.gradients = policy.named, []
        self.before = policy.state_dict()
        optimizer = torch.optim.AdamW(policy.parameters, lr=lr, weight_decay=0.0)
        optimizer.register_step_pre_hook(
            lambda *_: self.gradients.append({n: p.grad.clone() for n, p in self.named.items()})
        )
        config = AlignConfig(
            steps=STEPS, last_k=last_k, guidance_scale=7.5, clip=clip, noise_power=0.0, guards=GUARDS, lora_rank=0
        )
        finetuner = Finetuner(self.model, Objective(self.reward, GUARDS), schedule, policy, optimizer, config)
        text = {k: torch.from_numpy(data[f"{case}/{k}"]).double() for k in ("cond", "uncond", "tokens")}
        text["token_lengths"] = torch.from_numpy(data[f"{case}/token_lengths"])
        batch = AlignBatch(text, torch.from_numpy(data[f"{case}/motion_lengths"]))
        x_T = torch.from_numpy(data[f"{case}/x_T"]).double()
        generators = row_generators(0, 0, range(len(batch)))
        self.records = finetuner.run(easytune(STEPS, last_k), x_T, batch, generators)


ROUNDING = 5e-6  # share of a gradient; the last bit of what was float32 in the fixture. A wrong one is off by 1e-2


@pytest.mark.parametrize("case", ["official_b1", "reenact_b3"])
def test_trajectory_rewards_and_gradients(case: str) -> None:
    """Fails on another x0, guidance, decoding, reward or a gradient that reaches beyond its own step."""
    data, run = open_fixture("easytune_step"), Run(case, STEPS, lr=0.0, clip=1e12)
    x = np.stack([x_t.numpy() for x_t, _ in run.model.seen])
    x0 = np.stack([x0_hat.numpy() for _, x0_hat in run.model.seen])
    np.testing.assert_allclose(x, data[f"{case}/x.f64"][:-1], atol=1e-5)
    np.testing.assert_allclose(x0, data[f"{case}/x0.f64"], atol=1e-5)
    rewards = np.stack(run.reward.rewards).reshape(data[f"{case}/reward.f64"].shape)
    np.testing.assert_allclose(rewards, data[f"{case}/reward.f64"], atol=1e-8)
    norms = [record.grad_norm for record in run.records]
    np.testing.assert_allclose(norms, data[f"{case}/gnorm.f64"], rtol=ROUNDING)
    for step in (0, 25, 49):
        by_name = [float(run.gradients[step][str(n)].norm()) for n in data["param_names"]]
        expected = data[f"{case}/grad_norm_by_param_step{step}.f64"]
        np.testing.assert_allclose(by_name, expected, rtol=ROUNDING, atol=ROUNDING * expected.max())
    stored = [key for key in data.files if key.startswith(f"{case}/grad_step") and key.endswith(".f64")]
    for key in stored:
        step, name = key.removesuffix(".f64").split("/")[1].removeprefix("grad_step"), key.split("/", 2)[2]
        ours = run.gradients[int(step)][name.removesuffix(".f64")].numpy()
        np.testing.assert_allclose(ours, data[key], rtol=ROUNDING, atol=ROUNDING * np.abs(data[key]).max())
    assert case != "official_b1" or stored


@pytest.mark.parametrize(("last_k", "rel"), [(5, 1e-5), (50, 1e-3)])
def test_updates_in_place(last_k: int, rel: float) -> None:
    """Fails when the trajectory does not see its own updates, on another optimiser order or clipping.

    `rel` is the fixture's own tolerance: Adam amplifies rounding, most where it divides by gradients that are nearly
    zero, as in the last five of 50 updates, whose norms are left out.
    """
    data = open_fixture("easytune_updates")
    run, case = Run("official_b1", last_k, float(data["lr"]), float(data["max_grad_norm"])), f"inplace_k{last_k}"
    rewards = np.array([record.reward for record in run.records])
    np.testing.assert_allclose(rewards[:40], data[f"{case}/reward"][:40], rtol=1e-6)
    np.testing.assert_allclose(rewards, data[f"{case}/reward"], rtol=rel)
    clipped = [float(torch.stack([g.norm() for g in gradients.values()]).norm()) for gradients in run.gradients[:45]]
    np.testing.assert_allclose(clipped, data[f"{case}/grad_norm_after_clip"][:45], rtol=rel)
    after = {name: p.detach() for name, p in run.named.items()}
    names = [str(n) for n in data["param_names"]]
    moved = np.array([float((after[n] - run.before[n]).norm()) for n in names])
    np.testing.assert_allclose(moved, data[f"{case}/delta_norm_by_param"], rtol=rel)
    sums, expected = np.array([float(after[n].sum()) for n in names]), data[f"{case}/param_sum_after"]
    assert (np.abs(sums - expected) / moved).max() < 10 * rel
    for name in ("emb_proj.1.bias", "encoder.middle_block.norm1.weight"):
        way = float((after[name] - run.before[name]).norm())
        np.testing.assert_allclose(after[name], data[f"{case}/after/{name}"], rtol=0, atol=rel * way)
