"""Checkpoints on disk: a folder with model.safetensors, config.json and card.md; loaded strictly, never unpickled.

checkpoints/vae  checkpoints/base  checkpoints/aligned  checkpoints/reward  checkpoints/judge
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from torch import nn

from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.judge import Judge, JudgeConfig
from core.models.latent import LatentDiffusion
from core.models.latent_reward import LatentReward, LatentRewardConfig
from core.models.layers import store_by_column
from core.models.lineage import aligned_from, lineage
from core.models.mdm import Mdm, MdmConfig, SinusoidTable
from core.models.mdm_diffusion import MdmDiffusion, MdmDiffusionConfig
from core.models.mld.denoiser import MldDenoiser, MldDenoiserConfig
from core.models.mld.diffusion import MldConfig, MldDiffusion
from core.models.mld.reward import SpmReward
from core.models.mld.spm import SpmConfig
from core.models.reward import RewardConfig, RewardModel
from core.models.tm2t import T2mEvaluatorConfig, T2mJudge
from core.models.vae import MotionVae, VaeConfig
from core.motion.files import atomic_write
from core.text.encoder import load_text_encoder

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)
ARCHITECTURES: dict[str, tuple[type[nn.Module], type]] = {
    "MotionVae": (MotionVae, VaeConfig),
    "Denoiser": (Denoiser, DenoiserConfig),
    "RewardModel": (RewardModel, RewardConfig),
    "LatentReward": (LatentReward, LatentRewardConfig),
    "Judge": (Judge, JudgeConfig),
    "MldDiffusion": (MldDiffusion, MldConfig),
    "MldDenoiser": (MldDenoiser, MldDenoiserConfig),
    "MdmDiffusion": (MdmDiffusion, MdmDiffusionConfig),
    "Mdm": (Mdm, MdmConfig),
    "SpmReward": (SpmReward, SpmConfig),
    "T2mJudge": (T2mJudge, T2mEvaluatorConfig),
}
WholeModel = MldDiffusion | MdmDiffusion  # models that are one folder, not a denoiser beside a VAE
DiffusionModel = LatentDiffusion | WholeModel
MAKE_COMMANDS = {
    "vae": "python -m core train vae",
    "base": "python -m core train base",
    "aligned": "python -m core align",  # one alignment; the shipped one is a mean of several, which its card tells of
    "reward": "python -m core train reward",
    "reward-b": "python -m core train reward --name reward-b --loop.seed 21",
    "reward-spl": "python -m core refine",
    "reward-noised": "python -m core train latent-reward",
    "judge": "python -m core train judge",
    "mdm": "python -m core train mdm",
}


def save_checkpoint(folder: Path, module: nn.Module, meta: dict[str, Any], exact: bool = False) -> None:
    """Weights as float16 (vectors and huge values as float32) and config.json with the architecture and `meta`.

    Position tables are computed, not stored. exact: everything as it is, for files that others have published.
    """
    described = {"architecture": type(module).__name__, "config": asdict(module.config), **meta}  # type: ignore[arg-type]
    parts = module.named_modules(remove_duplicate=False)
    computed = set() if exact else {f"{name}.pe" for name, part in parts if isinstance(part, SinusoidTable)}
    _write(folder, {k: v for k, v in module.state_dict().items() if k not in computed}, described, exact)


def _write(folder: Path, tensors: dict[str, torch.Tensor], described: dict[str, Any], exact: bool = False) -> None:
    from safetensors.torch import save

    copies = {k: v.detach().cpu().contiguous().clone() if exact else _shrink(v) for k, v in tensors.items()}
    packed = save(copies)
    atomic_write(folder / "model.safetensors", lambda file: file.write(packed))
    atomic_write(folder / "config.json", lambda file: file.write(json.dumps(described, indent=2, default=str).encode()))


def _shrink(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    fits = value.is_floating_point() and bool((value.abs() < 6e4).all()) and value.dim() > 1
    return value.half() if fits else value


def _command(folder: Path) -> str:
    return MAKE_COMMANDS.get(folder.name, "python -m core train")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(config.json, tensors) of a checkpoint folder; raises as load_module does."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_there(folder, "config.json", "model.safetensors")
    try:
        described = json.loads((folder / "config.json").read_text())
        if not isinstance(described, dict):
            raise ValueError("config.json holds no settings")
        return described, load_file(folder / "model.safetensors")
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{folder} is damaged ({_reason(error)}). Make it again with `{_command(folder)}`.") from error


def _check_there(folder: Path, *names: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing. Make it with `{_command(folder)}`, or fetch the repository again."
            )


def _reason(error: Exception) -> str:
    """The first two lines of an error as one, at most 160 characters: load_state_dict names the keys in the second."""
    return " ".join(line.strip() for line in str(error).splitlines()[:2])[:160]


def load_module(
    folder: Path,
    device: str | torch.device = "cpu",
    kinds: Mapping[str, tuple[type[nn.Module], type]] = ARCHITECTURES,
) -> nn.Module:
    """The frozen module of a checkpoint folder, float32, in eval mode; kinds: architectures that it may be.

    A reward of latents comes with the VAE beside it.
    Raises FileNotFoundError naming the missing file and the command that makes it; ValueError naming a damaged or
    mismatched one.
    """
    described, tensors = _read(folder)
    try:
        architecture, config_type = kinds[described["architecture"]]
        module = architecture(_configure(config_type, described["config"]))
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, strict=True)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{folder} is of another version ({_reason(error)}). Make it again with `{_command(folder)}`."
        ) from error
    if isinstance(module, LatentReward):
        module.attach(_vae_of(module, folder))
    return module.eval().requires_grad_(False).to(device)


def _vae_of(reward: LatentReward, folder: Path) -> MotionVae:
    """The VAE beside a reward of latents; ValueError where it learnt the latents of another one."""
    vae = load_vae(folder.parent)
    if reward.config.vae != fingerprint(folder.parent / "vae"):
        raise ValueError(
            f"{folder} knows the latents of another VAE than {folder.parent / 'vae'}. Make it again with "
            "`python -m core train latent-reward`."
        )
    return vae


def _configure(config_type: type, values: dict[str, Any]) -> Any:
    """A configuration, and those inside it, from what asdict made of it; lists were tuples."""
    kinds = get_type_hints(config_type)
    given = {
        k: _configure(kinds[k], v) if is_dataclass(kinds.get(k)) else tuple(v) if isinstance(v, list) else v
        for k, v in values.items()
    }
    return config_type(**given)


def load_vae(checkpoints: Path, device: str | torch.device = "cpu") -> MotionVae:
    """checkpoints/vae, frozen."""
    return _expect(load_module(checkpoints / "vae", device), MotionVae, checkpoints / "vae")


def load_reward(checkpoints: Path, device: str | torch.device = "cpu", name: str = "reward") -> RewardModel:
    """checkpoints/<name>, frozen."""
    return _expect(load_module(checkpoints / name, device), RewardModel, checkpoints / name)


def load_judge(checkpoints: Path, device: str | torch.device = "cpu") -> Judge:
    """checkpoints/judge, frozen."""
    return _expect(load_module(checkpoints / "judge", device), Judge, checkpoints / "judge")


def load_diffusion(checkpoints: Path, device: str | torch.device = "cpu", version: str = "base") -> DiffusionModel:
    """The model checkpoints/<version>: a whole one (MDM, MLD), or checkpoints/vae with a denoiser.

    An aligned version is a denoiser or adapters, on the folder it was aligned from.
    Raises FileNotFoundError or ValueError as load_module does.
    """
    folder = checkpoints / version
    described = _read(folder)[0]
    lineage(checkpoints, version)  # ValueError where it goes round
    base = aligned_from(described) or "base"
    if described.get("architecture") == "LowRank":
        model = load_diffusion(checkpoints, device, base)
        apply_adapters(model.denoiser, folder)
        return model
    module = load_module(folder, device)
    if isinstance(module, WholeModel):
        if module.config.text_encoder != "minilm":
            module.text_encoder = load_text_encoder(module.config.text_encoder, device)
        return module
    if isinstance(module, MldDenoiser | Mdm):
        model = load_diffusion(checkpoints, device, base)
        model.denoiser.load_state_dict(_expect(module, type(model.denoiser), folder).state_dict())
        return model
    denoiser = _expect(module, Denoiser, folder)
    model = LatentDiffusion(load_vae(checkpoints, device), denoiser, load_text_encoder().encode([""]))
    store_by_column(model)
    return model


def _expect(module: nn.Module, kind: type[Module], folder: Path) -> Module:
    if not isinstance(module, kind):
        raise ValueError(f"{folder} holds a {type(module).__name__}, expected is a {kind.__name__}.")
    return module


def save_adapters(
    folder: Path,
    adapters: dict[str, torch.Tensor],
    scale: float,
    meta: dict[str, Any],
    base: str = "base",
    checkpoints: Path | None = None,
) -> None:
    """Low-rank adapters of a denoiser and their scale: tensors "<weight>.a" (rank, in) and "<weight>.b" (out, rank).

    They belong to the denoiser of the folder `base` in `checkpoints` (beside theirs if not given), whose fingerprint
    they carry.
    """
    config = {"scale": scale, "base": fingerprint((checkpoints or folder.parent) / base), "from": base}
    _write(folder, adapters, {"architecture": "LowRank", "config": config, **meta})


def read_adapters(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(config.json, tensors) of a folder that save_adapters wrote.

    Raises FileNotFoundError or ValueError as load_module does, ValueError too where it holds no adapters.
    """
    described, tensors = _read(folder)
    if described.get("architecture") != "LowRank":
        raise ValueError(f"{folder} holds no low-rank adapters. Align with --lora-rank above 0.")
    return described, tensors


def averaged(folder: Path) -> tuple[str, ...]:
    """Names of the alignments whose mean a checkpoint folder holds; none where it is something else or not there."""
    path = folder / "config.json"
    return tuple(json.loads(path.read_text()).get("averaged", ())) if path.is_file() else ()


def fingerprint(folder: Path) -> str:
    """First 16 hex digits of the sha256 of a checkpoint's weights file, and of the scale where it holds adapters.

    FileNotFoundError, as load_module's, where it is missing.
    """
    _check_there(folder, "model.safetensors")
    digest, path = hashlib.sha256((folder / "model.safetensors").read_bytes()), folder / "config.json"
    described = json.loads(path.read_text()) if path.is_file() else {}
    if described.get("architecture") == "LowRank":
        digest.update(repr(described.get("config", {}).get("scale")).encode())
    return digest.hexdigest()[:16]


@torch.no_grad()
def apply_adapters(denoiser: nn.Module, folder: Path, checkpoints: Path | None = None) -> None:
    """Add the adapters of a checkpoint folder to the denoiser's weights: W + scale B A.

    checkpoints: where the folder of their base is, beside theirs if not given.
    Raises FileNotFoundError or ValueError as load_module does.
    """
    described, tensors = _read(folder)
    try:
        scale = float(described["config"]["scale"])
        base = (checkpoints or folder.parent) / described["config"].get("from", "base")
        if described["config"]["base"] != fingerprint(base):
            raise ValueError("it was aligned from another base")
        add_adapters(denoiser, tensors, scale)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{folder} does not fit the base model ({_reason(error)}). Make it again with `{_command(folder)}`."
        ) from error


@torch.no_grad()
def add_adapters(denoiser: nn.Module, tensors: Mapping[str, torch.Tensor], scale: float) -> None:
    """W + scale B A for every "<weight>.a" (rank, in) and "<weight>.b" (out, rank); KeyError for unknown weights."""
    weights = dict(denoiser.named_parameters())
    for name in {key.removesuffix(".a").removesuffix(".b") for key in tensors}:
        b, a = tensors[f"{name}.b"].float(), tensors[f"{name}.a"].float()
        weights[name].add_(scale * (b @ a).to(weights[name].device))
