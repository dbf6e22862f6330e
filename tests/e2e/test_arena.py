"""The arena in real Chromium: from a prompt to two moving bodies, a vote, a row, and the same motions again."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.live import PATIENCE_S
from core.engine import Engine
from core.preference.store import PreferenceStore
from core.settings import ROOT, Settings

PROMPT = "a tired person walks forward, then waves with the right hand"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoints: Path) -> Path:
    """The shipped models; tiny untrained ones of the same classes where none are shipped."""
    shipped = ROOT / "checkpoints"
    complete = all((shipped / name / "model.safetensors").is_file() for name in ("vae", "base", "aligned"))
    return shipped if complete else tiny_checkpoints


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arena")


@pytest.fixture(scope="module")
def app(launch_app, data_dir: Path, checkpoints: Path):
    return launch_app(data_dir, checkpoints)


def generate(page, prompt: str = PROMPT) -> None:
    page.fill("#prompt textarea", prompt)
    page.click("#generate")
    page.wait_for_selector("#vote-left:not([disabled])")
    page.wait_for_selector("#player .mp[data-state=ready]")


def new_picture(page, seen: list[bytes]) -> bytes:
    """A picture of the bodies unlike those seen; the test fails if they never move on."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        page.wait_for_timeout(300)
        picture = page.locator("#player canvas").screenshot()
        if picture not in seen:
            return picture
    raise AssertionError("the bodies don't move")


def test_prompt_to_moving_bodies_to_vote_to_the_same_motions(app, open_page, data_dir: Path, checkpoints: Path) -> None:
    """Prevents a broken chain anywhere between the prompt and a vote that can be learnt from."""
    page = open_page(app.url)
    assert page.is_disabled("#vote-left") and page.is_disabled("#vote-right")
    generate(page)
    pictures: list[bytes] = []
    for _ in range(3):
        pictures.append(new_picture(page, pictures))
    assert not re.search("base|aligned", page.inner_text("#stage"), re.IGNORECASE), "names are shown before the vote"

    page.click("#vote-right")
    page.wait_for_selector("#reveal .reveal")
    revealed = page.inner_text("#reveal")
    assert all(page.is_disabled(f"#vote-{verdict}") for verdict in ("left", "right", "tie", "both_bad", "skip"))

    engine = Engine(Settings(device="cpu", data_dir=data_dir, checkpoints=checkpoints))
    (record, *_) = engine.store.recent()
    (vote,) = record.votes
    assert vote.verdict == "right" and vote.blind and vote.response_s and vote.response_s > 0
    words = {"base": "base", "aligned": "EasyTune-aligned"}
    assert f"A was {words[vote.left_version]}, B was {words[vote.right_version]}" in revealed
    assert record.pair.left.prompt == PROMPT

    engine.start_loading()
    assert engine.wait_until_ready(PATIENCE_S).ready
    for take in (record.pair.left, record.pair.right):
        assert np.abs(engine.regenerate(take) - engine.store.load_motion(take)).max() <= 1e-5


def test_bodies_and_answers_fit_on_a_small_laptop(app, open_page) -> None:
    """Prevents scrolling between the bodies and the vote at 1280x720."""
    page = open_page(app.url)
    player, vote = page.locator("#player").bounding_box(), page.locator("#vote-left").bounding_box()
    assert player["y"] >= 0 and vote["y"] + vote["height"] <= 720
    assert player["width"] >= 800
    wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert wide, "the page scrolls sideways"


def test_phone_has_no_sideways_scrolling(app, open_page) -> None:
    """Prevents a page that is cut off on a phone."""
    page = open_page(app.url, 390, 844)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("prompt", "guidance", "sentence"),
    [
        ("", None, "The prompt is empty"),
        ("walk " * 1000, None, "The prompt has"),
        (PROMPT, "-3", "guidance_scale=-3"),
    ],
)
def test_bad_input_is_one_sentence(app, open_page, prompt: str, guidance: str | None, sentence: str) -> None:
    """Prevents tracebacks on the page, and a page that is stuck afterwards."""
    page = open_page(app.url)
    page.fill("#prompt textarea", prompt)
    if guidance is not None:
        page.get_by_label("Advanced settings").check()
        page.fill("#guidance input", guidance)
    page.click("#generate")
    page.wait_for_selector("#notice .notice.error")
    notice = page.inner_text("#notice")
    assert sentence in notice and "Traceback" not in notice
    assert page.is_enabled("#generate") and page.is_disabled("#vote-left")


def test_cancel_frees_the_page_and_stores_nothing(app, open_page, data_dir: Path) -> None:
    """Prevents a page that is stuck in a run nobody wants, and half a pair in the history."""
    store = PreferenceStore(data_dir)
    before = store.counts()
    page = open_page(app.url)
    page.wait_for_selector("#status .ready")
    page.fill("#prompt textarea", PROMPT)
    page.get_by_label("Reference").check()
    page.get_by_label("Advanced settings").check()
    page.wait_for_function("document.querySelector('#steps input').value === '50'")  # else it overwrites what follows
    page.fill("#steps input", "1000")
    page.click("#generate")
    page.wait_for_selector("#working .progress-bar")
    assert not page.is_visible("#generate")
    page.click("#cancel")
    page.wait_for_selector("#generate")
    assert "Cancelled" in page.inner_text("#notice")
    assert page.is_disabled("#vote-left") and store.counts() == before


def test_keyboard_alone_votes_undoes_and_goes_on(app, open_page, press, data_dir: Path) -> None:
    """Prevents keys that vote while a prompt is typed, and an undo that leaves the names on the screen."""
    page = open_page(app.url)
    page.focus("#prompt textarea")
    page.keyboard.type("a person zigzags, runs and stops")
    page.keyboard.press("Enter")
    page.wait_for_selector("#vote-left:not([disabled])")
    press(page, "ArrowLeft", "#reveal .reveal")
    assert page.locator("#player .mp-chip b").first.inner_text() != "A"
    press(page, "z", "#vote-left:not([disabled])")
    page.wait_for_function("document.querySelector('#player .mp-chip b').textContent === 'A'")
    press(page, "ArrowDown", "#reveal .reveal")
    pair_of_prompt = next(r for r in PreferenceStore(data_dir).recent() if "zigzags" in r.pair.left.prompt)
    (vote,) = pair_of_prompt.votes
    assert vote.verdict == "tie" and not vote.blind
    nonce = page.locator("#player [data-nonce]").get_attribute("data-nonce")
    press(page, "r", f"#player [data-nonce]:not([data-nonce='{nonce}'])")
    press(page, "Space", "#player .mp:not([data-playing])")


def test_download_names_keep_the_secret(app, open_page) -> None:
    """Prevents a file name, or a page inside a file, that tells the voter which model is which."""
    page = open_page(app.url)
    generate(page, "a person bows")
    features, player = (download(page, name) for name in ("B npy", "3D page"))
    assert re.fullmatch(r"arena-[0-9a-f]{12}-B\.npy", features.suggested_filename)
    assert np.load(features.path()).shape[1] == 263
    assert re.fullmatch(r"arena-[0-9a-f]{12}\.html", player.suggested_filename)
    assert not re.search("aligned|EasyTune", player.path().read_text())


def download(page, name: str):
    with page.expect_download() as caught:
        page.get_by_role("button", name=name).click()
    return caught.value


def test_library_shows_what_was_typed_as_text_and_replays_it(app, open_page) -> None:
    """Prevents a prompt from running as a script in another visitor's browser, and a history that can't be seen."""
    page = open_page(app.url)
    prompt = "walks ${window.hacked = 1} <img src=x onerror='window.hacked = 2'> {{this}} `\\"
    generate(page, prompt)
    page.get_by_role("tab", name="Library").click()
    row = page.locator("#history .card", has_text="window.hacked").first
    row.wait_for()
    assert row.locator(".prompt").inner_text() == prompt
    assert "hidden" in row.inner_text(), "names are shown before the vote"
    row.get_by_role("button", name="Replay").click()
    page.wait_for_selector("#replay .mp[data-state=ready]")
    assert page.evaluate("window.hacked") is None


def test_missing_checkpoints_are_named_and_the_page_opens(launch_app, open_page, tmp_path: Path) -> None:
    """Prevents a program that doesn't start, or generates noise, without its models."""
    page = open_page(launch_app(tmp_path / "data", tmp_path / "nothing").url)
    page.wait_for_selector("#alert .notice.error")
    alert = page.inner_text("#alert")
    assert "is missing" in alert and "python -m core train" in alert and "Traceback" not in alert
    page.fill("#prompt textarea", PROMPT)
    page.click("#generate")
    page.wait_for_selector("#notice .notice.error")
    assert "is missing" in page.inner_text("#notice")
