"""A training run that can be killed: `python interrupted.py FOLDER KILL_AT`; KILL_AT 0 trains to the end.

Dropout and the VAE-like noise of the loss draw from PyTorch's generator, so that resuming has to restore it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.train.loop import LoopConfig, Trainer

CONFIG = LoopConfig(
    steps=40, batch_size=8, learning_rate=1e-2, warmup=5, ema=0.9, precision="fp32", device="cpu",
    log_every=5, save_every=10, validate_every=20,
)  # fmt: skip


class Toy:
    """Regression with noise on the inputs."""

    def __init__(self, width: int = 16) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.2), nn.GELU(), nn.Linear(width, 2))
        self.poisoned_step = -1

    def batch(self, step: int, process: int, processes: int) -> Tensor:
        x = torch.from_numpy(np.random.default_rng((step, process)).normal(size=(8, 4)).astype(np.float32))
        return x * float("nan") if step == self.poisoned_step else x

    def loss(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        error = (model(batch + 0.1 * torch.randn_like(batch)) - batch[:, :2]).square().mean()
        return {"loss": error, "half": error / 2}

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {"error": float((model(torch.ones(1, 4)) - 1.0).square().mean())}


def train(folder: Path, kill_at: int = 0) -> nn.Module:
    def callback(step: int, total: int, values: dict[str, float]) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return Trainer(Toy(), CONFIG, folder, {"LoopConfig": {}}).run(callback)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), int(sys.argv[2]))
