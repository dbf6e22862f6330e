"""The live loop in real Chromium: votes that follow a rule, Refine & align, a new version, its name, the way back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.learning.versions import VersionStore
from core.preference.annotators import Annotator
from core.preference.store import PreferenceStore

PROMPTS = ("a person walks forward", "a person waves with the right hand", "a person bows")
VOTES = 12
PATIENCE_S = 600.0  # test machines may be busy; each wait ends as soon as it can

pytestmark = pytest.mark.e2e


@pytest.fixture
def open_page(browser):
    """Opens a URL and fails the test on any script error."""
    contexts, errors = [], []

    def open_url(url: str):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce"))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#generate")
        return page

    yield open_url
    for context in contexts:
        context.close()
    assert not errors


def vote(page, store: PreferenceStore, prompt: str) -> str:
    """Generate a pair, vote for the higher hands, return what the page then tells."""
    page.get_by_role("tab", name="Compare").click()
    page.fill("#prompt textarea", prompt)
    page.click("#generate")
    page.wait_for_selector("#vote-left:not([disabled])")
    page.wait_for_selector("#player .mp[data-state=ready]")
    (record,) = store.recent(limit=1)
    left, right = (store.load_motion(take) for take in (record.pair.left, record.pair.right))
    page.click(f"#vote-{Annotator('higher hands', noise=0.0).vote(left, right, prompt)}")
    page.wait_for_selector("#reveal .reveal")
    return page.inner_text("#reveal")


def show_versions(page) -> None:
    page.get_by_role("tab", name="Learn").click()
    page.wait_for_selector("#versions table")


def row_of(page, name: str):
    return page.locator("#versions tbody tr", has=page.locator("td:first-child b", has_text=name)).first


def curves_while_it_learns(page) -> list[str]:
    """The distinct curves seen from the start of a job to its end."""
    seen: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        drawn = page.inner_html("#curves")
        if drawn not in seen:
            seen.append(drawn)
        if page.is_visible("#refine"):
            return seen
        page.wait_for_timeout(200)
    raise AssertionError("the job does not end")


def test_votes_make_a_version_that_is_named_and_can_be_rolled_back(
    launch_app, open_page, live_checkpoints: Path, tmp_path: Path
) -> None:
    """Prevents a loop that is broken anywhere between a click and the next model."""
    app = launch_app(tmp_path, live_checkpoints)
    page, store = open_page(app.url), PreferenceStore(tmp_path)
    show_versions(page)
    assert page.is_disabled("#refine") and "5 more votes" in page.inner_text("#job")
    for i in range(VOTES):
        assert "v1" not in vote(page, store, PROMPTS[i % len(PROMPTS)])

    show_versions(page)
    page.wait_for_selector("#refine:not([disabled])")
    assert page.inner_text("#tally").split() == [str(VOTES), "votes", f"{VOTES}", "new"]
    page.click("#refine")
    page.wait_for_selector("#stop-refine")
    assert len(curves_while_it_learns(page)) > 2, "the curves don't move"
    page.screenshot(path=tmp_path / "learnt.png")
    assert "v1 was made" in page.inner_text("#job"), page.inner_text("#job")
    assert page.locator("#curves polyline").count() >= 3
    assert "in use" in row_of(page, "v1").inner_text() and "EasyTune-aligned" in row_of(page, "v1").inner_text()
    assert "was v1" in vote(page, store, PROMPTS[0])

    show_versions(page)
    row_of(page, "EasyTune-aligned").get_by_role("button", name="Use").click()
    page.wait_for_selector("#versions tr.in-use:has-text('EasyTune-aligned')")
    page.screenshot(path=tmp_path / "rolled-back.png")
    told = vote(page, store, PROMPTS[1])
    assert "was EasyTune-aligned" in told and "was v1" not in told

    show_versions(page)
    page.click("#refine")
    page.wait_for_selector("#job .job")
    app.kill()
    again = open_page(launch_app(tmp_path, live_checkpoints).url)
    show_versions(again)
    assert VersionStore(live_checkpoints, tmp_path).names() == ["base", "aligned", "v1"]
    assert not list((tmp_path / "versions").glob(".work-*"))
    assert "in use" in row_of(again, "EasyTune-aligned").inner_text() and again.is_visible("#refine")
    assert again.locator("#curves polyline").count() >= 3, "the curves of the last version are gone"


def test_two_people_keep_their_tastes_apart(launch_app, open_page, live_checkpoints: Path, tmp_path: Path) -> None:
    """Prevents a switch that does nothing, and a visitor who is shown another's taste first."""
    versions, store = VersionStore(live_checkpoints, tmp_path), PreferenceStore(tmp_path)
    url = launch_app(tmp_path, live_checkpoints).url
    pages = {name: open_page(url) for name in ("ada", "ben")}
    for name, page in pages.items():
        page.get_by_label("Advanced settings").check()
        page.fill("#annotator input, #annotator textarea", name)
        vote(page, store, PROMPTS[0])
        show_versions(page)
    pages["ada"].get_by_label("One each").check()
    pages["ada"].wait_for_selector("#tally:has-text('1 vote of ada')")
    assert versions.choices().apart
    pages["ben"].get_by_role("tab", name="Compare").click()
    show_versions(pages["ben"])
    pages["ben"].wait_for_selector("#tally:has-text('1 vote of ben')")
    row_of(pages["ben"], "base").get_by_role("button", name="Use").click()
    pages["ben"].wait_for_selector("#versions tr.in-use:has-text('base')")
    assert versions.sides("ben") == ("aligned", "base") and versions.sides("ada") == ("base", "aligned")
    pages["ben"].get_by_label("One for all").check()
    pages["ben"].wait_for_selector("#tally:has-text('2 votes')")
    assert versions.sides("ben") == ("base", "aligned")
