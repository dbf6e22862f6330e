"""What the votes say: win rates, position bias, self-consistency and agreement, as pure functions of judgements.

Each share carries its 95 % Wilson interval. Agreement is Krippendorff's alpha (Krippendorff 2011), nominal: answers are
compared by the motion they prefer, so that swapped sides count as the same answer.
What it leaves out: significance of a difference between annotators, and weights for their reliability.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.preference.types import NOISE, Verdict

OVERALL = "overall"  # the criterion of the vote itself
Z_95 = 1.959963984540054  # standard normal quantile at 0.975


@dataclass(frozen=True)
class Judgement:
    """One standing answer to one question about one pair."""

    pair_id: str
    prompt: str
    annotator: str
    left: str  # name of the motion on the left, its hash
    right: str
    left_version: str
    right_version: str
    verdict: Verdict
    criterion: str = OVERALL
    blind: bool = True  # the names had not been shown before
    response_s: float | None = None

    @property
    def unit(self) -> Hashable:
        """What was compared, whichever side it stood on: the same for a repeat and for another annotator."""
        return (self.criterion, self.prompt, *sorted((self.left, self.right)))

    @property
    def is_check(self) -> bool:
        """Whether it is an attention check: a motion beside itself, or a recorded one beside noise."""
        return self.left == self.right or NOISE in (self.left_version, self.right_version)

    @property
    def passed(self) -> bool:
        """Whether a check was answered as it should be: no winner beside itself, and never noise."""
        if self.left == self.right:
            return self.verdict in ("tie", "both_bad")
        return self.verdict == ("right" if self.left_version == NOISE else "left")

    @property
    def answer(self) -> str:
        """The preferred motion, or "tie" or "both_bad" or "skip": independent of the sides."""
        return {"left": self.left, "right": self.right}.get(self.verdict, self.verdict)


@dataclass(frozen=True)
class Share:
    """k of n, with the 95 % Wilson interval; all three numbers are NaN where n = 0."""

    k: int
    n: int

    @property
    def rate(self) -> float:
        return self.k / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.k, self.n)


@dataclass(frozen=True)
class Tally:
    """How one version did against another."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def win_rate(self) -> Share:
        """Wins among the votes that name a winner."""
        return Share(self.wins, self.wins + self.losses)

    def plus(self, field: str) -> Tally:
        """One more of `wins`, `losses`, `ties` or `both_bad`."""
        counts = {"wins": self.wins, "losses": self.losses, "ties": self.ties, "both_bad": self.both_bad}
        return Tally(**(counts | {field: counts[field] + 1}))


def wilson_interval(k: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a share k/n (Wilson 1927); (nan, nan) for n = 0. ValueError unless 0 <= k <= n."""
    if not 0 <= k <= n:
        raise ValueError(f"k={k} of n={n} is no share. Needed is 0 <= k <= n.")
    if n == 0:
        return math.nan, math.nan
    p, shrink = k / n, 1.0 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def win_rates(judgements: Iterable[Judgement]) -> dict[tuple[str, str], Tally]:
    """(version, other version), in alphabetical order -> tally from the first one's point of view.

    Only the votes of `duels` count.
    """
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for judgement in duels(judgements):
        first, second = sorted((judgement.left_version, judgement.right_version))
        tallies[first, second] = tallies[first, second].plus(_outcome(judgement, first))
    return dict(sorted(tallies.items()))


def duels(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Those that compare two versions: without skips, attention checks and pairs of one version with itself."""
    return [j for j in judgements if j.verdict != "skip" and not j.is_check and j.left_version != j.right_version]


def _outcome(judgement: Judgement, version: str) -> str:
    """The field of Tally that this answer adds to, from the point of view of `version`."""
    if judgement.verdict in ("left", "right"):
        winner = judgement.left_version if judgement.verdict == "left" else judgement.right_version
        return "wins" if winner == version else "losses"
    return "ties" if judgement.verdict == "tie" else "both_bad"


def grouped(
    judgements: Iterable[Judgement], key: Callable[[Judgement], str]
) -> dict[str, dict[tuple[str, str], Tally]]:
    """win_rates of each group by `key`, such as the prompt or the criterion; groups without a comparison are absent."""
    groups: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        groups[key(judgement)].append(judgement)
    tallies = {name: win_rates(members) for name, members in sorted(groups.items())}
    return {name: tally for name, tally in tallies.items() if tally}


def position_bias(judgements: Iterable[Judgement]) -> tuple[Share, float]:
    """How often the left side wins where one side wins, and the two-sided exact p of that under a fair coin.

    Pairs of a motion with itself count too: there a winner shows nothing but the bias. Checks beside noise don't.
    """
    from scipy.stats import binomtest

    asked = [j for j in judgements if j.left == j.right or not j.is_check]
    verdicts = [judgement.verdict for judgement in asked if judgement.verdict in ("left", "right")]
    share = Share(verdicts.count("left"), len(verdicts))
    return share, float(binomtest(share.k, share.n).pvalue) if share.n else math.nan


def self_consistency(judgements: Iterable[Judgement]) -> Share:
    """How often an annotator who met a comparison again, as another pair, answered as the time before.

    Judgements must be oldest first. Skips and attention checks are left out.
    """
    answers: dict[tuple[str, Hashable], list[str]] = defaultdict(list)
    for judgement in judgements:
        if judgement.verdict != "skip" and not judgement.is_check:
            answers[judgement.annotator, judgement.unit].append(judgement.answer)
    repeats = [pair for given in answers.values() for pair in zip(given, given[1:], strict=False)]
    return Share(sum(first == again for first, again in repeats), len(repeats))


def passed_checks(judgements: Iterable[Judgement]) -> Share:
    """How often an attention check was answered as it should be; skips are left out."""
    passed = [judgement.passed for judgement in judgements if judgement.is_check and judgement.verdict != "skip"]
    return Share(sum(passed), len(passed))


def agreement(judgements: Iterable[Judgement]) -> float:
    """Krippendorff's alpha over everything that several annotators judged; 1 = perfect, 0 = chance.

    An annotator's first answer to a unit counts. Skips are missing values. NaN where it is undefined: no unit with
    two answers, or the same answer everywhere.
    """
    ratings: dict[Hashable, dict[str, str]] = defaultdict(dict)
    for judgement in judgements:
        if judgement.verdict != "skip" and not judgement.is_check:
            first, second = sorted((judgement.left, judgement.right))
            answer = {first: "first", second: "second"}.get(judgement.answer, judgement.answer)
            ratings[judgement.unit].setdefault(judgement.annotator, answer)
    return nominal_alpha(list(ratings.values()))


def nominal_alpha(units: Sequence[Mapping[str, Hashable]]) -> float:
    """Krippendorff's alpha for nominal values; each unit maps annotators to their value. NaN where it is undefined.

    alpha = 1 - D_o / D_e; of n values in units that hold two or more, n_c are c:
    D_o = 1/n sum_u (m_u^2 - sum_c n_uc^2) / (m_u - 1),  D_e = (n^2 - sum_c n_c^2) / (n (n - 1)).
    """
    pairable = [Counter(unit.values()) for unit in units if len(unit) > 1]
    totals = sum(pairable, Counter())
    n = totals.total()
    if len(totals) < 2:
        return math.nan
    observed = sum(_unlike(values) / (values.total() - 1) for values in pairable) / n
    return 1.0 - observed / (_unlike(totals) / (n * (n - 1)))


def _unlike(counts: Counter) -> int:
    """Ordered pairs of different values."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())
