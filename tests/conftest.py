"""Fixtures shared by the tests of the engine, the page and the browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in app.py; read when torch is first imported


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models of the real classes, a few thousand weights, as checkpoint folders: bodies that tremble."""
    import torch

    from core.body.smpl_files import load_body
    from core.models.checkpoint import save_adapters, save_checkpoint
    from core.models.denoiser import Denoiser, DenoiserConfig
    from core.models.vae import MotionVae, VaeConfig
    from core.motion.features import extract_features
    from core.motion.skeleton import N_JOINTS

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoints")
    vae = MotionVae(VaeConfig(latent_dim=4, width=16, hidden=16, blocks=1, refine_width=8))
    denoiser = Denoiser(DenoiserConfig(latent_dim=4, width=16, layers=1, heads=2))
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # so that text and noise reach the output
    standing = np.tile(load_body().joints[:N_JOINTS] + [0.0, 1.0, 0.0], (2, 1, 1))
    at_rest = np.tile(np.eye(3), (2, N_JOINTS, 1, 1))
    vae.feature_mean.copy_(torch.from_numpy(extract_features(standing, at_rest)[0]))
    vae.feature_std.fill_(0.05)
    save_checkpoint(folder / "vae", vae, {})
    save_checkpoint(folder / "base", denoiser, {})
    matrices = {
        name: weight for name, weight in denoiser.named_parameters() if name.endswith("weight") and weight.ndim == 2
    }
    adapters = {f"{name}.a": torch.randn(1, weight.shape[1]) for name, weight in matrices.items()}
    adapters |= {f"{name}.b": torch.randn(weight.shape[0], 1) for name, weight in matrices.items()}
    save_adapters(folder / "aligned", adapters, 0.02, {})
    return folder


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """tests/node with its npm packages; skips, saying why, where there is no npm or no registry."""
    folder = Path(__file__).resolve().parent / "node"
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    with FileLock(folder / "node_modules.lock"):  # several processes may run the tests
        if not all((folder / "node_modules" / name).is_dir() for name in ("three", "gltf-validator", "axe-core")):
            made = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"npm could not fetch the packages: {made.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.fixture(scope="session")
def live_checkpoints(tiny_checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny_checkpoints with a tiny reward."""
    import torch

    from core.models.checkpoint import save_checkpoint
    from core.models.reward import RewardConfig, RewardModel

    folder = tmp_path_factory.mktemp("live") / "checkpoints"
    shutil.copytree(tiny_checkpoints, folder)
    torch.manual_seed(1)
    reward = RewardModel(RewardConfig(width=16, heads=2, motion_layers=1, text_layers=1, embedding=8))
    save_checkpoint(folder / "reward-spl", reward, {})
    return folder
