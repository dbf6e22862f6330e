"""What a text encoder returns, and a compact store of it for training.

`CaptionCache` keeps every caption's token features one after the other in half precision (about 12 kB a caption) and
pads only what a batch asks for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from core.text.encoder import TextEncoder


@dataclass(frozen=True)
class TextFeatures:
    """Features of B texts. tokens: (B, S, D) float32, zero where padded; mask: (B, S) bool, True = real token
    (including [CLS] and [SEP]); pooled: (B, P) float32, of unit length and P = D in the default encoder."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor

    def __post_init__(self) -> None:
        batch, length, _ = self.tokens.shape
        if self.mask.shape != (batch, length) or len(self.pooled) != batch or self.mask.dtype != torch.bool:
            raise ValueError(
                f"TextFeatures don't fit together: tokens {tuple(self.tokens.shape)}, mask {tuple(self.mask.shape)} "
                f"{self.mask.dtype}, pooled {tuple(self.pooled.shape)}. Needed: (B, S, D), (B, S) bool, (B, P)."
            )

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: str | torch.device) -> TextFeatures:
        """The same features on another device."""
        return TextFeatures(self.tokens.to(device), self.mask.to(device), self.pooled.to(device))

    def select(self, indices: Sequence[int] | Tensor) -> TextFeatures:
        """Rows `indices` (any order, repeats allowed), cut to the longest text among them."""
        rows = torch.as_tensor(indices, dtype=torch.long, device=self.tokens.device)
        mask = self.mask[rows]
        longest = int(mask.sum(dim=1).max()) if len(rows) else 0
        return TextFeatures(self.tokens[rows, :longest], mask[:, :longest], self.pooled[rows])

    @staticmethod
    def concat(parts: Sequence[TextFeatures]) -> TextFeatures:
        """All rows of all parts, padded with zeros to the longest."""
        longest = max(part.tokens.shape[1] for part in parts)

        def pad(values: Tensor) -> Tensor:
            missing = longest - values.shape[1]
            return torch.cat([values, values.new_zeros(values.shape[0], missing, *values.shape[2:])], dim=1)

        return TextFeatures(
            torch.cat([pad(part.tokens) for part in parts]),
            torch.cat([pad(part.mask) for part in parts]),
            torch.cat([part.pooled for part in parts]),
        )


def check_width(text: TextFeatures, width: int, encoder: str) -> None:
    """ValueError where the tokens are not of the width that a reward knows, being of another text encoder."""
    if text.tokens.shape[-1] != width:
        raise ValueError(
            f"text tokens have {text.tokens.shape[-1]} numbers, this reward knows {width}. "
            f"Encode its captions with {encoder}, or import it with the text encoder that it was trained with."
        )


class CaptionCache:
    """Token features of many captions on the CPU. Row i belongs to `captions[i]`.

    tokens: (N, D) float16, all captions' real tokens one after the other; offsets: (M + 1,) int64, where each begins;
    pooled: (M, D) float32.
    """

    def __init__(self, captions: Sequence[str], tokens: Tensor, offsets: Tensor, pooled: Tensor) -> None:
        if len(offsets) != len(captions) + 1 or int(offsets[-1]) != len(tokens) or len(pooled) != len(captions):
            raise ValueError(
                f"Caption cache doesn't fit together: {len(captions)} captions, {len(offsets)} offsets ending at "
                f"{int(offsets[-1])}, {len(tokens)} tokens, {len(pooled)} pooled rows."
            )
        self.captions = list(captions)
        self.tokens, self.offsets, self.pooled = tokens, offsets, pooled
        self.index = {caption: i for i, caption in enumerate(self.captions)}

    def __len__(self) -> int:
        return len(self.captions)

    @classmethod
    def build(
        cls,
        encoder: TextEncoder,
        captions: Iterable[str],
        batch_size: int = 128,
        callback: Callable[[int, int, dict], None] | None = None,
    ) -> CaptionCache:
        """Encode the distinct captions, in order of first appearance. callback(done, total, {}) after each batch."""
        distinct = list(dict.fromkeys(captions))
        rows: list[Tensor] = [torch.empty(0)] * len(distinct)
        pooled = torch.zeros(len(distinct), encoder.width)
        done = 0
        for indices, features in encoder.encode_many(distinct, batch_size):
            features = features.to("cpu")
            for row, index in enumerate(indices):
                rows[index] = features.tokens[row][features.mask[row]].half()  # (S_i, D)
            pooled[indices] = features.pooled
            done += len(indices)
            if callback:
                callback(done, len(distinct), {})
        offsets = torch.zeros(len(distinct) + 1, dtype=torch.long)
        offsets[1:] = torch.tensor([len(row) for row in rows]).cumsum(0)
        return cls(distinct, torch.cat(rows), offsets, pooled)

    @classmethod
    def merge(cls, caches: Sequence[CaptionCache]) -> CaptionCache:
        """One cache of all captions; of one that several hold, the last counts."""
        lengths = torch.cat([cache.offsets.diff() for cache in caches])
        captions = [caption for cache in caches for caption in cache.captions]
        tokens, pooled = (torch.cat([getattr(cache, name) for cache in caches]) for name in ("tokens", "pooled"))
        return cls(captions, tokens, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), pooled)

    def gather(self, indices: Sequence[int] | Tensor) -> TextFeatures:
        """Features of captions `indices`, padded to the longest of them: (B, S, D), (B, S), (B, D)."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        starts, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        steps = torch.arange(int(lengths.max()))[None]  # (1, S)
        mask = steps < lengths[:, None]  # (B, S)
        positions = (starts[:, None] + steps) * mask  # padding reads token 0 and is zeroed
        return TextFeatures(self.tokens[positions].float() * mask[..., None], mask, self.pooled[rows])

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file, missing folders made; an existing one is replaced when the new one is complete."""
        from safetensors.torch import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = torch.frombuffer(bytearray(json.dumps(self.captions).encode()), dtype=torch.uint8)
        partial = path.with_name(path.name + ".part")
        save_file({"tokens": self.tokens, "offsets": self.offsets, "pooled": self.pooled, "captions": text}, partial)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path) -> CaptionCache:
        """Read what `save` wrote; FileNotFoundError or ValueError naming the file otherwise."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"Caption cache {path} doesn't exist. Build it with CaptionCache.build.")
        try:
            data = load_file(path)
            captions = json.loads(data["captions"].numpy().tobytes())
            return cls(captions, data["tokens"], data["offsets"], data["pooled"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"Caption cache {path} is damaged ({error}). Delete it and build it again.") from error
