"""The player as a Gradio component and as a file, without a browser (tests/e2e/test_player_browser.py has one)."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import gradio as gr
import numpy as np
import pytest
from gradio.data_classes import _StaticFiles

from app.player import MotionPlayer, standalone_html
from core.body.smpl_files import load_body
from core.render.player_pack import pack_pair


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("with space")
    with gr.Blocks():
        return MotionPlayer(cache=folder, elem_id="player").get_config()


def still(frames: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(np.eye(3), (frames, 24, 1, 1)), np.zeros((frames, 3))


def test_templates_hold_nothing_that_gradio_would_evaluate(config):
    """Anything that depends on the value makes Gradio rebuild the markup, and the canvas with its context is lost."""
    for name in ("html_template", "css_template"):
        assert not re.search(r"\$\{|\{\{|`|\\|@children", config[name]), name


def test_style_sheet_can_be_nested(config):
    """Gradio puts the sheet inside one rule, where @keyframes, @font-face and @import are invalid."""
    assert not re.search(r"@(keyframes|font-face|import|charset)", config["css_template"])


def test_only_the_body_file_is_served(config):
    """Serving its folder would open the data folder to every visitor."""
    address = config["props"]["body_url"]
    assert address.startswith("gradio_api/file="), "a leading slash breaks the page behind a prefix"
    path = Path(unquote(address.removeprefix("gradio_api/file=")))
    assert path.is_file()
    assert path in _StaticFiles.all_paths and path.parent not in _StaticFiles.all_paths


def test_component_keeps_its_name_and_place(config):
    assert config["elem_id"] == "player" and config["value"] is None


def test_every_named_part_of_the_markup_exists(config):
    """A part that player.js looks for and player.html lacks stops the player at the first frame."""
    wanted = set(re.findall(r'find\("([\w-]+)"\)', config["js_on_load"]))
    assert wanted, "the pattern no longer matches player.js"
    for name in wanted:
        assert f"mp-{name}" in config["html_template"], name


def test_controls_have_names(config):
    """A button with an icon and no name is silent in a screen reader."""
    controls = re.findall(r"<(?:button|input|select)[^>]*>", config["html_template"])
    assert len(controls) == 8
    assert all("aria-label=" in control for control in controls)


def test_standalone_file_loads_nothing():
    html = standalone_html(pack_pair(*still(), *still()), load_body())
    assert not re.findall(r"(?:https?:)?//[\w-]+\.\w+", html)
    assert not re.findall(r"""(?:src|href)\s*=""", html)


def test_standalone_file_is_safe_from_its_own_texts():
    """A prompt or a label that closes the script would run as a page of its own."""
    pack = pack_pair(*still(), *still(), labels=("</script><b>", "B"))
    html = standalone_html(pack, load_body(), title="<img onerror=x>")
    assert html.count("</script>") == 1 and "<img" not in html
