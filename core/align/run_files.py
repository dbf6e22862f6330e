"""The folder of one alignment run: config.json, state.pt (all that resuming needs), metrics.jsonl, policies."""

from __future__ import annotations

import json
import logging
import math
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from core.align.config import AlignConfig
from core.motion.files import atomic_write
from core.train.run_record import differences, plain, refuse_other_run

logger = logging.getLogger(__name__)

MAY_CHANGE = ("updates", "save_every", "keep_every", "guards.monitor_every")  # a finished run may be prolonged


class RunFolder:
    """Opens or continues a run. Raises ValueError where the folder holds a run of other settings or models."""

    def __init__(
        self,
        path: str | Path,
        config: AlignConfig,
        made_from: Mapping[str, Any] | None = None,
        writes: bool = True,
    ) -> None:
        """made_from: fingerprints of models and data, which must not change either. writes: one process of several."""
        self.path, self.writes = Path(path), writes
        record = plain({**asdict(config), "made_from": made_from or {}})
        stored = self.path / "config.json"
        if stored.exists() and ((self.path / "state.pt").exists() or (self.path / "policies").exists()):
            self._check(json.loads(stored.read_text(encoding="utf-8")), record)
        if writes:
            atomic_write(stored, lambda file: file.write(json.dumps(record, indent=2).encode()))

    def _check(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        if "made_from" not in old:
            logger.warning("%s does not say what it was made from; it goes on with what is there now", self.path)
        found = differences(old, new)
        refuse_other_run(self.path, {name: both for name, both in found.items() if name not in MAY_CHANGE})

    def load_state(self) -> dict[str, Any] | None:
        """The last saved state, None for a fresh run. Cuts metrics that were written after it."""
        path = self.path / "state.pt"
        state = self._read(path) if path.exists() else None
        log = self.path / "metrics.jsonl"
        if self.writes and log.exists():
            done = state["update"] if state else 0
            whole = [
                line for line in log.read_text(encoding="utf-8").split("\n")[:-1] if json.loads(line)["update"] <= done
            ]
            atomic_write(log, lambda file: file.write("".join(line + "\n" for line in whole).encode()))
        return state

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is damaged ({type(error).__name__}). Delete {self.path} to start the run anew."
            ) from error

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Atomic: a kill leaves the old state or the new one."""
        atomic_write(self.path / "state.pt", lambda file: torch.save(dict(state), file))

    def keep_policy(self, update: int, tensors: Mapping[str, Tensor]) -> None:
        """policies/<update>.safetensors: what would be shipped after this update."""
        path = self.path / "policies" / f"{update:06}.safetensors"
        data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        atomic_write(path, lambda file: file.write(data))

    def log(self, rows: list[dict[str, Any]]) -> None:
        """Append rows to metrics.jsonl; figures that are not finite are left out."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(_finite(row)) + "\n")


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without NaN and infinities, which JSON does not know."""
    kept = {k: v for k, v in row.items() if not isinstance(v, float) or math.isfinite(v)}
    return {k: _finite(v) if isinstance(v, Mapping) else v for k, v in kept.items()}
