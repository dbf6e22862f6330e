"""One training loop for all models: Accelerate, EMA, resume after a kill, metrics.jsonl and a learning-curve picture.

A Task says what a batch is, what it costs and how it is validated. A batch is a pure function of (step, process), so
resuming needs no data cursor. What is left out of the textbook: epochs.

Files in the run folder: state.pt (to resume), metrics.jsonl, curves.png, run.json (the resolved configuration, what it
was made from, and its history: settings that changed on the way).
"""

from __future__ import annotations

import json
import logging
import math
import pickle
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from core import Callback, require
from core.align.processes import current_processes
from core.motion.files import atomic_write
from core.train.curves import cut_metrics, plot_curves
from core.train.run_record import differences, plain, refuse_other_run

log = logging.getLogger(__name__)
# settings without which the saved weights, or the data they have seen, would be others
_FIXED = ("model", "width", "made_from", "data.train_items", "loop.seed", "near_pools", "near_size")


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation settings shared by all models."""

    steps: int = 10_000
    batch_size: int = 64  # per process
    learning_rate: float = 4e-4  # AdamW, linear warm-up, cosine towards 2 %
    warmup: int = 300  # steps
    weight_decay: float = 0.01
    clip: float = 1.0  # gradient norm
    ema: float = 0.999  # decay per step of the averaged weights that are shipped
    seed: int = 0
    precision: str = "auto"  # auto, fp32 or bf16; auto takes bf16 where the processor computes it fast
    device: str = "auto"  # auto, cpu, cuda or mps
    threads: int = 0  # CPU threads; 0 leaves PyTorch's choice
    log_every: int = 50  # steps
    save_every: int = 500  # steps between resumable states
    validate_every: int = 1000  # steps
    note: str = ""  # what the card shall say about this run

    def __post_init__(self) -> None:
        require(self, "steps", "batch_size", "log_every", "save_every", "validate_every", low=1)
        require(self, "learning_rate", "clip", above=True)
        require(self, "warmup", "weight_decay", "seed", "threads")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision={self.precision!r} is unknown. Choose auto, fp32 or bf16.")
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"ema={self.ema} is outside [0, 1). 0.999 is usual.")


class Task(Protocol):
    """What the loop trains. `model` is the trained module; losses return a dict with 'loss' and details."""

    @property
    def model(self) -> nn.Module: ...

    def batch(self, step: int, process: int, processes: int) -> Any:
        """The batch of one step and process, on the model's device; a pure function of its arguments."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Scalars of one batch; model is `self.model`, possibly wrapped for several processes."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures of the averaged model on the validation set."""
        ...


def choose_precision(precision: str, device: str) -> tuple[str, str]:
    """('bf16' | 'no', the reason in words) for Accelerate's mixed precision."""
    if precision == "fp32":
        return "no", "float32, as asked"
    if precision == "bf16":
        return "bf16", "bfloat16, as asked"
    if device == "cuda":
        ok = torch.cuda.is_bf16_supported()
        return ("bf16", "bfloat16 on CUDA") if ok else ("no", "float32: this GPU has no bfloat16")
    if device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_native_bf16():
        return "bf16", "bfloat16: this CPU multiplies it natively"
    return "no", f"float32: no fast bfloat16 on {device}"


def _has_native_bf16() -> bool:
    """Intel's AVX512 multiplies bfloat16 no faster than float32 (measured: 0.7 times, with its casts); AMX does."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and "avx512_bf16" in described
    return wide and ("amx_bf16" in described or "AuthenticAMD" in described)


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Linear warm-up over config.warmup steps, then cosine from the peak towards 2 % of it at config.steps."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Trainer:
    """Runs one Task to the end of LoopConfig.steps, from where the run folder left off.

    resolved: what run.json holds. A run may go on for more steps, at another learning rate or with other losses, which
    is logged and kept in run.json; ValueError when the folder holds a run of another model, data or seed.
    """

    def __init__(self, task: Task, config: LoopConfig, folder: Path, resolved: dict[str, Any]) -> None:
        from accelerate import Accelerator

        if config.threads:
            torch.set_num_threads(config.threads)
        self.task, self.config, self.folder = task, config, folder
        device = pick_device(config.device)
        kind = device.partition(":")[0]  # cuda of cuda:1
        precision, reason = choose_precision(config.precision, kind)
        self.accelerator = Accelerator(mixed_precision=precision, cpu=kind == "cpu")
        log.info("training on %s in %s", self.accelerator.device, reason)
        optimizer = torch.optim.AdamW(
            task.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99),
            fused=kind in ("cpu", "cuda"),
        )  # fmt: skip
        self.model, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        self.ema = AveragedModel(task.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=False)
        self.step, self.seconds = 0, 0.0
        self._resume(plain(resolved))

    def run(self, callback: Callback | None = None) -> nn.Module:
        """Train to the end; returns the averaged model in eval mode. The callback may raise to cancel.

        Raises FloatingPointError when loss or gradient are not finite; the last saved state is still good then.
        """
        config, recent, since = self.config, [], time.perf_counter()
        self.model.train()
        while self.step < config.steps:
            torch.manual_seed(hash((config.seed, self.step, self.accelerator.process_index)) % 2**31)
            losses = self._update()
            self.step += 1
            recent.append(losses)
            if self.step % config.log_every == 0 or self.step == config.steps:
                now = time.perf_counter()
                self.seconds, since = self.seconds + now - since, now
                self._record({k: sum(float(x[k]) for x in recent) / len(recent) for k in losses}, callback)
                recent = []
            if self.step % config.validate_every == 0 or self.step == config.steps:
                self._validate(callback)
            if self.step % config.save_every == 0 or self.step == config.steps:
                self._save()
        return self.ema.module.eval()

    def _update(self) -> dict[str, Tensor]:
        rate = learning_rate_at(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.task.batch(self.step, self.accelerator.process_index, self.accelerator.num_processes)
        with self.accelerator.autocast():
            losses = self.task.loss(self.model, batch)
        self.accelerator.backward(losses["loss"])
        self._average_gradients()
        norm: Any = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if not torch.isfinite(losses["loss"].detach() + norm):
            raise FloatingPointError(f"loss or gradient is not finite at step {self.step}. Lower --loop.learning-rate.")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.accelerator.unwrap_model(self.model))
        return {**{k: v.detach() for k, v in losses.items()}, "gradient_norm": norm}

    def _average_gradients(self) -> None:
        """Over processes. Accelerate's wrapper does it only for losses that go through `forward`; averages stay so."""
        if self.accelerator.num_processes > 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def _record(self, values: dict[str, float], callback: Callback | None) -> None:
        if not self.accelerator.is_main_process:
            return
        row = {"step": self.step, "seconds": round(self.seconds, 1), **{k: round(v, 6) for k, v in values.items()}}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        if callback:
            callback(self.step, self.config.steps, values)

    def _validate(self, callback: Callback | None) -> None:
        if not self.accelerator.is_main_process:
            return
        self.ema.module.eval()
        with torch.no_grad():
            values = self.task.validate(self.ema.module)
        self._record({f"val_{k}": v for k, v in values.items()}, callback)
        plot_curves(self.folder / "metrics.jsonl", self.folder / "curves.png")

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = {
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        atomic_write(self.folder / "state.pt", lambda file: torch.save(state, file))

    def _resume(self, record: dict[str, Any]) -> None:
        path = self.folder / "state.pt"
        if path.exists():
            changed = self._changes(record)
            self._load(path)
            log.info("resumed %s at step %d", path, self.step)
            record["history"] = self._history(changed)
        if self.accelerator.is_main_process:
            atomic_write(self.folder / "run.json", lambda file: file.write(json.dumps(record, indent=2).encode()))
            cut_metrics(self.folder / "metrics.jsonl", self.step)

    def _recorded(self) -> dict[str, Any]:
        path = self.folder / "run.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _changes(self, record: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Dotted name -> (old, new) of settings that changed since the run was left; raises for those that can't."""
        old = self._recorded()
        if "made_from" not in old:
            log.warning("%s does not say what it was made from; it goes on with what is there now", self.folder)
        changed = differences(old, record)
        fixed = {name: both for name, both in changed.items() if any(f".{part}." in f".{name}." for part in _FIXED)}
        refuse_other_run(self.folder, fixed)
        return changed

    def _history(self, changed: dict[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
        """What was trained with other settings, and until which step."""
        history = self._recorded().get("history", [])
        if not changed:
            return history
        log.warning("from step %d on: %s", self.step, ", ".join(f"{k} {a!r} -> {b!r}" for k, (a, b) in changed.items()))
        return [*history, {"until_step": self.step, **{name: old for name, (old, _) in changed.items()}}]

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]
        except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is damaged or of another model ({type(error).__name__}). Delete {self.folder} to start anew."
            ) from error


def pick_device(device: str) -> str:
    """'auto' -> cuda, mps or cpu, the first that is there; ValueError for one that is asked for and absent.

    Under `accelerate launch` or `torchrun` each process gets its own, such as cuda:1.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device != "auto" and not available.get(device, False):
        there = [name for name, is_there in available.items() if is_there]
        raise ValueError(f"device={device!r} is not available here. Choose auto or one of {there}.")
    given = current_processes(device).device
    return given or (next(name for name, there in available.items() if there) if device == "auto" else device)


def config_of(*parts: Any) -> dict[str, Any]:
    """Dataclasses -> one JSON-able dict keyed by class name; what run.json holds."""
    return {type(part).__name__: asdict(part) for part in parts}
