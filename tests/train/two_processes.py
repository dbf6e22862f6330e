"""Two steps of a task whose loss goes past the model's `forward`; writes weights-RANK.pt into the folder given."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.train.loop import LoopConfig, Trainer


class Embedder(nn.Module):
    """A model with a method of its own, as the VAE, the reward and the judge have."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def embed(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Direct:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = Embedder()

    def batch(self, step: int, process: int, processes: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng((step, process)).normal(size=(8, 4)).astype(np.float32))

    def loss(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        embed = getattr(model, "module", model).embed
        return {"loss": (embed(batch) - batch[:, :2]).square().mean()}

    def validate(self, model: nn.Module) -> dict[str, float]:
        return {"nothing": 0.0}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, task = Path(sys.argv[1]), Direct()
    trainer = Trainer(task, LoopConfig(steps=2, warmup=1, precision="fp32", device="cpu"), folder, {})
    trainer.run()
    state = {"weights": task.model.state_dict(), "processes": trainer.accelerator.num_processes}
    torch.save(state, folder / f"weights-{trainer.accelerator.process_index}.pt")
