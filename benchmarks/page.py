"""How long the page takes, as a person in front of it sees it: `python -m benchmarks.page`.

Starts app.py on an empty data folder, opens it in Chromium (software WebGL unless told otherwise) and measures from
process start to the first answer and to ready, and from each click on Generate to the first frame of the new bodies on
the screen (the player waits for the graphics driver before it says so). Clicks take turns between the samplers. Prints
a Markdown table and writes every single time to JSON. Needs playwright and Chromium (requirements-dev.txt).
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from benchmarks.generation import deliver, machine
from benchmarks.live import CHROMIUM, CHROMIUM_FLAGS, PATIENCE_S, App, start_app
from core.request import SAMPLERS

if TYPE_CHECKING:
    from playwright.sync_api import Page

log = logging.getLogger(__name__)

_WATCH_JS = """
addEventListener("click", (event) => {
  if (event.target.closest("#generate")) window.__clicked = performance.now();
}, true);
new MutationObserver(() => {
  const player = document.querySelector("#player [data-nonce]");
  if (!player || player.dataset.nonce === window.__nonce) return;
  window.__nonce = player.dataset.nonce;
  window.__shown = { total: performance.now() - window.__clicked, player: Number(player.dataset.firstFrameMs) };
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-nonce"] });
"""  # the player sets data-nonce when the first frame of a pair has been drawn


@dataclass(frozen=True)
class PageTimes:
    """Measure the page in a browser."""

    checkpoints: Path = Path("checkpoints")
    out: Path = Path("outputs/benchmark-page.json")
    prompt: str = "a tired person walks forward, then waves with the right hand"  # 192 frames
    repeats: int = 5  # clicks for each sampler
    width: int = 1280  # of the window, pixels
    height: int = 720
    software: bool = True  # draw without a graphics card; --no-software takes what Chromium finds


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = tyro.cli(PageTimes, args=arguments, prog="python -m benchmarks.page")
    try:
        report = run(config)
    except (ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return deliver(report, markdown(report), config.out)


def run(config: PageTimes) -> dict:
    """Seconds of every measure and what they were measured on. RuntimeError without Chromium or an answering page."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise RuntimeError("Chromium is not installed. Install the package chromium.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        app = start_app(Path(folder), config.checkpoints.resolve())
        try:
            flags = CHROMIUM_FLAGS if config.software else CHROMIUM_FLAGS[:1]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            page = browser.new_page(viewport={"width": config.width, "height": config.height})
            seconds = measure(page, app, config)
            browser.close()
        finally:
            app.kill()
    return {"config": asdict(config), "machine": machine(), "seconds": seconds}


def measure(page: Page, app: App, config: PageTimes) -> dict[str, list[float]]:
    """Seconds of each measure, in the order of the table."""
    page.set_default_timeout(1000 * PATIENCE_S)
    page.add_init_script(_WATCH_JS)
    page.goto(app.url)
    page.wait_for_selector("#generate")
    opened = time.monotonic() - app.started
    page.wait_for_selector("#status .ready")
    seconds = {
        "start to answer": [app.answered_after_s],
        "start to page drawn": [opened],
        "start to ready": [time.monotonic() - app.started],
    }
    page.fill("#prompt textarea", config.prompt)
    for _ in range(config.repeats):
        for sampler in SAMPLERS.values():
            page.get_by_label(sampler.label).check()
            shown = click_generate(page)
            seconds.setdefault(f"click to first 3D frame, {sampler.label}", []).append(shown["total"] / 1000)
            seconds.setdefault("of it in the player", []).append(shown["player"] / 1000)
    return seconds


def click_generate(page: Page) -> dict[str, float]:
    """Press Generate and wait for the pair's first frame: milliseconds in total, and from data to frame."""
    page.evaluate("window.__shown = null")
    page.click("#generate")
    page.wait_for_function("window.__shown")
    page.wait_for_selector("#vote-left:not([disabled])")
    return page.evaluate("window.__shown")


def markdown(report: dict) -> str:
    """The table of a report; seconds."""
    here = report["machine"]
    rows = [
        f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} |"
        for name, times in report["seconds"].items()
    ]
    head = f"| {here['cores']} cores of {here['cpu']}, load {here['load']} | median, s | fastest | slowest |"
    return "\n".join([head, "| --- | ---: | ---: | ---: |", *rows])


if __name__ == "__main__":
    sys.exit(main())
