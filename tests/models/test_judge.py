"""The judge: padding and batch company change nothing, words it does not know are one word."""

from __future__ import annotations

import pytest
import torch

from core.models.judge import PAD, UNKNOWN, Judge, JudgeConfig
from core.motion.layout import ROTATIONS
from core.motion.skeleton import N_FEATURES

LENGTHS = torch.tensor([46, 61, 40])
TEXTS = ["a person walks", "someone waves with the left hand, then walks", "Walks!"]


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    words = ("a", "hand", "left", "person", "someone", "the", "then", "walks", "waves", "with")
    model = Judge(JudgeConfig(words, word_dim=8, width=16, embedding=8)).eval().requires_grad_(False)
    model.feature_mean.normal_()
    model.feature_std.uniform_(0.5, 2.0)
    return model


def motions(padding: float = 0.0) -> torch.Tensor:
    features = torch.randn(3, 61, N_FEATURES, generator=torch.Generator().manual_seed(1))
    features[torch.arange(61) >= LENGTHS[:, None]] = padding
    return features


@pytest.mark.parametrize("padding", [0.0, 5.0])
def test_padded_motions_equal_motions_alone(judge, padding) -> None:
    """Fails where the backward pass of the network starts in the padding, or means divide by the wrong length."""
    together = judge.embed_motion(motions(padding), LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        alone = judge.embed_motion(motions()[i : i + 1, :n], LENGTHS[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)


def test_padded_texts_equal_texts_alone(judge) -> None:
    together = judge.embed_text(TEXTS)
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(together[i], judge.embed_text([text])[0], atol=1e-5, rtol=0)


def test_words_are_numbered_by_the_vocabulary(judge) -> None:
    """Fails where ids shift by one between training and loading, or the case of a letter matters."""
    ids, counts = judge.tokenize(["A Person, zigzags", "", "walks"])
    assert ids.tolist() == [[2, 5, UNKNOWN], [UNKNOWN, PAD, PAD], [9, PAD, PAD]] and counts.tolist() == [3, 1, 1]


def test_rotations_are_not_looked_at(judge) -> None:
    """The judge and the reward must not share their blind spots; everything else is looked at."""
    changed = motions()
    changed[..., ROTATIONS] += 1.0
    base = judge.embed_motion(motions(), LENGTHS)
    assert torch.equal(judge.embed_motion(changed, LENGTHS), base)
    for column in (0, 2, 3, 66, 193, 262):
        changed = motions()
        changed[..., column] += 3.0
        assert (judge.embed_motion(changed, LENGTHS) - base).abs().max() > 1e-5, column


def test_margin_loss_by_hand(judge) -> None:
    """Guo et al. 2022: own pairs d^2, mismatched ones max(0, margin - d)^2; pairs of one meaning cost nothing."""
    motion, text = torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([[0.0, 3.0], [12.0, 0.0]])
    own, near, far = (9 + 64) / 2, (10 - 5) ** 2, 0.0  # |m0 t0| = 3, |m1 t1| = 8, |m1 t0| = 5, |m0 t1| = 12
    # the two hardest entries of every row and column, the masked diagonal among them as zeros
    assert float(judge.loss(motion, text, torch.eye(2, dtype=torch.bool))) == pytest.approx(
        own + (near + far) / 4, rel=1e-5
    )
    assert float(judge.loss(motion, text, torch.ones(2, 2, dtype=torch.bool))) == pytest.approx(own, rel=1e-5)


def test_equal_embeddings_have_a_finite_gradient(judge) -> None:
    """Fails where the derivative of the square root is taken at zero: all motions start almost alike."""
    motion = torch.zeros(3, 8, requires_grad=True)
    judge.loss(motion, torch.zeros(3, 8), torch.eye(3, dtype=torch.bool)).backward()
    assert motion.grad is not None and motion.grad.isfinite().all()
