"""Encoders by name: tiny ones of the real classes from local folders; without files a sentence says how to get them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.text.encoder import load_text_encoder
from core.text.named import NAMED

VOCABULARY = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "person": 4, "walks": 5, "left": 6}


def make_folder(root: Path, name: str) -> Path:
    """A random model of the family's class with eight numbers a token, and a tokenizer that ends with </s>."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder, size = root / name, len(VOCABULARY)
    torch.manual_seed(0)
    if NAMED[name].family == "clip":
        config = transformers.CLIPTextConfig(
            vocab_size=size, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            projection_dim=6, eos_token_id=1, bos_token_id=0, pad_token_id=0,
        )  # fmt: skip
        model = transformers.CLIPTextModelWithProjection(config)
    elif NAMED[name].family == "t5":
        config = transformers.T5Config(vocab_size=size, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        model = transformers.T5EncoderModel(config)
    else:
        config = transformers.DistilBertConfig(vocab_size=size, dim=8, hidden_dim=8, n_layers=1, n_heads=2)
        model = transformers.DistilBertModel(config)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    if NAMED[name].family == "t5":
        (folder / "2_Dense").mkdir()
        save_file({"linear.weight": torch.randn(6, 8)}, folder / "2_Dense" / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", NAMED)
def test_named_encoders_load_from_a_folder(name, tmp_path, monkeypatch):
    """Prevents padding from changing the features, and sentence vectors of another kind than the model's."""
    make_folder(tmp_path, name)
    monkeypatch.setenv("EASYTUNE_ENCODERS", str(tmp_path))
    encoder = load_text_encoder(name)
    prompts = ["a person walks left", "walks", ""]
    together = encoder.encode(prompts)
    assert together.tokens.shape == (3, 5, 8) and together.mask.sum(1).tolist() == [5, 2, 1]
    assert together.pooled.shape == (3, 8 if NAMED[name].family == "distilbert" else 6)
    if NAMED[name].family != "clip":
        torch.testing.assert_close(together.pooled.norm(dim=-1), torch.ones(3))
    for indices, padded in encoder.encode_many(prompts, batch_size=3):
        torch.testing.assert_close(padded.pooled, together.pooled[indices], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(padded.tokens, together.tokens[indices], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together.pooled[0], together.pooled[1])


@pytest.mark.parametrize("name", NAMED)
def test_what_is_missing_and_how_to_get_it(name, tmp_path, monkeypatch):
    """Prevents a traceback of the hub, and anything loaded or fetched before the first use."""
    import huggingface_hub

    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.delenv("EASYTUNE_ENCODERS", raising=False)
    encoder = load_text_encoder(name)
    with pytest.raises(FileNotFoundError, match=f"{name} is neither.*hf download {NAMED[name].hub}.*EASYTUNE_ENCODERS"):
        encoder.encode(["walk"])
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(json.dumps({}))
    monkeypatch.setenv("EASYTUNE_ENCODERS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="lacks tokenizer.json, model.safetensors in"):
        load_text_encoder(name).encode(["walk"])


def test_damaged_weights_are_named(tmp_path, monkeypatch):
    folder = make_folder(tmp_path, "distilbert-base-uncased")
    (folder / "model.safetensors").write_bytes(b"\x10\x00")
    monkeypatch.setenv("EASYTUNE_ENCODERS", str(tmp_path))
    with pytest.raises(ValueError, match="is damaged"):
        load_text_encoder("distilbert-base-uncased").encode(["walk"])
