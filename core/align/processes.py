"""Several processes under `accelerate launch` or `torchrun`: each takes its rows, gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process among `count`. reduce averages a tensor over all of them; None where there is one.

    device: the one that the launcher gave to this process, None where the choice is free.
    """

    rank: int = 0
    count: int = 1
    reduce: Callable[[Tensor], Tensor] | None = None
    device: str | None = None

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def rows(self, batch: int, together: int = 1) -> range:
        """Rows of a batch for this process; ValueError if they cannot be shared out evenly, `together` at a time."""
        unit = self.count * together
        if batch % unit:
            raise ValueError(
                f"batch={batch} can't be shared out to {self.count} processes, {together} rows at a time. "
                f"Choose a multiple of {unit}."
            )
        size = batch // self.count
        return range(self.rank * size, (self.rank + 1) * size)


def current_processes(device: str = "auto") -> Processes:
    """What the launcher's environment says; a plain `python` is one process and needs no Accelerate.

    device: "cpu" keeps all processes off the accelerators.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    from accelerate import PartialState
    from accelerate.utils import reduce

    state = PartialState(cpu=device == "cpu")
    return Processes(
        state.process_index,
        state.num_processes,
        lambda tensor: cast(Tensor, reduce(tensor, "mean")),
        str(state.device).replace("cpu:0", "cpu"),
    )


def leave_together() -> None:
    """Wait for the other processes and close what joins them; nothing to do for one alone.

    A process that ends first takes the launcher's others with it, the one that still writes files among them.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        PartialState().destroy_process_group()
