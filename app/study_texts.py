"""Sentences and small pieces of HTML of a study's page. What comes from the study file is escaped here."""

from __future__ import annotations

from html import escape

from core.preference.studies import Study
from core.preference.studies_queue import StudyProgress

_KEYS = (("←", "A"), ("→", "B"), ("↓", "tie"), ("↑", "both bad"), ("S", "skip"), ("Z", "back"), ("Space", "play"))
KEYS = '<p class="keys">' + "".join(f"<span><kbd>{key}</kbd> {what}</span>" for key, what in _KEYS) + "</p>"
_DEFAULT_INSTRUCTIONS = "Two bodies act out the same sentence. Watch both, then say which one did it better."


def phase(name: str) -> str:
    """Which part of the page is to be seen, "welcome", "watch" or "end"; app/study.css shows it."""
    return f'<i data-phase="{name}"></i>'


def instructions(study: Study) -> str:
    """The study's own words, a paragraph for each line, or a sentence where it has none."""
    lines = (study.instructions.strip() or _DEFAULT_INSTRUCTIONS).splitlines()
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines if line.strip())
    return f'<h2 class="study-name">{escape(study.name)}</h2><div class="instructions">{paragraphs}</div>'


def sentence(prompt: str) -> str:
    """What the two bodies act out."""
    return f'<p class="sentence">{escape(prompt)}</p>'


def progress(at: StudyProgress) -> str:
    """Pair n of m, in words and as a bar."""
    number = min(at.answered + 1, at.total)
    label = f"Pair {number} of {at.total}"
    bar = f'<progress max="{at.total}" value="{at.answered}" aria-label="Pairs answered"></progress>'
    return f'<p class="study-progress"><span>{label}</span>{bar}</p>'


def thanks(at: StudyProgress) -> str:
    """The last screen."""
    pairs = f"{at.answered} pair{'' if at.answered == 1 else 's'}"
    said = f"You have answered {pairs}. " if at.answered else ""
    none = "" if at.done else "There is nothing else to judge at the moment. "
    return (
        f'<h2 class="study-name" role="status">{"Thank you" if at.answered else "Nothing to judge"}</h2>'
        f'<div class="instructions"><p>{said}{none}Everything is saved; you can close this page.</p></div>'
    )
