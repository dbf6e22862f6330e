"""Our metrics against the published evaluators' own numbers on the same embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.metrics.distribution import diversity_by_motion, fid, mean_pair_distance, multimodality_by_text
from core.metrics.retrieval import matching_distances, r_precision

DATA = np.load(Path(__file__).parents[1] / "fixtures" / "metrics.npz")
CASES = ["full_rank", "rank_deficient"]


def groups_of_32(case: str) -> np.ndarray:
    order = DATA[f"{case}/shuffle_idx"]
    return order[: len(order) // 32 * 32].reshape(-1, 32)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("motion", "prefix"), [("rec_motion", ""), ("gt_motion", "gt_")])
def test_retrieval_equals_published(case: str, motion: str, prefix: str) -> None:
    """Fails on a transposed ranking, a wrong distance or a wrong cut into groups."""
    pools = groups_of_32(case)
    text, rows = DATA[f"{case}/text"], DATA[f"{case}/{motion}"]
    ours = r_precision(text, rows, pools)
    published = [float(DATA[f"{case}/out/{prefix}R_precision_top_{k}"]) for k in (1, 2, 3)]
    np.testing.assert_allclose(ours, published, atol=3e-8)
    mm_dist = matching_distances(text, rows)[pools.ravel()].mean()
    assert mm_dist == pytest.approx(float(DATA[f"{case}/out/{prefix}Matching_score"]), abs=2e-6)
    assert mm_dist == pytest.approx(float(DATA[f"{case}/own64/{prefix}Matching_score"]), abs=1e-11)


@pytest.mark.parametrize("case", CASES)
def test_fid_equals_published(case: str) -> None:
    """Fails when the matrix square root loses digits, above all with fewer samples than dimensions."""
    ours = fid(DATA[f"{case}/gt_motion"], DATA[f"{case}/rec_motion"])
    assert ours == pytest.approx(float(DATA[f"{case}/out/FID"]), abs=2e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("motion", "prefix", "tag"), [("rec_motion", "", "rec"), ("gt_motion", "gt_", "gt")])
def test_diversity_equals_published(case: str, motion: str, prefix: str, tag: str) -> None:
    """Fails on squared or summed distances."""
    first, second = DATA[f"{case}/diversity_first_{tag}"], DATA[f"{case}/diversity_second_{tag}"]
    ours = mean_pair_distance(DATA[f"{case}/{motion}"][DATA[f"{case}/shuffle_idx"]], first, second)
    assert ours == pytest.approx(float(DATA[f"{case}/own64/{prefix}Diversity"]), abs=1e-11)
    assert ours == pytest.approx(float(DATA[f"{case}/out/{prefix}Diversity"]), abs=6e-6)


def test_multimodality_equals_published() -> None:
    """Fails when takes of different texts are mixed."""
    x = DATA["mm/activation"]
    assert mean_pair_distance(x, DATA["mm/first"], DATA["mm/second"]) == pytest.approx(float(DATA["mm/out"]), abs=1e-6)
    assert multimodality_by_text(x[:, :2]).mean() == pytest.approx(mean_pair_distance(x, np.array([0]), np.array([1])))
    with pytest.raises(ValueError, match="2 takes"):
        multimodality_by_text(x[:, :1])


def test_fid_laws() -> None:
    """FID of a set with itself is 0, of a shifted set the squared shift, also without full rank."""
    x = np.random.default_rng(0).normal(size=(20, 50))
    assert fid(x, x) == pytest.approx(0.0, abs=1e-9)
    assert fid(x, x + 2.0) == pytest.approx(200.0)
    with pytest.raises(ValueError, match="NaN"):
        fid(x, np.full_like(x, np.nan))
    with pytest.raises(ValueError, match="at least 2"):
        fid(x, x[:1])


def test_diversity_never_pairs_a_row_with_itself() -> None:
    """Two far points: the distance must be theirs, not 0."""
    assert diversity_by_motion(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])).tolist() == [4.0, 4.5, 3.5]
