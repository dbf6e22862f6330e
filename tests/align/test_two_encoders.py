"""A model and a reward that read different text encoders: each gets the captions as it understands them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from core.align.config import AlignConfig, GuardConfig
from core.align.finetune import AlignBatch
from core.align.run import align
from core.commands import align as command
from core.data.motion_set import MotionSet
from core.diffusion.ddim import from_diffusers
from core.diffusion.rollout import SamplerConfig, make_scheduler
from core.engine import Engine
from core.learning.prompts import PromptBatches
from core.learning.prompts import held_out_batch as live_held_out_batch
from core.models.mdm import MdmConfig
from core.models.mdm_diffusion import MdmDiffusion, MdmDiffusionConfig
from core.models.mld.layers import TransformerConfig
from core.models.mld.reward import SpmReward
from core.models.mld.spm import SpmConfig
from core.models.reward import RewardConfig, RewardModel
from core.request import Request
from core.settings import Settings
from core.text.encoder import TextEncoder, reward_encoder
from core.text.features import TextFeatures

WIDE, NARROW = 10, 6
WATCHED = GuardConfig(monitor_every=1, max_skating_gain=99, max_acceleration_gain=99, max_distance=1e9)
ALIGN = AlignConfig(steps=3, last_k=1, updates=2, batch=4, lora_rank=2, lr=1e-3, micro_batch=2, guards=WATCHED)
CPU = torch.device("cpu")


class FakeEncoder(TextEncoder):
    """Every caption becomes noise of its own, of this width."""

    def __init__(self, name: str, width: int) -> None:
        self.name, self.width = name, width

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        tokens = torch.stack(
            [torch.randn(3, self.width, generator=torch.Generator().manual_seed(sum(map(ord, c)))) for c in prompts]
        )
        return TextFeatures(tokens, torch.ones(len(prompts), 3, dtype=torch.bool), tokens.mean(1))


MODEL_ENCODER, REWARD_ENCODER = FakeEncoder("clip", WIDE), FakeEncoder("t5", NARROW)


def motions() -> MotionSet:
    rng = np.random.default_rng(0)
    captions = tuple((f"a person walks {i} steps",) for i in range(12))
    names = tuple(row[0] for row in captions)
    return MotionSet(
        0.1 * rng.normal(size=(480, 263)).astype(np.float32), np.arange(0, 481, 40), captions, names, names
    )


def mdm() -> MdmDiffusion:
    torch.manual_seed(0)
    network = MdmConfig(width=16, ff_width=16, layers=1, heads=2, text_width=WIDE, mask_frames=True)
    return MdmDiffusion(MdmDiffusionConfig(network)).eval().requires_grad_(False)


def spm() -> SpmReward:
    torch.manual_seed(1)
    transformer = TransformerConfig(width=256, ff_width=16, layers=1, heads=2)
    return SpmReward(SpmConfig(transformer=transformer, text_width=NARROW)).eval().requires_grad_(False)


def minilm_like() -> RewardModel:
    torch.manual_seed(2)
    config = RewardConfig(text_dim=NARROW, width=16, heads=2, motion_layers=1, text_layers=1, embedding=8)
    return RewardModel(config).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "changes", "guards"),
    [
        (spm, {}, {"realism_weight": 1.0}),
        (minilm_like, {}, {"realism_weight": 1.0}),
        (spm, {"method": "easytune-sde", "eta": 1.0}, {}),
    ],
    ids=["spm", "minilm", "noised"],
)
def test_a_model_is_aligned_on_a_reward_of_another_encoder(make, changes, guards, tmp_path) -> None:
    """Prevents a matrix error, or the wrong text, in the reward, its realism term, its noised mode and the monitors."""
    config = replace(ALIGN, **changes, guards=replace(WATCHED, **guards))
    model, reward, data = mdm(), make(), motions()
    before = {k: v.clone() for k, v in model.denoiser.state_dict().items()}
    schedule = from_diffusers(make_scheduler(SamplerConfig(steps=3), model.schedule), config.eta)
    batches = command.prompt_batches(data, MODEL_ENCODER, config, CPU, reward, REWARD_ENCODER)
    held_out = command.held_out_batch(data, MODEL_ENCODER, 4, CPU, REWARD_ENCODER)
    result = align(model, reward, schedule, batches, config, tmp_path, held_out)
    assert result.updates == 2 and all(np.isfinite(value) for value in result.monitors.values())
    after = model.denoiser.state_dict()
    assert max(float((after[k] - before[k]).abs().max()) for k in before) > 1e-7


def same_captions(batch: AlignBatch | None) -> None:
    """Both texts are of the same captions, row by row."""
    assert batch is not None and batch.text.tokens.shape[-1] == WIDE and batch.reward_text.tokens.shape[-1] == NARROW
    assert len(batch.text) == len(batch.reward_text) == len(batch)
    seen = {
        tuple(wide.tolist()): tuple(narrow.tolist())
        for wide, narrow in zip(batch.text.pooled, batch.reward_text.pooled, strict=True)
    }
    assert len(set(seen.values())) == len(seen) > 1


def test_both_texts_are_of_the_same_prompts() -> None:
    """Prevents rows of one encoder beside rows of other prompts: repeated, selected and sorted alike."""
    paired = replace(ALIGN, guards=replace(WATCHED, realism_weight=1.0))
    reward = spm()
    same_captions(command.prompt_batches(motions(), MODEL_ENCODER, paired, CPU, reward, REWARD_ENCODER)(3))
    same_captions(command.prompt_batches(motions(), MODEL_ENCODER, ALIGN, CPU, reward, REWARD_ENCODER)(3))
    prompts = ["a person walks", "a person runs forward and then waves", "a person bows"]
    live = PromptBatches(prompts, MODEL_ENCODER, 4, 0, "cpu", REWARD_ENCODER)
    same_captions(live(2))
    same_captions(live_held_out_batch(4, prompts, MODEL_ENCODER, "cpu", REWARD_ENCODER))


def test_one_encoder_is_asked_once_and_another_is_found_by_its_name() -> None:
    assert reward_encoder(MODEL_ENCODER, "clip") is None
    other = reward_encoder(MODEL_ENCODER, spm().reads)
    assert other is not None and other.name == "sentence-t5-large"
    assert RewardModel.reads == "minilm"


def test_a_take_names_the_encoder_of_its_model(tmp_path) -> None:
    """Prevents votes whose record says that a published model has read MiniLM's features."""
    models: Any = SimpleNamespace(diffusion={"mdm": SimpleNamespace(text_encoder=MODEL_ENCODER), "base": object()})
    models.weights_sha256, models.device = {"mdm": "0", "base": "1"}, "cpu"
    models.text_encoder = SimpleNamespace(name="minilm")
    engine, features = Engine(Settings(data_dir=tmp_path)), np.zeros((40, 263), np.float32)
    named = [
        engine._take(models, name, 1, features, Request("a person walks")).text_encoder for name in ("mdm", "base")
    ]
    assert named == ["clip", "minilm"]


@pytest.mark.parametrize("make", [spm, minilm_like])
def test_text_of_another_width_is_one_sentence(make) -> None:
    """Prevents a matrix error that names neither the reward nor the encoder."""
    with pytest.raises(ValueError, match=f"text tokens have {WIDE} numbers, this reward knows {NARROW}. Encode its"):
        make().embed_text(MODEL_ENCODER.encode(["a person walks"]))


def test_the_embeddings_of_the_spm_give_its_reward() -> None:
    """The realism term takes the reward as a dot product of embeddings: it must be the published cosine."""
    reward, text = spm(), REWARD_ENCODER.encode(["a person walks", "a person bows"])
    reward.feature_mean.fill_(0.3)
    features, lengths = torch.randn(2, 44, 263), torch.tensor([44, 40])
    published = reward.spm((features - 0.3) / reward.feature_std, lengths, text.tokens, text.mask)
    torch.testing.assert_close(reward(features, lengths, text), published)
    motion, words = reward.embed_motion(features, lengths), reward.embed_text(text)
    torch.testing.assert_close((motion * words).sum(-1), published)
    torch.testing.assert_close(motion.norm(dim=-1), torch.ones(2))
