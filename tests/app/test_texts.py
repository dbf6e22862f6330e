"""What the page says: the right names on the right sides, and nothing a user typed as markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app import texts
from app.gallery import Gallery
from app.library_charts import statistics_html
from core.engine import Status
from core.preference.report import PreferenceReport
from core.preference.statistics import Judgement
from core.preference.store import PairRecord, PreferenceStore
from core.preference.types import Pair, Take, Verdict, Vote, now

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(PreferenceStore(tmp_path))


def make_vote(verdict: Verdict = "left", annotator: str = "ada") -> Vote:
    return Vote("abc", verdict, annotator, now(), "aligned", "base", "0.1.0", 1.0, True)


def make_record(*votes: Vote, prompt: str = "a person walks") -> PairRecord:
    shared = dict(prompt=prompt, seed=12, frames=40, steps=50, guidance_scale=2.5, solver="ddim", weights_sha256="0")
    shared |= dict(text_encoder="minilm", device="cpu", code_version="0", torch_version="0", motion_sha256="0")
    left, right = (Take(model_version=version, **shared) for version in ("aligned", "base"))  # type: ignore[arg-type]
    return PairRecord(Pair("abc", left, right, now()), votes)


def test_reveal_and_labels_name_the_sides_of_the_vote() -> None:
    """Prevents a reveal with the names swapped."""
    line = texts.reveal(make_vote("right"))
    assert line.index("A</b> was <b>EasyTune-aligned") < line.index("B</b> was <b>base")
    assert line.index("B is better") < line.index("A</b>")
    assert texts.revealed_labels(make_vote()) == ("A · EasyTune-aligned", "B · base")


@pytest.mark.parametrize("verdict", ["left", "right", "tie", "both_bad", "skip"])
def test_every_verdict_has_words(verdict: Verdict) -> None:
    """Prevents a KeyError after the vote has been stored."""
    assert texts.VERDICT_WORDS[verdict] in texts.reveal(make_vote(verdict))


def test_history_hides_names_and_answers_until_the_own_vote(gallery: Gallery) -> None:
    """Prevents the library from giving the blind test away, by names or by what others said."""
    voted = make_record(make_vote(), make_vote("tie", "bob"))
    closed = gallery.cards([voted], "cleo", False, "")
    assert "aligned" not in closed and "A is better" not in closed and "Tie" not in closed
    own, asked_for = (gallery.cards([voted], *who, "") for who in (("ada", False), ("cleo", True)))
    assert "A EasyTune-aligned, B base" in own and "you: <b>A is better</b>" in own and "1 × Tie" in own
    assert "A EasyTune-aligned, B base" in asked_for and "you" not in asked_for and "1 × A is better" in asked_for


def test_replay_says_what_may_be_answered() -> None:
    """Prevents a first vote by somebody who has seen the names."""
    pair = make_record().pair
    assert "names come after" in texts.replayed(pair, None, True)
    assert "no place for a first vote" in texts.replayed(pair, None, False)
    assert "Your answer: Tie" in texts.replayed(pair, make_vote("tie"), True)


def test_typed_text_is_never_markup(gallery: Gallery) -> None:
    """Prevents a prompt or a name from running in another visitor's browser."""
    html = [gallery.cards([make_record(prompt=HOSTILE)], "ada", True, ""), texts.notice(HOSTILE, "error")]
    html.append(texts.replayed(make_record(prompt=HOSTILE).pair, None, True))
    names = ("p", HOSTILE, "ada", "m0", "m1", "base", HOSTILE, "left")
    judged = [Judgement(*names), Judgement(*names, criterion=HOSTILE)]
    html.append(statistics_html(PreferenceReport.of(judged)))
    html.append(texts.status_pill(Status(False, HOSTILE)))
    for piece in html:
        assert "<script>" not in piece and "&lt;script&gt;" in piece


def test_pill_says_loading_ready_or_failed() -> None:
    """Prevents a green light over models that aren't there."""
    assert 'class="pill loading"' in texts.status_pill(Status(False, "Loading PyTorch ..."))
    assert 'class="pill ready"' in texts.status_pill(Status(True, "Ready"))
    assert 'class="pill error"' in texts.status_pill(Status(False, "Failed", "base is missing"))


def test_example_prompts_are_read_in_order_and_may_be_absent(tmp_path: Path) -> None:
    """Prevents a page that doesn't open because an asset is missing."""
    (tmp_path / "prompts.json").write_text(json.dumps(["one", "two", "three"]))
    assert texts.example_prompts(tmp_path / "prompts.json", 2) == ("one", "two")
    assert texts.example_prompts(tmp_path / "none.json", 2) == ()


def test_counts_are_grammatical() -> None:
    """Prevents "1 votes"."""
    assert (texts.count(1, "vote"), texts.count(0, "vote")) == ("1 vote", "0 votes")
