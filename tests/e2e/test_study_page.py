"""A study as an annotator meets it: by link, by keyboard, left and resumed, to the last screen; no name to be seen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.study_load import make_takes, study_toml
from core.preference.details import DetailStore
from core.preference.store import PreferenceStore, default_database
from core.preference.studies import Study

pytestmark = pytest.mark.e2e

NAMES = ("kappa-7", "sigma-9")  # versions, by names that occur nowhere else
STUDY = Study(
    "what we ask",
    tuple(f"a person walks {how}" for how in ("fast", "slowly", "home")),
    NAMES,
    votes_per_pair=2,
    pairs_per_person=3,
    repeats=0.34,
    comment=True,
    instructions="Look <b>closely</b>.\nTake your time.",
)
MOTION = re.compile(r"rotations\W{1,6}[A-Za-z0-9+/]{1000}")
NEW = "window.__frames.length > {}"


@pytest.fixture(scope="module")
def arena(launch_app, tmp_path_factory: pytest.TempPathFactory):
    """A running study and its folder; its motions are made beforehand, so no models are needed."""
    folder = tmp_path_factory.mktemp("study")
    make_takes(folder, None, STUDY)
    (folder / "study.toml").write_text(study_toml(STUDY))
    return launch_app(folder, folder / "no-models", "--study", str(folder / "study.toml")), folder


def answer(page, key: str) -> None:
    """Press a key and wait for the next pair."""
    before = page.evaluate("window.__frames.length")
    page.wait_for_timeout(400)  # keys right after a new pair are taken for late answers to the last
    page.keyboard.press(key)
    page.wait_for_function(NEW.format(before))


def test_from_the_link_to_the_last_screen(arena, open_page) -> None:
    """Prevents a study that shows more than it may, forgets where one was, or loses an answer."""
    app, folder = arena
    page = open_page(f"{app.url}/?annotator=ada", until="#study-begin", listen=True)
    page.wait_for_function("document.querySelector('#study-annotator :is(input, textarea)').value === 'ada'")
    assert "Look <b>closely</b>." in page.inner_text("#study-welcome") and not page.is_visible("#stage")
    assert page.locator("#prompt, #generate, #history, #downloads").count() == 0
    page.focus("#study-begin")
    page.keyboard.press("Enter")
    page.wait_for_function(NEW.format(0))
    assert "Pair 1 of 4" in page.inner_text("#study-progress")
    answer(page, "ArrowLeft")
    page.fill("#comment :is(input, textarea)", "s")  # no key while typing
    page.focus("#vote-tie")
    answer(page, "ArrowUp")
    answer(page, "z")
    assert "Pair 2 of 4" in page.inner_text("#study-progress")
    answer(page, "ArrowDown")

    page.goto(f"{app.url}/?annotator=ada")  # closed and opened again
    page.wait_for_function(NEW.format(0))
    assert "Pair 3 of 4" in page.inner_text("#study-progress")
    answer(page, "s")
    page.wait_for_timeout(400)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#study-end [role=status]")
    assert "You have answered 4 pairs" in page.inner_text("#study-end")
    heard = "".join(page.evaluate("window.__heard"))
    assert MOTION.search(heard), "the test is deaf: the motions did not come by where it listens"
    assert not any(name in heard + page.content() for name in NAMES), "a version's name got out"

    store = PreferenceStore(folder)
    events = [(event["kind"], event["verdict"], event["blind"]) for event in store.events()]
    votes = [
        ("vote", "left"),
        ("vote", "both_bad"),
        ("undo", None),
        ("vote", "tie"),
        ("vote", "skip"),
        ("vote", "right"),
    ]
    assert events == [(kind, verdict, kind == "vote") for kind, verdict in votes]
    assert all(vote.response_s and vote.response_s >= 0.3 for vote in store.votes())
    details = DetailStore(default_database(folder)).standing()
    assert [entry.plays is not None for entry in details] == [True] * 4


def test_name_is_asked_for(arena, open_page) -> None:
    """Prevents answers under no name."""
    app, _ = arena
    page = open_page(app.url, until="#study-begin")
    page.click("#study-begin")
    page.wait_for_selector("#study-refused .notice.error")
    assert "Enter a short name" in page.inner_text("#study-refused")
    page.fill("#study-annotator :is(input, textarea)", "bob")
    page.keyboard.press("Enter")
    page.wait_for_selector("#player .mp[data-state=ready]")


def test_an_answer_to_the_opening_that_comes_late_takes_nothing_back(arena, open_page) -> None:
    """Prevents a page that forgets why it refused, since the answer to its opening was slower than a click."""
    app, _ = arena
    page, held = open_page(app.url, until="#study-begin"), []
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    page.reload()
    page.click("#study-begin")
    page.wait_for_selector("#study-refused .notice.error")
    with page.expect_response("**/queue/join*"):
        held[0].continue_()
    page.wait_for_timeout(1500)
    assert "Enter a short name" in page.inner_text("#study-refused")


def test_missing_study_is_one_sentence(launch_app, tmp_path: Path) -> None:
    """Prevents a traceback for a mistyped path, and a study over versions that are not there."""
    with pytest.raises(RuntimeError, match="none.toml does not exist"):
        launch_app(tmp_path / "a", tmp_path, "--study", str(tmp_path / "none.toml"))
    (tmp_path / "study.toml").write_text(study_toml(replace(STUDY, name="other")))
    with pytest.raises(RuntimeError, match="version 'kappa-7' of the study is unknown"):
        launch_app(tmp_path / "b", tmp_path, "--study", str(tmp_path / "study.toml"))
