"""Checkpoints on disk: a folder with model.safetensors, config.json and card.md; loaded strictly, never unpickled.

    checkpoints/vae  checkpoints/base  checkpoints/aligned  checkpoints/reward  checkpoints/judge
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.models.denoiser import Denoiser, DenoiserConfig
from core.models.judge import Judge, JudgeConfig
from core.models.reward import RewardConfig, RewardModel
from core.models.vae import MotionVae, VaeConfig
from core.motion.files import atomic_write

log = logging.getLogger(__name__)

ARCHITECTURES: dict[str, tuple[type[nn.Module], type]] = {
    "MotionVae": (MotionVae, VaeConfig),
    "Denoiser": (Denoiser, DenoiserConfig),
    "RewardModel": (RewardModel, RewardConfig),
    "Judge": (Judge, JudgeConfig),
}
MAKE_COMMANDS = {
    "vae": "python -m core train vae",
    "base": "python -m core train base",
    "aligned": "python -m core align --method easytune",
    "reward": "python -m core train reward",
    "judge": "python -m core train judge",
}


def save_checkpoint(folder: Path, module: nn.Module, meta: dict[str, Any]) -> None:
    """Weights as float16 (float32 where float16 would overflow) and config.json with the architecture and `meta`."""
    from safetensors.torch import save

    config = getattr(module, "config")
    tensors = {name: _shrink(value) for name, value in module.state_dict().items()}
    described = {"architecture": type(module).__name__, "config": asdict(config), **meta}
    atomic_write(folder / "model.safetensors", lambda file: file.write(save(tensors)))
    atomic_write(folder / "config.json", lambda file: file.write(json.dumps(described, indent=2).encode()))


def _shrink(value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    fits = value.is_floating_point() and bool((value.abs() < 6e4).all()) and value.dim() > 1
    return value.half() if fits else value


def load_module(folder: Path, device: str | torch.device = "cpu") -> nn.Module:
    """The frozen module of a checkpoint folder, float32, in eval mode.

    Raises FileNotFoundError naming the missing file and the command that makes it; ValueError naming a damaged or
    mismatched one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    command = MAKE_COMMANDS.get(folder.name, "python -m core train")
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing. Make it with `{command}`, or fetch the repository again.")
    try:
        described = json.loads((folder / "config.json").read_text())
        architecture, config_type = ARCHITECTURES[described["architecture"]]
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in described["config"].items()}
        module = architecture(config_type(**values))
        tensors = load_file(folder / "model.safetensors")
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, strict=True)
    except (SafetensorError, json.JSONDecodeError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder} is damaged or of another version ({reason}). Make it again with `{command}`.") from error
    return module.eval().requires_grad_(False).to(device)
