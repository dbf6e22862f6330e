"""The pictures of README.md, taken from the running program: `python docs/screenshots.py` (from the repository).

Starts app.py on an empty data folder, makes pairs and simulated votes through the API, and photographs each tab in
Chromium; the moving picture is the player, frame by frame. Needs playwright and Chromium (requirements-dev.txt).
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.live import CHROMIUM, CHROMIUM_FLAGS, PATIENCE_S, App, start_app  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROMPTS = (
    "a person jogs forward while raising the right hand",
    "an old man walks forward slowly and then takes a bow",
    "a proud person struts forward, then bows",
    "a person walks forward and turns left",
    "a youthful person waves both hands over their head",
    "a man walks like a gangster",
    "a tired person walks forward, then waves with the right hand",
)
VOTERS = ("ada", "bob", "cleo", "dan", "eve", "anonymous")
VERDICTS = {"aligned": 0.55, "base": 0.25, "tie": 0.15, "both_bad": 0.05}  # shares of the simulated answers
FILM_FPS = 10
FILM_WIDTH = 760  # pixels


@dataclass(frozen=True)
class Screenshots:
    """Take the README's pictures."""

    checkpoints: Path = ROOT / "checkpoints"
    out: Path = ROOT / "docs" / "images"
    film_s: float = 5.0  # of the moving picture


def main() -> None:
    """Start, photograph, end."""
    from playwright.sync_api import sync_playwright

    config = tyro.cli(Screenshots)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        app = start_app(Path(folder), config.checkpoints.resolve())
        try:
            fill(app)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(1000 * PATIENCE_S)
            page.goto(app.url)
            photograph(page, config)
            browser.close()
        finally:
            app.kill()


def fill(app: App) -> None:
    """Pairs of PROMPTS, answered by VOTERS: the aligned model is liked better, by no means always."""
    from gradio_client import Client

    client, chance = Client(app.url, verbose=False), random.Random(0)
    for seed, prompt in enumerate(PROMPTS):
        pair = client.predict(prompt=prompt, seed=seed, api_name="/generate")["pair_id"]
        first = client.predict(pair_id=pair, verdict="skip", annotator="first look", api_name="/vote")
        client.predict(pair_id=pair, annotator="first look", api_name="/undo")
        sides = {first[side]: side for side in ("left", "right")}
        for voter in VOTERS if seed < len(PROMPTS) - 1 else ():
            answer = chance.choices(list(VERDICTS), list(VERDICTS.values()))[0]
            client.predict(pair_id=pair, verdict=sides.get(answer, answer), annotator=voter, api_name="/vote")


def photograph(page: Page, config: Screenshots) -> None:
    """One picture of each tab, and the film."""
    config.out.mkdir(parents=True, exist_ok=True)
    page.fill("#prompt textarea", PROMPTS[-1])
    page.click("#generate")
    page.wait_for_selector("#vote-left:not([disabled])")
    page.wait_for_selector("#player .mp[data-state=ready]")
    seek(page, 3.0)
    page.screenshot(path=config.out / "compare.png")
    film(page, config)
    if page.get_by_role("tab", name="Learn").count():
        shoot_tab(page, "Learn", config.out / "learn.png", 3000)
    shoot_tab(page, "Library", config.out / "library.png", 3000)
    shoot_tab(page, "Statistics", config.out / "statistics.png", 3000)


def shoot_tab(page: Page, name: str, path: Path, settle_ms: int) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    page.wait_for_timeout(settle_ms)
    page.screenshot(path=path)


def seek(page: Page, time_s: float) -> None:
    """Stop the bodies at a time, and wait until they are drawn there."""
    page.evaluate(
        """async (time) => {
          const player = document.querySelector('#player [data-nonce]').motionPlayer;
          player.pause();
          player.seek(time);
          do await new Promise(requestAnimationFrame); while (!player.idle);
        }""",
        time_s,
    )


def film(page: Page, config: Screenshots) -> None:
    """Both bodies as an animated WebP."""
    from PIL import Image

    frames = []
    for i in range(round(config.film_s * FILM_FPS)):
        seek(page, i / FILM_FPS)
        shot = page.locator("#player .mp-stage").screenshot()
        picture = Image.open(io.BytesIO(shot)).convert("RGB")
        frames.append(picture.resize((FILM_WIDTH, round(picture.height * FILM_WIDTH / picture.width))))
    frames[0].save(
        config.out / "arena.webp",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / FILM_FPS),
        loop=0,
        quality=60,
        method=4,
    )


if __name__ == "__main__":
    main()
