"""The panel of bodies: another file and other betas reach the players of the page, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.body.smpl_files import DEFAULT_BODY

pytestmark = pytest.mark.e2e
HEAD = "() => window.__motionPlayers[0].joints(0)[15][1]"


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a body and, under a gender's name, one of nine tenths of its size."""
    folder = tmp_path_factory.mktemp("bodies")
    with np.load(DEFAULT_BODY) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(folder / "SMPL_NEUTRAL.npz", **arrays)
    smaller = {key: 0.9 * arrays[key] for key in ("v_template", "shapedirs")}
    np.savez(folder / "SMPL_FEMALE.npz", **{**arrays, **smaller})
    return folder


def test_another_shape_and_another_body_are_shown(launch_app, browser, tiny_checkpoints, bodies, tmp_path):
    """Prevents sliders that move nothing, and a body that sinks into the floor or floats above it."""
    app = launch_app(tmp_path / "data", tiny_checkpoints, "--body", str(bodies / "SMPL_NEUTRAL.npz"))
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(240_000)
    page.goto(app.url)
    page.wait_for_function("() => window.__motionPlayers?.[0]?.stats.frames > 0")
    own = page.evaluate(HEAD)
    page.check("#body-switch input")
    page.locator("#beta-1 input[type=range]").fill("3")
    page.wait_for_function(f"(own) => Math.abs(({HEAD})() - own) > 0.01", arg=own)
    page.locator("#beta-1 input[type=range]").fill("0")
    page.wait_for_function(f"(own) => Math.abs(({HEAD})() - own) < 0.001", arg=own)
    page.get_by_label("Body", exact=True).last.click()
    page.get_by_role("option", name="SMPL_FEMALE").click()
    page.wait_for_function(f"(own) => Math.abs(({HEAD})() - 0.9 * own) < 0.01", arg=own)
    soles = page.evaluate("() => Math.min(...window.__motionPlayers[0].joints(0).map((joint) => joint[1]))")
    assert 0.0 < soles < 0.12
    page.close()
