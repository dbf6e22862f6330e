"""The evaluator networks against the published classes: FID and R-precision are only comparable if these agree."""

from __future__ import annotations

import pytest
import torch

from core.models.tm2t import T2mEvaluator, T2mEvaluatorConfig

SMALL = T2mEvaluatorConfig(movement_width=32, motion_width=48, text_width=32, embedding_width=32)


@pytest.fixture
def data(published):
    return published("t2m_evaluator_small")


@pytest.fixture
def model(data):
    checkpoint: dict = {"epoch": 7}
    for key, value in data.weights.items():
        network, name = key.split("/")
        checkpoint.setdefault(network, {})[name] = value
    model = T2mEvaluator(SMALL).to(data.dtype).eval().requires_grad_(False)
    model.load_published(checkpoint)
    return model


def test_published_motion_embedding(data, model):
    data.check(model.movement_encoder(data["features"][..., :-4]), "movement")
    data.check(model.embed_motions(data["features"], data["motion_lengths"]), "motion_embedding")


def test_published_text_embedding(data, model):
    embedding = model.embed_texts(data["word_embs"], data["pos_onehot"], data["text_lengths"])
    data.check(embedding, "text_embedding")


def test_any_order_of_lengths(data, model):
    """Prevents embeddings shuffled by the sorting that packed sequences need."""
    order = torch.tensor([2, 0, 3, 1])
    shuffled = model.embed_motions(data["features"][order], data["motion_lengths"][order])
    in_order = model.embed_motions(data["features"], data["motion_lengths"])
    torch.testing.assert_close(shuffled, in_order[order])


def test_full_size_keys(published_keys, keys_of):
    """Prevents the released evaluator from failing to load by key."""
    published = {key.replace("/", ".", 1): shape for key, shape in published_keys("keys_t2m_evaluator_full").items()}
    assert keys_of(T2mEvaluator()) == published


def test_bad_input_is_named():
    model = T2mEvaluator(SMALL)
    with pytest.raises(ValueError, match="movement_encoder"):
        model.load_published({"text_encoder": {}})
    with pytest.raises(ValueError, match="lengths"):
        model.embed_motions(torch.zeros(1, 40, 263), [3])
