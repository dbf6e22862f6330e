"""What the Learn tab says: sentences and tables as HTML, from plain values."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.texts import count, version_words
from app.worker import JobStatus
from core.learning.progress import MIN_VOTES
from core.learning.versions import Version


def tally(votes: int, annotator: str, learnt: int) -> str:
    """How many votes there are to learn from, whose, and how many of them are not learnt yet."""
    new = max(0, votes - learnt)
    whose = f" of {escape(annotator)}" if annotator else ""
    words = f"<b>{votes}</b> <span>{'vote' if votes == 1 else 'votes'}{whose}</span><small>{new} new</small>"
    return f'<p class="tally">{words}</p>'


def reason(votes: int) -> str:
    """Why the button is off; empty where it is on."""
    missing = MIN_VOTES - votes
    return "" if missing <= 0 else f"{count(missing, 'more vote')} in Compare, then this starts. Ties count too."


def taste(version: Version | None) -> str:
    """What the votes prefer, in words. version: the newest one made of them."""
    if version is None:
        return (
            '<p class="taste">Nothing is learnt yet. After Refine &amp; align, what your votes prefer stands here.</p>'
        )
    if not version.learnt:
        return f'<p class="taste">{version.name} has found no preference that is sure yet. More votes help.</p>'
    words = "".join(f"<li>{escape(words)}</li>" for words in version.learnt)
    return f'<div class="taste"><b>The votes prefer</b><ul>{words}</ul></div>'


def progress(status: JobStatus) -> str:
    """The bar of a running job, or how the last one ended."""
    if status.state == "running":
        return _bar(status)
    if status.state == "failed":
        return f'<p class="notice error" role="alert">{escape(status.error)}</p>'
    if status.state == "cancelled":
        return '<p class="notice" role="status">Cancelled. Nothing was changed.</p>'
    if status.version is None:
        return ""
    seconds = status.rows[-1]["seconds"] if status.rows else 0
    words = f"<b>{status.version.name}</b> was made in {seconds:.0f} s and is in use."
    if status.version.stopped:
        words += f" It stopped early: {escape(status.version.stopped)}"
    return f'<p class="notice" role="status">{words} Vote on it in Compare, or roll back in the table.</p>'


def _bar(status: JobStatus) -> str:
    doing = escape(status.doing + (f" · {status.annotator}" if status.annotator else ""))
    seconds = status.rows[-1]["seconds"] if status.rows else 0
    figures = f"<span>{seconds:.0f} s · {status.done:.0%}</span>"
    bar = f'<progress max="1" value="{status.done:.3f}" aria-label="{doing}"></progress>'
    return f'<div class="job"><span>{doing}</span>{figures}{bar}</div>'


def versions_table(versions: Sequence[Version], sides: tuple[str, str]) -> str:
    """All versions, newest first; buttons carry the version in data-use or data-compare."""
    head = "".join(
        f"<th>{name}</th>" for name in ("Version", "", "Made from", "Votes", "Agreement", "Distance", "Made (UTC)")
    )
    rows = "".join(f"<tr{_mark(version, sides)}>{_cells(version, sides)}</tr>" for version in reversed(versions))
    return f'<table class="versions"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _mark(version: Version, sides: tuple[str, str]) -> str:
    return ' class="in-use"' if version.name == sides[1] else ""


def _cells(version: Version, sides: tuple[str, str]) -> str:
    distance = (version.monitors or {}).get("distance")
    values = (
        version_words(version.parent) if version.parent else "–",
        " · ".join(filter(None, (str(version.votes), version.annotator))) if version.votes else "–",
        f"{version.pair_accuracy:.0%}" if version.pair_accuracy is not None else "–",
        f"{distance:.3f}" if distance is not None else "–",
        f"{version.created:%Y-%m-%d %H:%M}" if version.created else "shipped",
    )
    name = f"<td><b>{escape(version_words(version.name))}</b>{_badge(version.name, sides)}</td>"
    return name + f"<td>{_buttons(version, sides)}</td>" + "".join(f"<td>{escape(value)}</td>" for value in values)


def _badge(name: str, sides: tuple[str, str]) -> str:
    if name == sides[1]:
        return '<span class="badge">in use</span>'
    return '<span class="badge other">compared with</span>' if name == sides[0] else ""


def _buttons(version: Version, sides: tuple[str, str]) -> str:
    name = escape(version.name)
    in_use = version.name == sides[1]
    use = "" if in_use else f'<button type="button" data-use="{name}">Use</button>'
    if not version.parent or sides == (version.parent, version.name):  # nothing to compare, or compared already
        return use
    return (
        use
        + f'<button type="button" data-compare="{name}">Compare with {escape(version_words(version.parent))}</button>'
    )
