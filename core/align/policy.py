"""What is trained: all weights of the denoiser or its adapters, with the base and the average one `with` away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from core.align.adapters import Lora


@contextmanager
def _swapped(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Exchange the storage of parameters for a while; graphs built before keep the old one."""
    kept = {name: p.data for name, p in parameters.items()}
    try:
        for name, p in parameters.items():
            p.data = values[name]
        yield
    finally:
        for name, p in parameters.items():
            p.data = kept[name]


class Policy:
    """The trained parameters of `denoiser`: adapters of lora_rank, or everything where lora_rank is 0."""

    def __init__(self, denoiser: nn.Module, lora_rank: int = 8, lora_alpha: float = 16.0, seed: int = 0) -> None:
        self.lora = Lora(denoiser, lora_rank, lora_alpha, seed=seed) if lora_rank else None
        if self.lora is None:
            denoiser.requires_grad_(True)
            self.named = dict(denoiser.named_parameters())
            self._base = {name: p.detach().clone() for name, p in self.named.items()}
        else:
            self.named = self.lora.named_parameters()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser trains."""
        return list(self.named.values())

    @contextmanager
    def base(self) -> Iterator[None]:
        """Inside, the denoiser is the base it started from."""
        with self.lora.disabled() if self.lora else _swapped(self.named, self._base):
            yield

    def still(self) -> AbstractContextManager[None]:
        """Inside, nobody changes the policy: calls without gradient share what depends on the weights alone."""
        return self.lora.still() if self.lora else nullcontext()

    def state_dict(self) -> dict[str, Tensor]:
        """Trained parameters only, copied."""
        return {name: p.detach().clone() for name, p in self.named.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Strict: ValueError if names or shapes differ."""
        if {n: p.shape for n, p in self.named.items()} != {n: v.shape for n, v in state.items()}:
            raise ValueError(
                "the saved policy does not fit this denoiser. Use the model and lora_rank it was made with."
            )
        with torch.no_grad():
            for name, p in self.named.items():
                p.copy_(state[name])

    def finish(self) -> None:
        """Fold adapters into the weights, so that the denoiser is an ordinary module again; frozen afterwards."""
        if self.lora:
            self.lora.merge()
        for p in self.named.values():
            p.requires_grad_(False)


class Ema:
    """Exponential moving average of a policy: average <- decay * average + (1 - decay) * policy."""

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self.named, self.decay = dict(named), decay
        self.average = {name: p.detach().clone() for name, p in named.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call after each optimiser step."""
        for name, p in self.named.items():
            self.average[name].lerp_(p.detach(), 1.0 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the policy is its average."""
        with _swapped(self.named, self.average):
            yield
