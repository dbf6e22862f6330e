"""MDM as a base model: it learns, samples, and every alignment method trains it; so does published MLD."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import AlignBatch
from core.align.plans import METHODS
from core.align.run import align
from core.data.dataset import MotionSet
from core.diffusion.ddim import from_diffusers
from core.diffusion.rollout import SamplerConfig, make_scheduler, sample_latents
from core.models.checkpoint import load_diffusion, save_adapters, save_checkpoint
from core.models.mdm import MdmConfig
from core.models.mdm_diffusion import MdmDiffusion, MdmDiffusionConfig
from core.models.mld.denoiser import MldDenoiserConfig
from core.models.mld.diffusion import MldConfig, MldDiffusion
from core.models.mld.layers import TransformerConfig
from core.models.mld.reward import SpmReward
from core.models.mld.spm import SpmConfig
from core.models.mld.vae import MldVaeConfig
from core.text.features import CaptionCache, TextFeatures
from core.train.mdm_task import MdmTask, without_text
from core.train.tasks import CaptionTable

WIDTH, SENTENCE = 12, 10  # of a token, of the sentence vector
TINY = TransformerConfig(width=16, ff_width=16, layers=1, heads=2)
SPM = SpmConfig(transformer=TransformerConfig(width=256, ff_width=16, layers=1, heads=2), text_width=WIDTH)
GUARDS = GuardConfig(monitor_every=1, max_skating_gain=99, max_acceleration_gain=99, max_distance=1e9)
CONFIG = AlignConfig(steps=3, last_k=2, updates=1, batch=2, lora_rank=2, lr=1e-3, micro_batch=1, guards=GUARDS)
LENGTHS = torch.tensor([44, 40])


def text(rows: int, tokens: int = 5) -> TextFeatures:
    g = torch.Generator().manual_seed(rows)
    mask = torch.arange(tokens) < torch.tensor([tokens, 3, 2])[:rows, None]
    words = torch.randn(rows, tokens, WIDTH, generator=g) * mask[..., None]
    return TextFeatures(words, mask, torch.randn(rows, SENTENCE, generator=g))


def mdm(text_tokens: bool = False, **changes) -> MdmDiffusion:
    torch.manual_seed(0)
    network = MdmConfig(
        width=16, ff_width=16, layers=1, heads=2, text_width=SENTENCE, mask_frames=True, text_tokens=text_tokens
    )
    config = MdmDiffusionConfig(replace(network, **changes), text_encoder="minilm")
    return MdmDiffusion(config).eval().requires_grad_(False)


def mld() -> MldDiffusion:
    torch.manual_seed(0)
    vae = MldVaeConfig(latent_width=16, transformer=TINY)
    denoiser = MldDenoiserConfig(latent_width=16, transformer=TINY, text_width=SENTENCE, time_width=16)
    model = MldDiffusion(MldConfig(vae, denoiser)).eval().requires_grad_(False)
    model.null = text(1)
    return model


def spm() -> SpmReward:
    torch.manual_seed(1)
    return SpmReward(SPM).eval().requires_grad_(False)


@pytest.mark.parametrize("make", [mdm, mld])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_aligns_it(make, method, tmp_path):
    """Prevents a method that assumes our own latents, schedule or text; the policy must move and stay finite."""
    model = make()
    before = {k: v.clone() for k, v in model.denoiser.state_dict().items()}
    eta = 1.0 if method == "easytune-sde" else 0.0
    schedule = from_diffusers(make_scheduler(SamplerConfig(steps=3), model.schedule), eta)
    batch, config = AlignBatch(text(2), LENGTHS), replace(CONFIG, method=method, eta=eta)
    if eta and isinstance(model, MldDiffusion):
        with pytest.raises(ValueError, match="noise-aware mode reads motions of 263 features, x_t has 16: a latent"):
            align(model, spm(), schedule, lambda update: batch, config, tmp_path)
        return
    result = align(model, spm(), schedule, lambda update: batch, config, tmp_path, batch)
    after = model.denoiser.state_dict()
    assert result.updates == 1 and all(np.isfinite(value) for value in result.monitors.values())
    assert max(float((after[k] - before[k]).abs().max()) for k in before) > 1e-7
    assert all(torch.isfinite(v).all() for v in after.values())


@pytest.mark.parametrize("mask_frames", [True, False])
def test_words_reach_the_motion_and_padding_does_not(mask_frames: bool):
    """Prevents a text that is read only by its sentence vector, and a motion that changes with its company."""
    model, x_t = mdm(text_tokens=True, text_width=WIDTH, mask_frames=mask_frames), torch.randn(2, 44, 263)
    words = replace(text(2), pooled=torch.zeros(2, WIDTH))
    other = replace(words, tokens=words.tokens.flip(2))
    first = model.predict_x0(x_t, 500, words, 1.0, LENGTHS)
    assert not torch.allclose(first, model.predict_x0(x_t, 500, other, 1.0, LENGTHS))
    hidden = replace(words, tokens=words.tokens + 9.0 * ~words.mask[..., None])
    torch.testing.assert_close(model.predict_x0(x_t, 500, hidden, 1.0, LENGTHS), first)
    alone = model.predict_x0(x_t[1:, :40], 500, words.select([1]), 1.0, LENGTHS[1:])
    torch.testing.assert_close(alone[0], first[1, :40], atol=1e-5, rtol=1e-4)
    assert not first[1, 40:].any() and first[0].any(), "frames that are no motion count in no anchor and no distance"


def test_dropped_text_is_what_guidance_calls_unconditional():
    """Prevents guidance away from a text the network has never seen in training."""
    model, x_t = mdm(text_tokens=True, text_width=WIDTH), torch.randn(2, 44, 263)
    words = replace(text(2), pooled=torch.ones(2, WIDTH))
    dropped = model.estimate(x_t, torch.tensor(9), without_text(words, torch.tensor([True, True])), LENGTHS)
    torch.testing.assert_close(dropped, model.denoiser(x_t, torch.tensor(9), None, LENGTHS), atol=1e-5, rtol=1e-4)


def test_fewer_noise_levels_than_steps_is_named():
    model = mdm()
    model.schedule = model.schedule | {"num_train_timesteps": 50}
    with pytest.raises(ValueError, match="steps=60 is outside 1-50, this model's noise levels"):
        sample_latents(model, text(2), LENGTHS, [0, 1], SamplerConfig(steps=60))


def test_text_of_another_encoder_is_named():
    """Prevents a matrix error where weights for CLIP are given MiniLM's text."""
    with pytest.raises(ValueError, match="text has 12 numbers, this MDM knows 10"):
        mdm().predict_x0(torch.randn(2, 44, 263), 5, replace(text(2), pooled=torch.zeros(2, 12)), 1.0, LENGTHS)


def toy_set(n: int) -> tuple[MotionSet, CaptionTable]:
    """Two kinds of motion, told apart by their captions."""
    rng = np.random.default_rng(n)
    parts = [np.full((40 + i, 263), i % 2) + 0.1 * rng.normal(size=(40 + i, 263)) for i in range(n)]
    captions = tuple((("walk", "bow")[i % 2],) for i in range(n))
    starts = np.cumsum([0] + [len(p) for p in parts])
    names = tuple(row[0] for row in captions)
    tokens = torch.tensor([[1.0] * WIDTH, [-1.0] * WIDTH]).half()
    cache = CaptionCache(["walk", "bow"], tokens, torch.tensor([0, 1, 2]), tokens.float())
    motions = MotionSet(np.concatenate(parts).astype(np.float32), starts, captions, names, names)
    return motions, CaptionTable(motions, cache)


def test_it_learns_what_the_text_says():
    """Prevents a loss over padding, a target at the wrong noise level, and text that is lost on the way."""
    torch.manual_seed(0)
    network = MdmConfig(width=32, ff_width=32, layers=1, heads=2, text_width=WIDTH, mask_frames=True, text_tokens=True)
    model = MdmDiffusion(MdmDiffusionConfig(network))
    task = MdmTask(model, toy_set(12), toy_set(6), size=8, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.no_grad():
        before = task.validate(model)["loss"]
    for step in range(120):
        optimizer.zero_grad()
        task.loss(model, task.batch(step, 0, 1))["loss"].backward()
        optimizer.step()
    words, lengths = toy_set(2)[1].draw(np.arange(2), np.random.default_rng(0)), torch.tensor([40, 40])
    with torch.no_grad():
        assert task.validate(model.eval())["loss"] < 0.5 * before
        made = model.decode(sample_latents(model, words, lengths, [1, 2], SamplerConfig(8, 1.0)), lengths)
    assert made[0].mean() < 0.4 and made[1].mean() > 0.6  # "walk" motions are 0, "bow" motions 1
    assert torch.equal(task.batch(3, 0, 1).clean, task.batch(3, 0, 1).clean)


def test_position_tables_are_not_stored(tmp_path):
    """Prevents checkpoints twice as large as their weights, and a table that comes back rounded."""
    from safetensors import safe_open

    model = mdm()
    save_checkpoint(tmp_path / "mine", model, {})
    with safe_open(tmp_path / "mine" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if name.endswith(".pe")]  # noqa: SIM118
    loaded = load_diffusion(tmp_path, "cpu", "mine")
    for name, table in model.state_dict().items():
        if name.endswith(".pe"):
            assert torch.equal(loaded.state_dict()[name], table)


@pytest.mark.parametrize("make", [mdm, mld])
def test_aligned_versions_remember_their_base(make, tmp_path):
    """Prevents adapters of one base from being applied to another, and a version that can't be loaded again."""
    model = make()
    model.config = replace(model.config, text_encoder="minilm")
    save_checkpoint(tmp_path / "mine", model, {}, exact=True)
    name = next(n for n, p in model.denoiser.named_parameters() if p.dim() == 2)
    weight = model.denoiser.get_parameter(name)
    a, b = torch.ones(1, weight.shape[1]), torch.ones(weight.shape[0], 1)
    save_adapters(tmp_path / "aligned", {f"{name}.a": a, f"{name}.b": b}, 0.5, {}, base="mine")
    loaded = load_diffusion(tmp_path, version="aligned")
    torch.testing.assert_close(loaded.denoiser.get_parameter(name), weight + 0.5)
    save_checkpoint(tmp_path / "whole", loaded.denoiser, {"from": "mine"}, exact=True)
    again = load_diffusion(tmp_path, version="whole")
    assert type(again) is type(model) and torch.equal(again.denoiser.get_parameter(name), weight + 0.5)
