"""Several processes or GPUs under `accelerate launch`: each takes its rows of a batch, gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process among `count`. reduce averages a tensor over all of them; None where there is one."""

    rank: int = 0
    count: int = 1
    reduce: Callable[[Tensor], Tensor] | None = None

    def rows(self, batch: int) -> range:
        """Rows of a batch for this process; ValueError if they cannot be shared out evenly."""
        if batch % self.count:
            raise ValueError(f"batch={batch} is not divisible by {self.count} processes. Choose a multiple.")
        size = batch // self.count
        return range(self.rank * size, (self.rank + 1) * size)


def current_processes() -> Processes:
    """What the launcher's environment says; a plain `python` is one process and needs no Accelerate."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    from accelerate import PartialState
    from accelerate.utils import reduce

    state = PartialState()
    return Processes(state.process_index, state.num_processes, lambda tensor: cast(Tensor, reduce(tensor, "mean")))
