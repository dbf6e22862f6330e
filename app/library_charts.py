"""The statistics as HTML: figures, tables, and intervals drawn in table cells. User texts are escaped here."""

from __future__ import annotations

import math
from html import escape

from app import texts
from core.preference.report import PreferenceReport, Tallies
from core.preference.statistics import Share, Tally
from core.preference.statistics_ranking import ELO_MEAN, Rank

NO_VOTES = "No votes yet. Vote in Compare; win rates, ranking and agreement appear here."
_HEAD = ("wins", "losses", "ties", "both bad", "win rate", "95 % interval")
_MIN_ELO_HALF_WIDTH = 50.0  # points to each side of the middle that a ranking's axis shows at least


def statistics_html(report: PreferenceReport) -> str:
    """Everything of the report; a sentence where there are no votes."""
    if not report.votes:
        return f'<p class="empty">{NO_VOTES}</p>'
    sections = [
        _figures(report),
        _section(
            "Ranking", _ranking(report.ranking), "Bradley-Terry strengths in Elo points, with bootstrap intervals."
        ),
        _section("Win rates", _tallies({"": report.versions}, "Comparison"), "Wilson intervals; ties are left out."),
        _section("By criterion", _tallies(report.criteria, "Criterion"), "Each criterion that was answered."),
        _section("By prompt", _tallies(report.prompts, "Prompt"), "Few votes each: look at the intervals first."),
    ]
    return "".join(sections)


def _figures(report: PreferenceReport) -> str:
    """The first look: six figures in a row."""
    figures = [
        ("Blind votes", str(report.votes), f"{report.not_blind} more were not blind and are left out"),
        ("Annotators", str(report.annotators), "with at least one blind vote"),
        ("Agreement", _alpha(report.alpha), "Krippendorff's alpha; 1 is perfect, 0 is chance"),
        ("Self-consistency", *_share(report.consistency, "repeated comparisons", "no comparison was repeated")),
        ("Checks passed", *_share(report.checks, "attention checks", "no attention check was shown")),
        ("Left side wins", *_share(report.left_wins, _p_value(report.left_p_value), "no vote names a side")),
    ]
    items = "".join(
        f"<div><dt>{name}</dt><dd><b>{value}</b><span>{note}</span></dd></div>" for name, value, note in figures
    )
    return f'<dl class="figures">{items}</dl>'


def _alpha(alpha: float) -> str:
    return "–" if math.isnan(alpha) else f"{alpha:.2f}"


def _share(share: Share, of: str, none: str) -> tuple[str, str]:
    """A share and its interval in words."""
    if not share.n:
        return "–", none
    low, high = share.interval
    return _percent(share.rate), f"{_percent(low)} to {_percent(high)}, {share.n} {of}"


def _p_value(p_value: float) -> str:
    return "votes" if math.isnan(p_value) else f"votes, p = {p_value:.2g}"


def _section(title: str, table: str, note: str) -> str:
    region = f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">{table}</div>'
    return f'<section><h2>{title}</h2><p class="meta">{note}</p>{region}</section>'


def _ranking(ranks: list[Rank]) -> str:
    reach = max([_MIN_ELO_HALF_WIDTH, *(abs(x - ELO_MEAN) for rank in ranks for x in (rank.low, rank.high))])
    rows = []
    for place, rank in enumerate(ranks, start=1):
        at = [(x - ELO_MEAN) / (2 * reach) + 0.5 for x in (rank.low, rank.elo, rank.high)]
        name = escape(texts.version_words(rank.version))
        figures = f'<td class="num">{rank.elo:.0f}</td><td class="num">{rank.low:.0f} to {rank.high:.0f}</td>'
        rows.append(
            f'<tr><td class="num">{place}</td><th scope="row">{name}</th>{figures}<td>{_interval(*at)}</td></tr>'
        )
    return _table(("", "Version", "Elo", "95 % interval", f"around {ELO_MEAN:.0f}, ± {reach:.0f}"), rows)


def _tallies(groups: dict[str, Tallies], head: str) -> str:
    rows = [_tally(group, pair, tally) for group, tallies in groups.items() for pair, tally in tallies.items()]
    return _table((head, *_HEAD, "0 to 100 %"), rows) if rows else '<p class="empty">No comparison yet.</p>'


def _tally(group: str, versions: tuple[str, str], tally: Tally) -> str:
    first, second = (escape(texts.version_words(version)) for version in versions)
    name = f"{first} over {second}" if not group else f"{escape(group)}<small>{first} over {second}</small>"
    low, high = tally.win_rate.interval
    cells = [tally.wins, tally.losses, tally.ties, tally.both_bad, _percent(tally.win_rate.rate)]
    cells.append(f"{_percent(low)} to {_percent(high)}")
    numbers = "".join(f'<td class="num">{cell}</td>' for cell in cells)
    drawn = "" if math.isnan(low) else _interval(low, tally.win_rate.rate, high)
    return f'<tr><th scope="row">{name}</th>{numbers}<td>{drawn}</td></tr>'


def _interval(low: float, at: float, high: float) -> str:
    """A point with its interval on an axis from 0 to 1 with a line at one half."""
    x = [round(2 + 156 * value, 1) for value in (low, at, high)]
    shapes = f'<path class="half" d="M80,1V19"/><path class="range" d="M{x[0]},10H{x[2]}"/>'
    shapes += f'<circle cx="{x[1]}" cy="10" r="4"/>'
    return f'<svg class="interval" viewBox="0 0 160 20" width="160" height="20" aria-hidden="true">{shapes}</svg>'


def _table(head: tuple[str, ...], rows: list[str]) -> str:
    cells = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in head)
    return f'<table class="figures-table"><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"
