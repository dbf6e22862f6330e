"""An evening of labelling by keyboard alone: what was pressed is what is exported, event by event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.commands.export import main as export

pytestmark = pytest.mark.e2e

OPEN, VOTED = "#vote-left:not([disabled])", "#reveal .reveal"
PRESSED = (
    "ArrowLeft",
    "ArrowRight",
    "ArrowDown",
    "ArrowUp",
    "ArrowLeft",
    "ArrowRight",
    "ArrowDown",
    "ArrowUp",
    "ArrowLeft",
)
VERDICT = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowDown": "tie", "ArrowUp": "both_bad", "s": "skip"}


def tab_to(page, selector: str) -> None:
    """Press Tab until the focus is on it, as somebody without a mouse would."""
    for _ in range(150):
        if page.evaluate("(selector) => Boolean(document.activeElement?.closest(selector))", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} can't be reached with Tab")


def next_pair(page, press) -> None:
    nonce = page.locator("#player [data-nonce]").get_attribute("data-nonce")
    press(page, "r", f"#player [data-nonce]:not([data-nonce='{nonce}'])")
    page.wait_for_selector(OPEN)


def test_ten_pairs_one_undone_one_changed_one_skipped(
    launch_app, open_page, press, tiny_checkpoints: Path, tmp_path: Path
) -> None:
    """Prevents a key that does something else than its legend says, and an export that leaves out or adds an event."""
    page = open_page(launch_app(tmp_path / "data", tiny_checkpoints).url)
    tab_to(page, "#prompt textarea")
    page.keyboard.type("a person walks")
    page.keyboard.press("Enter")
    page.wait_for_selector(OPEN)
    for key in PRESSED:
        press(page, key, VOTED)
        next_pair(page, press)
    press(page, "s", VOTED)  # the tenth
    press(page, "z", OPEN)  # ... undone, and skipped after all
    press(page, "s", VOTED)
    next_pair(page, press)
    press(page, "ArrowRight", VOTED)  # changed below
    change_the_newest_one(page)
    expected = [("vote", VERDICT[key]) for key in PRESSED]
    expected += [("vote", "skip"), ("undo", None), ("vote", "skip"), ("vote", "right"), ("vote", "tie")]

    export(["preferences", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--keep-names"])
    events, pairs, details = (lines(tmp_path / "out" / f"{name}.jsonl") for name in ("events", "pairs", "details"))
    assert [(event["kind"], event["verdict"]) for event in events] == expected
    assert len(pairs) == 11, "a pair that nobody saw is in the export"
    order = [pair["id"] for pair in pairs]
    assert [order.index(event["pair_id"]) for event in events] == [*range(10), 9, 9, 10, 10]
    assert [event["blind"] for event in events] == [True] * 10 + [False, False, True, False]
    assert all(event["response_s"] > 0 for event in events if event["kind"] == "vote")
    assert all(entry["plays"] is not None for entry in details)


def change_the_newest_one(page) -> None:
    """In the Library, from B to tie."""
    tab_to(page, "[role=tablist]")
    for _ in range(6):
        if page.evaluate("document.activeElement.textContent.includes('Library')"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#history button[data-act=replay]")
    tab_to(page, "#history button[data-act=replay]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#replay .mp[data-state=ready]")
    page.wait_for_selector("#again-tie:not([disabled])")
    tab_to(page, "#again-tie")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#again-tie').classList.contains('primary')")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
