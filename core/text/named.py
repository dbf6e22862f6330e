"""Text encoders that published models were trained with, by name; weights from a folder of yours or Hugging Face.

A folder holds the files of the model's page: config.json, tokenizer.json, model.safetensors (sentence-T5: 2_Dense too).
It is looked for as $EASYTUNE_ENCODERS/NAME, then in Hugging Face's cache, then fetched. Nothing loads before first use.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.text.encoder import TextEncoder, mean_pool, padded
from core.text.features import TextFeatures

FOLDER_VARIABLE = "EASYTUNE_ENCODERS"
NEEDED = ("config.json", "tokenizer.json")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # .bin is read with weights_only: nothing in it is run


@dataclass(frozen=True)
class EncoderSpec:
    """One published encoder. width: of a token; pooled: of the sentence vector."""

    hub: str
    family: str  # clip, t5 or distilbert
    width: int
    pooled: int
    max_tokens: int


NAMED = {
    "clip-vit-base-patch32": EncoderSpec("openai/clip-vit-base-patch32", "clip", 512, 512, 77),
    "clip-vit-large-patch14": EncoderSpec("openai/clip-vit-large-patch14", "clip", 768, 768, 77),
    "sentence-t5-large": EncoderSpec("sentence-transformers/sentence-t5-large", "t5", 1024, 768, 256),
    "distilbert-base-uncased": EncoderSpec("distilbert/distilbert-base-uncased", "distilbert", 768, 768, 512),
}


class NamedTextEncoder(TextEncoder):
    """tokens: last hidden states. pooled: CLIP's projected text embedding as it is, else the mean, unit length
    (sentence-T5: through its dense layer)."""

    def __init__(self, name: str, device: str | torch.device = "cpu", folder: Path | None = None) -> None:
        """folder: where the files are; None looks for them at the first use."""
        super().__init__(folder or Path(name), device)
        self.name, self.spec, self.width = name, NAMED[name], NAMED[name].width
        self._given = folder
        self._dense: Tensor | None = None

    @torch.no_grad()
    def _forward(self, token_ids: list[list[int]]) -> TextFeatures:
        model, _ = self._model()
        ids, mask = padded(token_ids, self.device)
        output = model(input_ids=ids, attention_mask=mask.long())
        tokens = output.last_hidden_state.float() * mask[..., None]
        return TextFeatures(tokens, mask, self._pooled(output, tokens, mask))

    def _pooled(self, output: Any, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.spec.family == "clip":
            return output.text_embeds.float()
        mean = mean_pool(tokens, mask)
        if self._dense is None:
            return mean
        return torch.nn.functional.normalize(mean @ self._dense.T, dim=-1)  # the dense layer has no bias

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self.folder = self._given or find_folder(self.name)
            _check_folder(self.folder, self.name)
            self._loaded = _load(self.folder, self.spec, self.device)
            self._dense = _load_dense(self.folder, self.name).to(self.device) if self.spec.family == "t5" else None
        return self._loaded


def find_folder(name: str) -> Path:
    """Folder of a named encoder; FileNotFoundError says what is missing and how to get it."""
    spec, named = NAMED[name], os.environ.get(FOLDER_VARIABLE)
    if named and (Path(named) / name).is_dir():
        return Path(named) / name
    from huggingface_hub import snapshot_download

    patterns = [*NEEDED, WEIGHTS[0], "2_Dense/*"]
    for offline in (True, False):
        try:
            folder = Path(snapshot_download(spec.hub, allow_patterns=patterns, local_files_only=offline))
        except Exception:  # no network, no cache, no such page: the hub raises a dozen kinds
            continue
        if all((folder / file).is_file() for file in (*NEEDED, WEIGHTS[0])):
            return folder
    raise FileNotFoundError(_how_to_get(name, "is neither on this computer nor to be fetched"))


def _how_to_get(name: str, problem: str) -> str:
    return (
        f"The text encoder {name} {problem}. With a network run: hf download {NAMED[name].hub} --local-dir "
        f"encoders/{name}; then set {FOLDER_VARIABLE}=encoders (its folder holds {', '.join((*NEEDED, WEIGHTS[0]))})."
    )


def _check_folder(folder: Path, name: str) -> None:
    missing = [file for file in NEEDED if not (folder / file).is_file()]
    if not any((folder / file).is_file() for file in WEIGHTS):
        missing.append(WEIGHTS[0])
    if missing:
        raise FileNotFoundError(_how_to_get(name, f"lacks {', '.join(missing)} in {folder}"))


def _load(folder: Path, spec: EncoderSpec, device: torch.device) -> tuple[Any, Any]:
    """(model in eval mode, tokenizer that cuts at max_tokens), from files only."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # quiet in forked training workers
    import transformers
    from tokenizers import Tokenizer

    classes: dict[str, Any] = {
        "clip": transformers.CLIPTextModelWithProjection,
        "t5": transformers.T5EncoderModel,
        "distilbert": transformers.DistilBertModel,
    }
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        model = classes[spec.family].from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except Exception as error:  # a damaged file raises RuntimeError, SafetensorError, JSONDecodeError, Exception ...
        raise ValueError(f"{folder} is damaged ({type(error).__name__}). Fetch {spec.hub} again.") from error
    tokenizer.enable_truncation(spec.max_tokens)
    tokenizer.no_padding()
    return model.eval().requires_grad_(False).to(device), tokenizer


def _load_dense(folder: Path, name: str) -> Tensor:
    """Weight (768, 1024) of sentence-T5's last layer."""
    path = folder / "2_Dense" / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(_how_to_get(name, f"lacks 2_Dense/model.safetensors in {folder}"))
    from safetensors.torch import load_file

    return load_file(path)["linear.weight"].float()
