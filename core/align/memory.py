"""How many bytes autograd keeps for backward: the memory that separates EasyTune from chain methods, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class SavedBytes:
    """Live and peak bytes of distinct storages kept for backward; parameters are not counted."""

    live: int = 0
    peak: int = 0
    _users: dict[int, int] = field(default_factory=dict)

    def take(self, storage: int, size: int) -> None:
        """One more graph node keeps this storage."""
        self._users[storage] = self._users.get(storage, 0) + 1
        if self._users[storage] == 1:
            self.live += size
            self.peak = max(self.peak, self.live)

    def release(self, storage: int, size: int) -> None:
        """A graph node is gone."""
        self._users[storage] -= 1
        if self._users[storage] == 0:
            del self._users[storage]
            self.live -= size


class _Kept:
    """A saved tensor that reports its own end: graphs are freed by backward or when dropped."""

    __slots__ = ("_ledger", "_size", "_storage", "tensor")

    def __init__(self, ledger: SavedBytes, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.tensor, self._ledger = tensor, ledger
        self._storage, self._size = storage.data_ptr(), storage.nbytes()
        ledger.take(self._storage, self._size)

    def __del__(self) -> None:
        self._ledger.release(self._storage, self._size)


@contextmanager
def saved_bytes(weights: Iterable[Tensor] = ()) -> Iterator[SavedBytes]:
    """Count what is saved for backward inside the `with`; read `.peak` afterwards.

    weights: frozen ones, which are there anyway; their storages are not counted, views of them included.
    """
    ledger, known = SavedBytes(), {weight.untyped_storage().data_ptr() for weight in weights}

    def pack(tensor: Tensor) -> Tensor | _Kept:
        trained = tensor.is_leaf and tensor.requires_grad
        return tensor if trained or tensor.untyped_storage().data_ptr() in known else _Kept(ledger, tensor)

    def unpack(kept: Tensor | _Kept) -> Tensor:
        return kept.tensor if isinstance(kept, _Kept) else kept

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield ledger
