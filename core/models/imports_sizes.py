"""The size of a published network, read from the shapes of its tensors.

Several tensors show each size, and most of them decide, so that a single wrong one is named and not all the others; the
published size counts as one of them. What is fixed in a published class (SPM's 1024 numbers a word) isn't read. What
shapes don't tell (attention heads, diffusion steps, the text encoder) comes as ImportOptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import mode
from typing import Any

from torch import nn

from core.models.mdm import MAX_POSITIONS, MdmConfig
from core.models.mdm_diffusion import MdmDiffusion, MdmDiffusionConfig
from core.models.mld.denoiser import MOTIONLCM_DENOISER, MldDenoiserConfig
from core.models.mld.diffusion import MldConfig, MldDiffusion
from core.models.mld.layers import TransformerConfig
from core.models.mld.reward import SpmReward
from core.models.mld.spm import SpmConfig
from core.models.mld.vae import MOTIONLCM_VAE, MldVaeConfig
from core.models.tm2t import CONTACTS, T2mEvaluatorConfig, T2mJudge
from core.text.encoder import ENCODERS, TextEncoder
from core.text.named import NAMED

GUIDANCE_WIDTH = 256  # of MotionLCM's guidance sinusoid
_LATENT_WIDTH = {
    "denoiser.latent_pre.weight": 1,
    "denoiser.latent_post.weight": 0,
    "denoiser.latent_post.bias": 0,
    "vae.latent_pre.weight": 0,
    "vae.latent_pre.bias": 0,
    "vae.latent_post.weight": 1,
}
_MLD_TEXT_WIDTH = {
    "denoiser.emb_proj.1.weight": 1,
    "denoiser.time_embedding.linear_1.weight": 1,
    "denoiser.time_embedding.cond_proj.weight": 0,
}


@dataclass(frozen=True)
class ImportOptions:
    """What the shapes don't tell."""

    heads: int = 4  # attention heads, 4 in all published models
    timesteps: int = 1000  # MDM's training steps; 50 for the models named ..._50steps
    mask_frames: bool = False  # MDM models of 2024 on (--mask_frames in their args.json)
    text_encoder: str | None = None  # None: that of the published model, see core.text.encoder

    def __post_init__(self) -> None:
        for name in ("heads", "timesteps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is too small. At least 1 is needed.")
        if self.text_encoder not in (None, *ENCODERS, *NAMED):
            raise ValueError(
                f"text_encoder={self.text_encoder!r} is unknown. Choose one of {', '.join((*ENCODERS, *NAMED))}."
            )


def build_model(kind: str, found: Mapping[str, Any], options: ImportOptions) -> nn.Module:
    """An untrained module of the size of these tensors: MldDiffusion, MdmDiffusion, SpmReward or T2mJudge.

    Raises ValueError where the sizes can't belong together, such as a width that the heads don't divide.
    """
    if kind in ("mld", "motionlcm"):
        return _mld(found, options, motionlcm=kind == "motionlcm")
    if kind == "mdm":
        return _mdm(found, options)
    return _spm(found, options) if kind == "spm" else _t2m(found)


def check_text(model: nn.Module, file: str) -> None:
    """ValueError naming file and key where the model's text encoder gives another vector than its denoiser reads."""
    if not isinstance(model, MldDiffusion | MdmDiffusion):
        return
    name, config = model.config.text_encoder, model.config
    mld = isinstance(config, MldConfig)
    key, reads = ("emb_proj.1", config.denoiser.text_width) if mld else ("embed_text", config.network.text_width)
    gives = NAMED[name].pooled if name in NAMED else TextEncoder.width
    if reads != gives:
        raise ValueError(
            f"{file}: {key}.weight reads texts of {reads} numbers, {name} gives {gives}. "
            "Give the text encoder it was trained with by --text-encoder."
        )


def _vote(found: Mapping[str, Any], shown_by: Mapping[str, int], *published: int) -> int:
    """The size that most tensors show; shown_by: key -> axis. On a tie the first tensor that is there decides."""
    shapes = {key: getattr(found.get(key), "shape", ()) for key in shown_by}
    sizes = [int(shapes[key][axis]) for key, axis in shown_by.items() if len(shapes[key]) > axis]
    return mode([size for size in sizes if size > 0] + list(published))


def _transformer(found: Mapping[str, Any], stack: str, options: ImportOptions) -> TransformerConfig:
    """Of a skip transformer whose keys begin with `stack`."""
    middle, base = f"{stack}middle_block.", TransformerConfig()
    width = {f"{stack}norm.weight": 0, f"{middle}norm1.weight": 0, f"{middle}linear2.bias": 0}
    return TransformerConfig(
        width=_vote(found, width, base.width),
        ff_width=_vote(found, _feed_forward(middle), base.ff_width),
        layers=_layers(found, stack) if any(key.startswith(stack) for key in found) else base.layers,
        heads=options.heads,
    )


def _feed_forward(layer: str) -> dict[str, int]:
    """Key -> axis of what shows the hidden width of one layer's feed-forward block."""
    return {f"{layer}linear1.bias": 0, f"{layer}linear1.weight": 0, f"{layer}linear2.weight": 1}


def _layers(found: Mapping[str, Any], stack: str) -> int:
    """Two blocks for every pair and the middle one; the three lists of blocks decide as tensors do."""
    patterns = [re.compile(rf"{re.escape(stack)}{name}_blocks\.(\d+)\.") for name in ("input", "output", "linear")]
    return 2 * mode(len({match[1] for key in found if (match := pattern.match(key))}) for pattern in patterns) + 1


def _mld(found: Mapping[str, Any], options: ImportOptions, motionlcm: bool) -> MldDiffusion:
    vae_base = MOTIONLCM_VAE if motionlcm else MldVaeConfig()
    denoiser_base = MOTIONLCM_DENOISER if motionlcm else MldDenoiserConfig()
    stacks = {name: _transformer(found, f"{name}.encoder.", options) for name in ("vae", "denoiser")}
    there = [name for name in stacks if any(key.startswith(f"{name}.") for key in found)]
    vae_stack, denoiser_stack = (stacks[name if name in there or not there else there[0]] for name in stacks)
    projected = any(key.startswith(("vae.latent_pre.", "denoiser.latent_pre.")) for key in found) or motionlcm
    rows = _vote(found, {"vae.global_motion_token": 0}, 2 * vae_base.latent_tokens)  # means, log-variances
    latent = {"latent_tokens": max(1, rows // 2), "project_latent": projected}
    width = _vote(found, _LATENT_WIDTH, vae_base.latent_width)
    vae = replace(vae_base, transformer=vae_stack, latent_width=width if projected else vae_stack.width, **latent)
    text_width = _vote(found, _MLD_TEXT_WIDTH, denoiser_base.text_width)
    denoiser = replace(
        denoiser_base,
        transformer=denoiser_stack,
        latent_width=width if projected else denoiser_stack.width,
        text_width=text_width,
        time_width=text_width,  # one number in the published class
        guidance_width=GUIDANCE_WIDTH if "denoiser.time_embedding.cond_proj.weight" in found else 0,
        **latent,
    )
    return MldDiffusion(MldConfig(vae, denoiser, options.text_encoder or "sentence-t5-large"))


def _mdm(found: Mapping[str, Any], options: ImportOptions) -> MdmDiffusion:
    blocks = {key.split(".")[2] for key in found if key.startswith("seqTransEncoder.layers.")}
    first, base = "seqTransEncoder.layers.0.", MdmConfig()
    width = {f"{first}{key}": 0 for key in ("norm1.weight", "norm2.weight", "linear2.bias")}
    tables = {"sequence_pos_encoder.pe": 0, "embed_timestep.sequence_pos_encoder.pe": 0}
    network = MdmConfig(
        width=_vote(found, width, base.width),
        ff_width=_vote(found, _feed_forward(first), base.ff_width),
        layers=len(blocks) or base.layers,
        heads=options.heads,
        text_width=_vote(found, {"embed_text.weight": 1}, base.text_width),
        positions=_vote(found, tables, MAX_POSITIONS, options.timesteps),  # or cut to what the steps need
        mask_frames=options.mask_frames,
    )
    encoder = options.text_encoder or "clip-vit-base-patch32"
    return MdmDiffusion(MdmDiffusionConfig(network, options.timesteps, encoder))


def _spm(found: Mapping[str, Any], options: ImportOptions) -> SpmReward:
    tokens = _vote(found, {"global_motion_token": 0, "global_text_token": 0}, SpmConfig.latent_tokens)
    transformer, encoder = _transformer(found, "motion_encoder.", options), options.text_encoder
    return SpmReward(
        SpmConfig(latent_tokens=tokens, transformer=transformer, text_encoder=encoder or SpmConfig.text_encoder)
    )


def _t2m(found: Mapping[str, Any]) -> T2mJudge:
    base = T2mEvaluatorConfig()
    features = _vote(found, {"movement_encoder.main.0.weight": 1}, base.features - CONTACTS) + CONTACTS
    convolutions = {f"movement_encoder.{name}.bias": 0 for name in ("main.0", "main.3", "out_net")}
    embedding = {f"{of}_encoder.output_net.3.{part}": 0 for of in ("motion", "text") for part in ("weight", "bias")}
    return T2mJudge(
        T2mEvaluatorConfig(
            features=features if features in (251, 263) else base.features,  # KIT-ML or HumanML3D
            movement_width=_vote(found, convolutions, base.movement_width),
            motion_width=_vote(found, _gru("motion_encoder."), base.motion_width),
            text_width=_vote(found, _gru("text_encoder."), base.text_width),
            embedding_width=_vote(found, embedding, base.embedding_width),
        )
    )


def _gru(encoder: str) -> dict[str, int]:
    """Key -> axis of what shows the hidden width of one recurrent encoder."""
    return {f"{encoder}{name}": 0 for name in ("input_emb.bias", "output_net.0.bias", "output_net.1.weight")}
