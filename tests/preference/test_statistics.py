"""Statistics equal what one computes by hand, what was published, and what simulated people were made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from core.preference import statistics_ranking
from core.preference.statistics import (
    Judgement,
    Share,
    Tally,
    agreement,
    grouped,
    nominal_alpha,
    passed_checks,
    position_bias,
    self_consistency,
    wilson_interval,
    win_rates,
)
from core.preference.statistics_ranking import ELO_MEAN, ELO_PER_LOG, bradley_terry, rank_versions

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", with the alphas given there: A two observers, binary
# data; B two observers, nominal data; C four observers, twelve units, with gaps.
PUBLISHED = {
    0.095: ("0100000000", "1110010100"),
    0.692: ("aabbdcccedda", "babbbccceddd"),
    0.743: ("123321412...", "1233224125.3", ".3332342251.", "12332441251."),
}


def vote(
    verdict: str, annotator: str = "ada", prompt: str = "walk", swapped: bool = False, **changes: Any
) -> Judgement:
    """A blind vote on base (motion m0) and aligned (motion m1)."""
    sides = [("m1", "aligned"), ("m0", "base")] if swapped else [("m0", "base"), ("m1", "aligned")]
    (left, left_version), (right, right_version) = sides
    fields = {"pair_id": f"{prompt}{swapped}", "left": left, "right": right}
    fields |= {"left_version": left_version, "right_version": right_version}
    return Judgement(**{**fields, "prompt": prompt, "annotator": annotator, "verdict": verdict, **changes})


TABLE = [
    vote("right", "ada", "walk"),  # aligned
    vote("left", "bob", "walk", swapped=True),  # aligned
    vote("left", "cleo", "walk"),  # base
    vote("right", "ada", "wave"),  # aligned
    vote("tie", "bob", "wave"),
    vote("both_bad", "cleo", "wave"),
    vote("skip", "dan", "wave"),
]


def test_small_table_by_hand() -> None:
    """Prevents wins credited to a side in place of a version, and skips that count."""
    assert win_rates(TABLE) == {("aligned", "base"): Tally(wins=3, losses=1, ties=1, both_bad=1)}
    assert grouped(TABLE, lambda j: j.prompt) == {
        "walk": {("aligned", "base"): Tally(2, 1, 0, 0)},
        "wave": {("aligned", "base"): Tally(1, 0, 1, 1)},
    }
    share, p_value = position_bias(TABLE)
    assert (share, p_value) == (Share(2, 4), 1.0)
    assert position_bias([vote("left")] * 6)[1] == pytest.approx(2 / 64)  # six heads in a row, two-sided


def test_agreement_of_the_small_table_by_hand() -> None:
    """Prevents sides that stand for answers: "left" and "right" of swapped pairs are the same answer.

    Two units of three answers, {m1, m1, m0} and {m1, tie, bad}: weight 1/2 for each of the 6 ordered pairs of a unit.
    Observed disagreement: (4 + 6) / 2 = 5 of 6. Expected, from counts m1 3, m0 1, tie 1, bad 1 of n = 6:
    (36 - 9 - 3) / (6 * 5) = 24 / 30. alpha = 1 - (5 / 6) / (24 / 30) = -1 / 24.
    """
    assert agreement(TABLE) == pytest.approx(-1 / 24)


@pytest.mark.parametrize(("alpha", "rows"), PUBLISHED.items())
def test_published_examples_of_krippendorffs_alpha(alpha: float, rows: tuple[str, ...]) -> None:
    """Prevents a wrong correction for chance, and gaps counted as answers."""
    units = [{str(i): value for i, value in enumerate(column) if value != "."} for column in zip(*rows, strict=True)]
    assert nominal_alpha(units) == pytest.approx(alpha, abs=5e-4)


def test_agreement_is_undefined_where_nothing_varies_or_overlaps() -> None:
    """Prevents an error, or a perfect score, from a study of one person."""
    assert math.isnan(agreement([vote("left"), vote("left", prompt="wave")]))
    assert math.isnan(agreement([vote("left"), vote("left", "bob")]))
    assert agreement([vote("left"), vote("left", "bob"), vote("tie", prompt="x"), vote("tie", "bob", "x")]) == 1.0


def test_repeats_are_compared_by_motion() -> None:
    """Prevents a repeat with swapped sides from counting as a change of mind, and one person's from another's."""
    steady = [vote("left", "ada"), vote("right", "ada", swapped=True)]
    fickle = [vote("left", "bob"), vote("left", "bob", swapped=True)]
    assert self_consistency([*steady, *fickle, vote("tie", "cleo"), vote("skip", "cleo")]) == Share(1, 2)


def test_checks_are_passed_by_ties() -> None:
    """Prevents attention checks from entering the figures they are to guard."""
    same: dict[str, Any] = {"right": "m0", "right_version": "base"}
    checks = [vote("tie", **same), vote("left", **same), vote("both_bad", **same), vote("skip", **same)]
    noise: dict[str, Any] = {"left_version": "noise", "right_version": "real"}
    checks += [vote("right", **noise), vote("left", **noise), vote("tie", **noise), vote("skip", **noise)]
    assert passed_checks([*checks, vote("left")]) == Share(3, 6)
    assert win_rates(checks) == {} and math.isnan(agreement(checks)) and self_consistency(checks).n == 0
    assert rank_versions(checks) == []


@pytest.mark.parametrize(
    ("k", "n", "interval"),
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (50, 100, (0.4038, 0.5962))],
)
def test_wilson_intervals(k: int, n: int, interval: tuple[float, float]) -> None:
    """Prevents the normal interval, which leaves 0-1; figures from published tables."""
    assert wilson_interval(k, n) == pytest.approx(interval, abs=1e-4)


def test_impossible_shares() -> None:
    """Prevents a plausible interval of nonsense, and a division by zero."""
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0)) and math.isnan(Share(0, 0).rate)
    with pytest.raises(ValueError, match="k=3 of n=2"):
        wilson_interval(3, 2)


def test_ranking_of_two_versions_in_closed_form() -> None:
    """Prevents a wrong scale: with 2 versions the strengths are the odds, the prior adding 0.05 wins to each."""
    best, worst = rank_versions([vote("right")] * 30 + [vote("left")] * 10 + [vote("tie"), vote("both_bad")] * 2)
    assert (best.version, worst.version) == ("aligned", "base")
    assert best.elo - worst.elo == pytest.approx(400 * math.log10(32.05 / 12.05), abs=1e-2)
    assert best.elo + worst.elo == pytest.approx(2 * ELO_MEAN) and best.low < best.elo < best.high
    assert rank_versions([]) == rank_versions([vote("skip")]) == []


def duel(winner: int, loser: int, person: int = 0, prompt: int = 0) -> Judgement:
    """A vote for version v<winner> over v<loser>."""
    versions = {"left_version": f"v{winner}", "right_version": f"v{loser}"}
    return vote("left", f"person {person}", f"prompt {prompt}", **versions)


def test_ranking_survives_a_version_that_never_lost() -> None:
    """Prevents infinite strengths."""
    ranks = rank_versions([duel(0, 1)] * 20 + [duel(3, 2)] * 5, resamples=50)
    assert len(ranks) == 4 and all(np.isfinite([rank.elo, rank.low, rank.high]).all() for rank in ranks)


def test_maximum_of_the_likelihood() -> None:
    """Prevents an iteration that stops early: at the maximum, expected wins equal observed wins."""
    wins = np.random.default_rng(0).integers(5, 40, (5, 5)) * (1 - np.eye(5))
    log_p = bradley_terry(wins)
    wins = wins + 0.05 * (1 - np.eye(5))
    chance = 1 / (1 + np.exp(log_p[None, :] - log_p[:, None]))
    np.testing.assert_allclose((chance * (wins + wins.T)).sum(1), wins.sum(1), rtol=1e-4)


TRUTH = np.array([-0.6, -0.1, 0.2, 0.5])  # logarithms of strengths


def coverage(people: int, prompts: int, votes_each: int, taste: float, runs: int) -> float:
    """Share of versions whose interval holds the truth in simulated studies.

    taste: spread of the strengths from person to person and from prompt to prompt.
    """
    rng, covered = np.random.default_rng(1), []
    for run in range(runs):
        by_person, by_prompt = (rng.normal(0.0, taste, (n, len(TRUTH))) for n in (people, prompts))
        votes = []
        for person in np.repeat(np.arange(people), votes_each):
            (i, j), prompt = rng.choice(len(TRUTH), 2, replace=False), rng.integers(prompts)
            strength = TRUTH + by_person[person] + by_prompt[prompt]
            i, j = (i, j) if rng.random() < 1 / (1 + np.exp(strength[j] - strength[i])) else (j, i)
            votes.append(duel(i, j, person, prompt))
        for rank in rank_versions(votes, resamples=200, seed=run):
            covered.append(rank.low <= ELO_MEAN + ELO_PER_LOG * TRUTH[int(rank.version[1:])] <= rank.high)
    return float(np.mean(covered))


def test_simulated_strengths_are_recovered_in_95_percent_of_runs() -> None:
    """Prevents intervals that promise more than they keep: 200 studies of 4 versions, 300 independent votes each."""
    assert coverage(people=1, prompts=1, votes_each=300, taste=0.0, runs=200) == pytest.approx(0.95, abs=0.02)


def test_intervals_hold_where_votes_of_one_person_or_prompt_hang_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents counting 600 votes of 20 people about 10 prompts as 600 opinions; without clusters a third is missed."""
    study: dict[str, Any] = {"people": 20, "prompts": 10, "votes_each": 30, "taste": 0.5, "runs": 60}
    assert coverage(**study) >= 0.92
    monkeypatch.setattr(statistics_ranking, "MIN_CLUSTERS", 1000)
    assert coverage(**study) < 0.8
