"""The whole program as a user starts it: `python app.py`, in a process of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.live import CHROMIUM, CHROMIUM_FLAGS, PATIENCE_S, App, start_app

WATCH_FIRST_MS = 500  # app/page.js takes a key for a mistake in the first 300 ms of a pair

LISTEN_JS = """
window.__heard = [];
const fetched = window.fetch;
window.fetch = async (...asked) => {
  const answer = await fetched(...asked);
  window.__heard.push(String(asked[0]?.url ?? asked[0]), JSON.stringify([...answer.headers]));
  listen(answer.clone()).catch(() => {});
  return answer;
};
async function listen(answer) { // piece by piece: streams of events never end
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) window.__heard.push(piece.value);
}
const Source = window.EventSource;
window.EventSource = class extends Source {
  constructor(...asked) {
    super(...asked);
    window.__heard.push(String(asked[0]));
    this.addEventListener("message", (event) => window.__heard.push(event.data));
  }
};
window.__frames = [];
addEventListener("motionshown", () => {
  const player = window.__motionPlayers[0];
  window.__frames.push({ took: performance.now() - window.__asked, heads: [0, 1].map((i) => player.joints(i)[15]) });
});
"""  # what the network says, and what both bodies do when the first frame of a pair is drawn


@pytest.fixture(scope="module")
def launch_app() -> Iterator[Callable[..., App]]:
    """start_app whose processes end with the file of tests at the latest: even idle ones take a share of a core."""
    running: list[App] = []

    def launch(data_dir: Path, checkpoints: Path, *more: str) -> App:
        running.append(start_app(data_dir, checkpoints, *more))
        return running[-1]

    yield launch
    for app in running:
        app.kill()


@pytest.fixture(scope="module")
def browser():
    """A Chromium that draws in software; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def filled_dir(fourteen_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of fourteen_pairs for one module, which may add to it."""
    return shutil.copytree(fourteen_pairs, tmp_path_factory.mktemp("library") / "data")


@pytest.fixture(scope="session")
def fourteen_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an arena with 14 pairs of standing bodies; "ada" and "bob" have voted on all but the last."""
    import numpy as np

    from core.body.smpl_files import load_body
    from core.motion.features import extract_features
    from core.motion.skeleton import N_JOINTS
    from core.preference.store import PreferenceStore
    from core.preference.types import Pair, Take, now

    folder = tmp_path_factory.mktemp("library")
    store = PreferenceStore(folder)
    at_rest = np.tile(np.eye(3), (41, N_JOINTS, 1, 1))
    for i in range(14):
        made = {"prompt": f"a person waits, number {i}", "seed": i, "frames": 40, "steps": 2, "guidance_scale": 2.5}
        made |= {"solver": "dpm++", "weights_sha256": "0" * 16, "text_encoder": "minilm", "device": "cpu"}
        made |= {"code_version": "0.1", "torch_version": "2.13"}
        sides = []
        for version in ("base", "aligned")[:: 1 if i % 2 else -1]:
            standing = np.tile(load_body().joints[:N_JOINTS] + [0.0, 1.0, 0.0], (41, 1, 1))
            walked = 0.1 * i + (0.05 if version == "aligned" else 0.0)  # equal sides would be an attention check
            standing[:, :, 2] += np.linspace(0.0, walked, 41)[:, None]
            motion = store.save_motion(extract_features(standing, at_rest))
            sides.append(Take(**made, model_version=version, motion_sha256=motion))
        store.add_pair(Pair(f"{i:012x}", *sides, now()))
        for name, verdict in (("ada", "left"), ("bob", ("right", "tie", "left")[i % 3])) if i < 13 else ():
            store.record_vote(f"{i:012x}", verdict, name, "0.1", 3.0)
    store.close()
    return folder


@pytest.fixture(scope="module")
def filled_app(launch_app, filled_dir: Path, tiny_checkpoints: Path) -> App:
    """The page over filled_dir, with tiny models."""
    return launch_app(filled_dir, tiny_checkpoints)


@pytest.fixture
def open_page(browser):
    """Opens a URL at 1280x720, waits for `until`, and fails the test on any script error. listen: see LISTEN_JS."""
    contexts, errors = [], []

    def open_url(url: str, width: int = 1280, height: int = 720, until: str = "#generate", listen: bool = False):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if listen:
            page.add_init_script(LISTEN_JS)
        page.goto(url)
        page.wait_for_selector(until)
        return page

    yield open_url
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def press():
    """press(page, key, effect): press until the selector `effect` is there; keys too soon after a pair are ignored."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    def press_until(page, key: str, effect: str) -> None:
        for _ in range(10):
            page.wait_for_timeout(WATCH_FIRST_MS)
            page.keyboard.press(key)
            try:
                page.wait_for_selector(effect, timeout=20_000)
                return
            except PlaywrightTimeout:
                continue
        raise AssertionError(f"{key} has no effect")

    return press_until
