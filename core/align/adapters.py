"""Low-rank adapters (LoRA, Hu et al. 2022): W + (alpha / rank) B A with B zero at the start.

Written as parametrizations of the weight itself, so that whoever reads a weight (fused attention never calls its
Linear layers) reads the adapted one. A Linear that is called with gradient adds the adapter as a thin branch instead:
then backward never forms the gradient of a frozen matrix, a third of its work. A disabled adapter gives back the base
weights exactly: the base model costs no second copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ATTENTION_WEIGHTS = ("in_proj_weight",)  # nn.MultiheadAttention keeps query, key and value in one matrix


class LowRank(nn.Module):
    """weight (out, in) -> weight + scale * b @ a while enabled. a: (rank, in), b: (out, rank)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        out_width, in_width = weight.shape
        a = torch.randn(rank, in_width, generator=generator) / math.sqrt(in_width)
        self.a = nn.Parameter(a.to(weight))
        self.b = nn.Parameter(weight.new_zeros(out_width, rank))
        self.scale = alpha / rank
        self.enabled = True
        self.still = False  # the weights do not change for now
        self._merged: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        if not self.enabled:
            return weight
        if torch.is_grad_enabled() or not self.still:
            return weight + self.scale * (self.b @ self.a)
        if self._merged is None:
            self._merged = weight + self.scale * (self.b @ self.a)
        return self._merged

    def hold(self, still: bool) -> None:
        """While held still, calls without gradient share one adapted weight."""
        self.still, self._merged = still, None


class AdaptedLinear(nn.Linear):
    """A Linear with an adapter; what Lora makes of nn.Linear and `merge` turns back."""

    def forward(self, x: Tensor) -> Tensor:
        stored = cast(parametrize.ParametrizationList, cast(nn.ModuleDict, self.parametrizations)["weight"])
        adapter = cast(LowRank, stored[0])
        if not (adapter.enabled and torch.is_grad_enabled()):
            return F.linear(x, self.weight, self.bias)
        frozen = F.linear(x, cast(Tensor, stored.original), self.bias)
        thin = F.linear(x, adapter.a).flatten(0, -2)  # (N, rank)
        return torch.addmm(frozen.flatten(0, -2), thin, adapter.b.t(), alpha=adapter.scale).view_as(frozen)


def linear_weights(module: nn.Module) -> list[str]:
    """Names of all matrices that adapters can sit on: Linear weights and attention projections."""
    names = []
    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(part, nn.Linear):
            names.append(prefix + "weight")
        names += [prefix + w for w in _ATTENTION_WEIGHTS if isinstance(getattr(part, w, None), nn.Parameter)]
    return names


class Lora:
    """Adapters on all matrices of `module`; every other parameter is frozen.

    Raises ValueError if it has none or the rank is below 1. Side effect: changes `module` in place.
    """

    def __init__(self, module: nn.Module, rank: int = 8, alpha: float = 16.0, seed: int = 0) -> None:
        if rank < 1:
            raise ValueError(f"rank={rank} must be at least 1.")
        if not (names := linear_weights(module)):
            raise ValueError(f"{type(module).__name__} has no linear weight that adapters could sit on.")
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        self.module = module
        self.adapters: dict[str, LowRank] = {}
        for name in names:
            owner, weight = self._owner(name)
            adapter = LowRank(getattr(owner, weight), rank, alpha, generator)
            if type(owner) is nn.Linear:
                owner.__class__ = AdaptedLinear
            parametrize.register_parametrization(owner, weight, adapter)
            self.adapters[name] = adapter

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        path, _, weight = name.rpartition(".")
        return self.module.get_submodule(path), weight

    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser trains."""
        return [p for adapter in self.adapters.values() for p in (adapter.a, adapter.b)]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """{weight name + ".a" or ".b": parameter}, the adapters only."""
        return {f"{name}.{k}": getattr(adapter, k) for name, adapter in self.adapters.items() for k in "ab"}

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside, the module is its own base."""
        for adapter in self.adapters.values():
            adapter.enabled = False
        try:
            yield
        finally:
            for adapter in self.adapters.values():
                adapter.enabled = True

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside, nobody changes the adapters: without gradient they are multiplied into the weights once."""
        for adapter in self.adapters.values():
            adapter.hold(True)
        try:
            yield
        finally:
            for adapter in self.adapters.values():
                adapter.hold(False)

    def merge(self) -> None:
        """Fold the adapters into the weights and leave an ordinary module with its original parameter names."""
        for name in self.adapters:
            owner, weight = self._owner(name)
            with torch.no_grad():
                merged = getattr(owner, weight).clone()
            parametrize.remove_parametrizations(owner, weight, leave_parametrized=False)
            if type(owner) is AdaptedLinear:
                owner.__class__ = nn.Linear  # type: ignore[assignment]
            with torch.no_grad():
                getattr(owner, weight).copy_(merged)
        self.adapters = {}


def summed(alignments: Sequence[tuple[Mapping[str, Tensor], float]], rank: int | None = None) -> dict[str, Tensor]:
    """Adapters whose change, at scale 1, is the sum of the changes of (adapters, scale) pairs.

    adapters: "<weight>.a" (rank, in) and "<weight>.b" (out, rank), as Lora.adapters has them. Ranks add up; with
    `rank` the sum is replaced by the nearest change of that rank. ValueError where they adapt different weights.
    """
    names = set(alignments[0][0])
    if any(set(adapters) != names for adapters, _ in alignments):
        raise ValueError("the alignments adapt different weights. Average alignments of one kind.")
    joined = {}
    for name in sorted(names):
        parts = [(adapters[name].float(), scale) for adapters, scale in alignments]
        if name.endswith(".a"):
            joined[name] = torch.cat([a for a, _ in parts], 0)
        else:
            joined[name] = torch.cat([b * scale for b, scale in parts], 1)
    return joined if rank is None else _nearest(joined, rank)


def _nearest(adapters: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Adapters of at most `rank` whose changes b @ a are nearest in squares (Eckart & Young 1936)."""
    nearest = {}
    for weight in (name.removesuffix(".a") for name in adapters if name.endswith(".a")):
        u, s, v = torch.linalg.svd(adapters[f"{weight}.b"] @ adapters[f"{weight}.a"], full_matrices=False)
        root = s[:rank].sqrt()  # shared out evenly, so that both factors are of one size
        nearest |= {f"{weight}.a": root[:, None] * v[:rank], f"{weight}.b": u[:, :rank] * root}
    return nearest
