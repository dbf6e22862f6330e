"""The statistics of all votes in one value: as JSON, as Markdown, as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.motion.files import atomic_write
from core.preference.statistics import (
    OVERALL,
    Judgement,
    Share,
    Tally,
    agreement,
    grouped,
    passed_checks,
    position_bias,
    self_consistency,
    win_rates,
)
from core.preference.statistics_ranking import Rank, rank_versions

Tallies = dict[tuple[str, str], Tally]
_COLUMNS = "| {head} | wins | losses | ties | both bad | win rate | 95 % |\n| --- | --- | --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class PreferenceReport:
    """Figures of the blind votes. Versions are compared in alphabetical order, from the first one's point of view."""

    votes: int  # standing, blind
    not_blind: int  # standing, left out: the names had been seen
    annotators: int
    versions: Tallies
    ranking: list[Rank]  # strongest first
    alpha: float  # Krippendorff's, NaN where undefined
    consistency: Share  # same answer to a repeated comparison
    checks: Share  # passed attention checks
    left_wins: Share
    left_p_value: float  # of the position bias
    prompts: dict[str, Tallies]
    criteria: dict[str, Tallies]

    @staticmethod
    def of(judgements: Sequence[Judgement]) -> PreferenceReport:
        """From all judgements, oldest first."""
        blind = [judgement for judgement in judgements if judgement.blind]
        overall = [judgement for judgement in blind if judgement.criterion == OVERALL]
        versions, (left_wins, p_value) = win_rates(overall), position_bias(overall)
        return PreferenceReport(
            votes=len(overall),
            not_blind=sum(j.criterion == OVERALL and not j.blind for j in judgements),
            annotators=len({judgement.annotator for judgement in overall}),
            versions=versions,
            ranking=rank_versions(overall),
            alpha=agreement(overall),
            consistency=self_consistency(overall),
            checks=passed_checks(overall),
            left_wins=left_wins,
            left_p_value=p_value,
            prompts=grouped(overall, lambda judgement: judgement.prompt),
            criteria=grouped(blind, lambda judgement: judgement.criterion),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined figures are None."""
        return {
            "votes": self.votes,
            "not_blind": self.not_blind,
            "annotators": self.annotators,
            "versions": _tallies_dict(self.versions),
            "ranking": [vars(rank) for rank in self.ranking],
            "krippendorff_alpha": _number(self.alpha),
            "self_consistency": _share_dict(self.consistency),
            "attention_checks_passed": _share_dict(self.checks),
            "left_wins": {**_share_dict(self.left_wins), "p_value": _number(self.left_p_value)},
            "criteria": {name: _tallies_dict(tallies) for name, tallies in self.criteria.items()},
            "prompts": {name: _tallies_dict(tallies) for name, tallies in self.prompts.items()},
        }

    def to_markdown(self) -> str:
        """Tables for people; one row for each comparison of versions."""
        ranks = [f"| {r.version} | {r.elo:.0f} | {r.low:.0f} to {r.high:.0f} |" for r in self.ranking]
        sections = [
            "## Figures",
            f"{self.votes} blind votes by {self.annotators} annotators; {self.not_blind} votes that were not blind "
            "are left out. Intervals are 95 %.",
            _table("versions", {"": self.versions}),
            "\n".join(["| version | Elo (Bradley-Terry) | 95 % |", "| --- | --- | --- |", *ranks]),
            "\n".join(self._quality()),
            "### By criterion\n\n" + _table("criterion", self.criteria),
            "### By prompt\n\n" + _table("prompt", self.prompts),
        ]
        return "\n\n".join(sections)

    def _quality(self) -> list[str]:
        alpha = "undefined" if math.isnan(self.alpha) else f"{self.alpha:.3f}"
        p_value = "" if math.isnan(self.left_p_value) else f", p = {self.left_p_value:.3g}"
        return [
            f"- agreement between annotators: Krippendorff's alpha {alpha}",
            f"- the same answer to a repeated comparison: {_share_text(self.consistency)}",
            f"- attention checks passed: {_share_text(self.checks)}",
            f"- left side wins: {_share_text(self.left_wins)}{p_value}",
        ]

    def save(self, folder: Path) -> list[Path]:
        """Write report.json, report.md and report.png into the folder; returns their paths."""
        paths = [folder / f"report.{ending}" for ending in ("json", "md", "png")]
        texts = (json.dumps(self.to_dict(), indent=2, ensure_ascii=False), self.to_markdown())
        for path, text in zip(paths, texts, strict=False):
            _write_text(path, text + "\n")
        self.plot(paths[2])
        return paths

    def plot(self, path: Path) -> None:
        """Ranking and win rates with their intervals as a PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.0, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        ranks = self.ranking[::-1]
        _draw(left, [(r.version, r.elo, r.low, r.high) for r in ranks], "Elo (Bradley-Terry)")
        rates = [(f"{a} over {b}", t.win_rate.rate, *t.win_rate.interval) for (a, b), t in self.versions.items()]
        _draw(right, rates[::-1], "win rate", middle=0.5)
        atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))


def _draw(axes: Any, rows: list[tuple[str, float, float, float]], label: str, middle: float | None = None) -> None:
    """Points with intervals, one a line; rows of an undefined figure stay empty."""
    for y, (_, value, low, high) in enumerate(rows):
        if not math.isnan(value):
            axes.plot([low, high], [y, y], color="C0", linewidth=2)
            axes.plot(value, y, "o", color="C0")
    if middle is not None:
        axes.axvline(middle, color="0.7", linewidth=1)
        axes.set_xlim(0.0, 1.0)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(-0.5, max(len(rows), 1) - 0.5)
    axes.set_xlabel(f"{label}, 95 % intervals")


def _table(head: str, groups: dict[str, Tallies]) -> str:
    lines = [_COLUMNS.format(head=head)]
    for group, tallies in groups.items():
        for (first, second), tally in tallies.items():
            name = f"{first} over {second}" if not group else f"{_cell(group)} ({first} over {second})"
            low, high = tally.win_rate.interval
            counts = f"{tally.wins} | {tally.losses} | {tally.ties} | {tally.both_bad}"
            lines.append(f"| {name} | {counts} | {_percent(tally.win_rate.rate)} | {_percent(low)}-{_percent(high)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _share_text(share: Share) -> str:
    low, high = share.interval
    return f"{share.k} of {share.n}" + (
        f", {_percent(share.rate)} [{_percent(low)}, {_percent(high)}]" if share.n else ""
    )


def _share_dict(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"k": share.k, "n": share.n, "rate": _number(share.rate), "low": _number(low), "high": _number(high)}


def _tallies_dict(tallies: Tallies) -> dict[str, Any]:
    return {f"{a} over {b}": {**vars(t), "win_rate": _share_dict(t.win_rate)} for (a, b), t in tallies.items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _write_text(path: Path, text: str) -> None:
    atomic_write(path, lambda file: file.write(text.encode()))
