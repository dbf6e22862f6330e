"""What a reward sees in stored motions, kept on disk: a motion is embedded once, not at every refinement.

One file for each reward, records of fixed size end to end: the motion's name (32 bytes) and its vector (K + E float32).
They are only appended; a record cut short by a kill is dropped at the next append.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.models.reward import RewardModel
from core.preference.descriptors import DESCRIPTORS, N_DESCRIPTORS

FORMAT = 1  # raise it when a descriptor is computed in another way


class VectorFile:
    """Motion vectors of one reward model in `folder`. One writer at a time."""

    def __init__(self, folder: Path, base: RewardModel) -> None:
        """Nothing is written yet."""
        digest = hashlib.sha256(repr((FORMAT, DESCRIPTORS)).encode())
        for value in base.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        self.path = folder / f"{digest.hexdigest()[:16]}.bin"
        self._record = np.dtype([("name", "V32"), ("vector", "<f4", (N_DESCRIPTORS + base.config.embedding,))])

    def read(self) -> dict[str, Tensor]:
        """Name of a motion -> vector (K + E,), on the CPU."""
        if not self.path.exists():
            return {}
        data = self.path.read_bytes()
        rows = np.frombuffer(data, self._record, len(data) // self._record.itemsize)
        names = rows["name"].tobytes().hex()
        vectors = torch.from_numpy(rows["vector"].copy())
        return {names[64 * i : 64 * i + 64]: vector for i, vector in enumerate(vectors)}

    def append(self, names: Sequence[str], vectors: Tensor) -> None:
        """Add motions (64 hex digits each) with their vectors (N, K + E)."""
        rows = np.zeros(len(names), self._record)
        rows["name"] = np.frombuffer(bytes.fromhex("".join(names)), "V32")
        rows["vector"] = vectors.cpu().numpy()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(file.tell() // self._record.itemsize * self._record.itemsize)
            file.write(rows.tobytes())
