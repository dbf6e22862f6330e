"""The whole evaluation with a judge that is a tiny real computation."""

from __future__ import annotations

import numpy as np
import pytest

from core.metrics.comparison import diversity_difference
from core.metrics.evaluate import EvaluationConfig, EvaluationSet, Judge, evaluate
from core.metrics.intervals import PairedDifference, paired_bootstrap, paired_difference, t_interval
from core.metrics.report import load_report, verdict

N = 72
TARGETS = np.random.default_rng(0).normal(size=(N, 8)).astype(np.float32)
CAPTIONS = [f"prompt {i}" for i in range(N)]
JUDGE = Judge(
    motion=lambda motions: np.stack([m[:, :8].mean(0) for m in motions]),
    text=lambda captions: TARGETS[[int(c.split()[1]) for c in captions]],
)
CONFIG = EvaluationConfig(repeats=3, near_miss_size=3)


def motions(noise: float, seed: int) -> list[np.ndarray]:
    """One (40, 263) motion a prompt whose first features mean its text, plus noise."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((N, 40, 263), np.float32)
    rows[:, :, :8] = (TARGETS + noise * rng.normal(size=TARGETS.shape))[:, None]
    return list(rows)


def joints_of(features: np.ndarray) -> np.ndarray:
    return features[:, :66].reshape(len(features), 22, 3)


def run(**kwargs) -> object:
    data = EvaluationSet(CAPTIONS, motions(0.1, 99), actions=[i // 6 for i in range(N)], meanings=list(range(N)))
    models = {
        "vae": motions(0.2, 98),
        "base": lambda seed: motions(1.0, seed),
        "aligned": lambda seed: motions(0.6, seed),
    }
    return evaluate(models, JUDGE, data, CONFIG, joints_of=joints_of, **kwargs)


def test_better_model_wins_in_every_metric() -> None:
    """Fails on a swapped sign, a row under the wrong name or unpaired noise."""
    steps = []
    report = run(callback=lambda step, total, info: steps.append((step, total)))
    rows = report.rows
    assert list(rows) == ["real", "vae", "base", "aligned"]
    for metric in ("r_precision_1", "near_miss_1"):
        assert rows["real"][metric].mean > rows["aligned"][metric].mean > rows["base"][metric].mean
    for metric in ("mm_dist", "fid", "multimodality"):
        assert rows["aligned"][metric].mean < rows["base"][metric].mean
    assert rows["real"]["fid"].mean == pytest.approx(0.0, abs=1e-9)
    assert rows["real"]["mm_dist"].half == 0.0  # nothing about real motions changes between repeats
    differences = report.differences["aligned - base"]
    assert {"r_precision_1", "near_miss_1", "mm_dist", "fid", "diversity", "jerk"} <= set(differences)
    for metric in ("r_precision_1", "near_miss_1", "mm_dist", "fid"):
        assert differences[metric].conclusive and differences[metric].n == N
        change = rows["aligned"][metric].mean - rows["base"][metric].mean
        assert differences[metric].mean == pytest.approx(change, rel=0.05)
        assert verdict(metric, differences[metric], rows["base"][metric].mean, 0.0) == "better"
    change = rows["aligned"]["diversity"].mean - rows["base"]["diversity"].mean
    assert differences["diversity"].mean == pytest.approx(change, rel=1e-6)  # of the same pairs
    spread = differences["multimodality"]  # real motions have none, so that it is neither better nor worse
    change = rows["aligned"]["multimodality"].mean - rows["base"]["multimodality"].mean
    assert rows["base"]["multimodality"].half > 0
    assert spread.conclusive and spread.mean == pytest.approx(change, rel=1e-6)
    assert "| MultiModality → real |" in report.to_markdown() and "| changed |" in report.to_markdown()
    assert steps[-1] == (12, 12)


def test_a_model_does_not_differ_from_itself() -> None:
    """Fails where pairs are mixed up: every difference of one model to itself is exactly nothing."""
    data = EvaluationSet(CAPTIONS, motions(0.1, 99), actions=[i // 6 for i in range(N)], meanings=list(range(N)))
    models = {name: lambda seed: motions(1.0, seed) for name in ("base", "aligned")}
    report = evaluate(models, JUDGE, data, CONFIG, joints_of=joints_of)
    for change in report.differences["aligned - base"].values():
        assert change.mean == 0.0 and not change.conclusive


def test_the_interval_of_diversity_holds_what_it_promises() -> None:
    """Fails where prompts count as if each stood in one pair only: then it holds the truth in two of three."""
    held, sets, rng = 0, 300, np.random.default_rng(4)
    for _ in range(sets):
        prompts = rng.normal(size=(1, 60, 3))
        a, b = (prompts + 0.5 * rng.normal(size=(2, 60, 3)) for _ in range(2))  # as diverse as each other
        change = diversity_difference(a, b)
        held += change.low < 0 < change.high
    assert 0.92 < held / sets < 0.98


def test_verdict_follows_the_direction() -> None:
    """Higher R@1 is better, lower FID is better, jerk is better nearer to the real one; an open interval says so."""
    up = PairedDifference(0.2, 0.1, 0.3, 0.1, 50)
    assert verdict("near_miss_1", up, 0.5, 1.0) == "better" and verdict("fid", up, 0.5, 0.0) == "worse"
    assert verdict("jerk", up, 1.0, 2.0) == "better" and verdict("jerk", up, 1.0, 0.9) == "worse"
    assert verdict("fid", PairedDifference(0.2, -0.1, 0.5, 0.1, 50), 0.5, 0.0) == "no difference shown"
    assert verdict("diversity", up, 9.4, 9.5) == "changed"  # from 0.1 below to 0.0 or 0.2 above
    assert verdict("multimodality", up, 0.5, float("nan")) == "changed"


def test_same_seed_same_report() -> None:
    """A table that cannot be reproduced is no evidence."""
    assert run().to_json() == run().to_json()


def test_report_survives_its_files(tmp_path) -> None:
    """JSON reads back equal; Markdown and picture exist and name every model."""
    report = run()
    paths = report.save(tmp_path / "new")
    assert load_report(paths[0]).to_json() == report.to_json()
    text = paths[1].read_text(encoding="utf-8")
    assert "| metric | real | vae | base | aligned |" in text and "MM-Dist ↓" in text
    assert "**aligned - base**, 72 prompts" in text and "| better | -13.6% |" in text and "| +15.3% |" in text
    assert paths[2].read_bytes()[:4] == b"\x89PNG"


def test_wrong_number_of_motions_is_refused() -> None:
    """A model that drops a prompt would shift all pairs."""
    data = EvaluationSet(CAPTIONS, motions(0.1, 1))
    with pytest.raises(ValueError, match="71 motions for 72"):
        evaluate({"base": motions(0.1, 2)[:-1]}, JUDGE, data, CONFIG, joints_of=joints_of)
    with pytest.raises(ValueError, match="together"):
        EvaluationSet(CAPTIONS, motions(0.1, 1), actions=list(range(N)))


def test_intervals() -> None:
    """Student-t against the textbook value; pairing removes the spread between prompts; bootstrap agrees."""
    assert t_interval([1.0, 2.0, 3.0]).half == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert t_interval([1.0, float("nan"), 3.0]).n == 2
    rng = np.random.default_rng(0)
    a = rng.normal(10, 5, 200)
    b = a - 0.1 + rng.normal(0, 0.1, 200)
    exact, resampled = paired_difference(a, b), paired_bootstrap(a, b, rng)
    assert exact.conclusive and exact.low < -0.1 < exact.high
    assert resampled.low == pytest.approx(exact.low, abs=0.004)
    with pytest.raises(ValueError, match="not pairs"):
        paired_difference(a, b[:-1])
