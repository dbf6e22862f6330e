"""The size of a published network, read from the shapes of its tensors; where a tensor is missing, the published size.

What shapes don't tell (attention heads, diffusion steps, the text encoder) comes as ImportOptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import mode
from typing import Any

from torch import nn

from core.models.mdm import MdmConfig
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


def check_text(model: nn.Module) -> None:
    """ValueError where the model's text encoder gives another sentence vector than its denoiser reads."""
    if not isinstance(model, MldDiffusion | MdmDiffusion):
        return
    name, config = model.config.text_encoder, model.config
    reads = config.denoiser.text_width if isinstance(config, MldConfig) else config.network.text_width
    gives = NAMED[name].pooled if name in NAMED else TextEncoder.width
    if reads != gives:
        raise ValueError(
            f"the denoiser reads texts of {reads} numbers, {name} gives {gives}. "
            "Give the text encoder it was trained with by --text-encoder."
        )


def _size(found: Mapping[str, Any], key: str, axis: int, published: int) -> int:
    shape = getattr(found.get(key), "shape", ())
    return int(shape[axis]) if len(shape) > axis else published


def _width(found: Mapping[str, Any], stack: str, published: int = 256) -> int:
    """Most tensors decide, so that a single wrong one is named and not all the others."""
    keys = (f"{stack}norm.weight", f"{stack}middle_block.norm1.weight", f"{stack}middle_block.linear2.bias")
    return mode(_size(found, key, 0, published) for key in keys)


def _transformer(found: Mapping[str, Any], stack: str, options: ImportOptions) -> TransformerConfig:
    """Of a skip transformer whose keys begin with `stack`."""
    pattern = re.compile(rf"{re.escape(stack)}input_blocks\.(\d+)\.")
    blocks = {int(match[1]) for key in found if (match := pattern.match(key))}
    return TransformerConfig(
        width=_width(found, stack),
        ff_width=_size(found, f"{stack}middle_block.linear1.bias", 0, 1024),
        layers=2 * len(blocks) + 1 if blocks or f"{stack}middle_block.norm1.weight" in found else 9,
        heads=options.heads,
    )


def _mld(found: Mapping[str, Any], options: ImportOptions, motionlcm: bool) -> MldDiffusion:
    vae_base = MOTIONLCM_VAE if motionlcm else MldVaeConfig()
    denoiser_base = MOTIONLCM_DENOISER if motionlcm else MldDenoiserConfig()
    stacks = {name: _transformer(found, f"{name}.encoder.", options) for name in ("vae", "denoiser")}
    there = [name for name in stacks if any(key.startswith(f"{name}.") for key in found)]
    vae_stack, denoiser_stack = (stacks[name if name in there or not there else there[0]] for name in stacks)
    projected = any(key.startswith(("vae.latent_pre.", "denoiser.latent_pre.")) for key in found) or motionlcm
    tokens = _size(found, "vae.global_motion_token", 0, 2 * vae_base.latent_tokens) // 2
    width = _size(found, "denoiser.latent_pre.weight", 1, vae_base.latent_width) if projected else vae_stack.width
    vae = replace(vae_base, latent_tokens=tokens, latent_width=width, transformer=vae_stack, project_latent=projected)
    denoiser = replace(
        denoiser_base,
        latent_tokens=tokens,
        latent_width=width if projected else denoiser_stack.width,
        transformer=denoiser_stack,
        project_latent=projected,
        text_width=_size(found, "denoiser.emb_proj.1.weight", 1, denoiser_base.text_width),
        time_width=_size(found, "denoiser.time_embedding.linear_1.weight", 1, denoiser_base.time_width),
        guidance_width=_size(found, "denoiser.time_embedding.cond_proj.weight", 1, 0),
    )
    return MldDiffusion(MldConfig(vae, denoiser, options.text_encoder or "sentence-t5-large"))


def _mdm(found: Mapping[str, Any], options: ImportOptions) -> MdmDiffusion:
    blocks = {key.split(".")[2] for key in found if key.startswith("seqTransEncoder.layers.")}
    first = "seqTransEncoder.layers.0."
    network = MdmConfig(
        width=mode(_size(found, f"{first}{key}", 0, 512) for key in ("norm1.weight", "norm2.weight", "linear2.bias")),
        ff_width=_size(found, f"{first}linear1.bias", 0, 1024),
        layers=len(blocks) or 8,
        heads=options.heads,
        text_width=_size(found, "embed_text.weight", 1, 512),
        positions=_size(found, "sequence_pos_encoder.pe", 0, 5000),
        mask_frames=options.mask_frames,
    )
    encoder = options.text_encoder or "clip-vit-base-patch32"
    return MdmDiffusion(MdmDiffusionConfig(network, options.timesteps, encoder))


def _spm(found: Mapping[str, Any], options: ImportOptions) -> SpmReward:
    return SpmReward(
        SpmConfig(
            latent_tokens=_size(found, "global_motion_token", 0, 1),
            transformer=_transformer(found, "motion_encoder.", options),
            text_width=_size(found, "text_embedding.weight", 1, 1024),
        )
    )


def _t2m(found: Mapping[str, Any]) -> T2mJudge:
    features = _size(found, "movement_encoder.main.0.weight", 1, 259) + CONTACTS
    return T2mJudge(
        T2mEvaluatorConfig(
            features=features if features in (251, 263) else 263,  # KIT-ML or HumanML3D
            movement_width=_size(found, "movement_encoder.out_net.bias", 0, 512),
            motion_width=_size(found, "motion_encoder.input_emb.bias", 0, 1024),
            text_width=_size(found, "text_encoder.input_emb.bias", 0, 512),
            embedding_width=_size(found, "motion_encoder.output_net.3.bias", 0, 512),
            word_width=_size(found, "text_encoder.pos_emb.bias", 0, 300),
            pos_width=_size(found, "text_encoder.pos_emb.weight", 1, 15),
        )
    )
