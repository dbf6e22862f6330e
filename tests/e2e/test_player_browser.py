"""The 3D player in real Chromium, drawn in software: what it draws, when it draws, and what the page can ask it."""

from __future__ import annotations

import io

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app.player import MotionPlayer, standalone_html
from core.body.skinning import forward_joints, ground_offset
from core.body.smpl_files import load_body
from core.motion.rotations import rotvec_to_matrix
from core.motion.skeleton import JOINT
from core.render.player_pack import pack_pair, relabel

PLAYER = "window.__motionPlayers[0]"
COUNT_CONTEXTS = """
window.__contexts = 0;
const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  const context = original.call(this, kind, options);
  if (kind === "webgl2" && this.__seen !== context) { this.__seen = context; window.__contexts += 1; }
  return context;
};
"""
NO_WEBGL = "HTMLCanvasElement.prototype.getContext = () => null;"

pytestmark = pytest.mark.e2e


def walking(frames: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Walks along +Z with its arms down; feet near the floor."""
    t = np.arange(frames) / 20.0
    turns = np.zeros((frames, 24, 3))
    turns[:, JOINT["left_shoulder"], 2], turns[:, JOINT["right_shoulder"], 2] = -1.25, 1.25
    swing = 0.45 * np.sin(2 * np.pi * 0.9 * t)
    turns[:, JOINT["left_hip"], 0], turns[:, JOINT["right_hip"], 0] = -swing, swing
    return rotvec_to_matrix(turns), np.stack([0 * t, 0 * t + standing_height(), 1.1 * t], -1)


def waving(frames: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Stands at the origin and waves with the right hand."""
    t = np.arange(frames) / 20.0
    turns = np.zeros((frames, 24, 3))
    turns[:, JOINT["left_shoulder"], 2], turns[:, JOINT["right_shoulder"], 2] = -1.25, -0.6
    turns[:, JOINT["right_elbow"], 2] = -1.0 + 0.5 * np.sin(2 * np.pi * 1.5 * t)
    return rotvec_to_matrix(turns), np.stack([0 * t, 0 * t + standing_height(), 0 * t], -1)


def standing_height() -> float:
    """Height that puts the lowest foot joint of the rest pose on the floor."""
    return float(-load_body().joints[[JOINT["left_foot"], JOINT["right_foot"]], 1].min())


LAST: dict[str, dict] = {}


def make_pair() -> dict:
    LAST["pack"] = pack_pair(*walking(), *waving())
    return LAST["pack"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with gr.Blocks() as page:
        player = MotionPlayer(cache=tmp_path_factory.mktemp("player"), elem_id="player")
        gr.Button("Generate", elem_id="go").click(make_pair, None, player, show_progress="hidden")
        names = ("A was base", "B was aligned")
        gr.Button("Reveal", elem_id="reveal").click(lambda: relabel(LAST["pack"], names), None, player)
        gr.Button("Clear", elem_id="clear").click(lambda: None, None, player)
    _, local, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False)
    yield local
    page.close()


def open_page(browser, address: str, script: str = COUNT_CONTEXTS, **options):
    page = browser.new_page(viewport={"width": 760, "height": 560}, **options)
    page.set_default_timeout(120_000)  # software rendering on a busy machine
    page.add_init_script(script)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda line: page.faults.append(line.text) if "motion player" in line.text else None)
    page.goto(address)
    return page


def generate(page) -> None:
    before = page.evaluate("document.querySelector('[data-nonce]')?.dataset.nonce")
    page.click("#go")
    page.wait_for_function(
        "before => { const e = document.querySelector('[data-nonce]'); return e && e.dataset.nonce !== before; }",
        arg=before,
    )
    page.wait_for_selector("[data-state=ready]")


@pytest.fixture(scope="module")
def page(browser, address):
    page = open_page(browser, address, reduced_motion="reduce")  # starts paused: few frames to draw
    page.wait_for_selector("[data-state=empty]")
    yield page
    assert page.faults == []
    page.close()


@pytest.fixture
def shown(page):
    """A page with a fresh pair, paused at its beginning, camera and switches at home."""
    generate(page)
    page.evaluate(f"{PLAYER}.pause(); {PLAYER}.setSpeed(1); {PLAYER}.seek(0); {PLAYER}.act('reset')")
    if page.get_attribute("[data-act=overlay]", "aria-pressed") == "true":
        page.click("[data-act=overlay]")
    settle(page)
    return page


def settle(page) -> None:
    """Wait until the picture shows what was last asked for."""
    page.wait_for_function(f"{PLAYER}.idle && {PLAYER}.stats.frames > 0")


def picture(page) -> np.ndarray:
    """The stage (H, W, 3) as int, without its labels' row."""
    image = Image.open(io.BytesIO(page.locator(".mp-stage").screenshot())).convert("RGB")
    return np.asarray(image).astype(int)[50:]


def halves(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = image.shape[1] // 2
    return image[:, : middle - 4], image[:, middle + 4 :]


def body_share(image: np.ndarray) -> float:
    """Share of pixels with a body's colour; the stage is grey."""
    return float((np.ptp(image, axis=-1) > 45).mean())


def at(page, time_s: float) -> None:
    page.evaluate(f"{PLAYER}.seek({time_s})")
    settle(page)


def test_two_bodies_are_seen_and_both_move(shown):
    shots = []
    for time_s in (0.1, 0.75, 1.5):
        at(shown, time_s)
        shots.append(halves(picture(shown)))
    for side in (0, 1):
        assert all(0.02 < body_share(shot[side]) < 0.5 for shot in shots), "no body, or nothing but body"
        for first, second in ((0, 1), (1, 2), (0, 2)):
            changed = np.abs(shots[first][side] - shots[second][side]).max(-1) > 40
            assert changed.mean() > 0.001, f"side {side} stands still"


def test_joints_are_where_python_puts_them(shown):
    """A wrong order of rotations or quaternions moves hands by decimetres."""
    body, lift = load_body(), np.array([0, ground_offset(load_body()), 0])
    for index, (pose, trans) in enumerate((walking(), waving())):
        expected = forward_joints(body, pose, trans) + lift
        for frame in (0, 7, 33):
            at(shown, frame / 20.0)
            drawn = np.array(shown.evaluate(f"{PLAYER}.joints({index})"))
            np.testing.assert_allclose(drawn, expected[frame], atol=2e-3)
    at(shown, 7.5 / 20.0)
    between = np.array(shown.evaluate(f"{PLAYER}.joints(0)"))
    expected = forward_joints(body, *walking()) + lift
    np.testing.assert_allclose(between, (expected[7] + expected[8]) / 2, atol=3e-3)


def test_body_stands_upright_facing_the_camera_and_unmirrored(shown):
    """Facing us, its left hand is on our right."""
    box = shown.locator(".mp-stage").bounding_box()
    for index, (low, high) in enumerate(((0.0, 0.5), (0.5, 1.0))):
        joints = shown.evaluate(f"{PLAYER}.joints({index})")
        spots = [shown.evaluate(f"p => {PLAYER}.project({index}, p)", joint) for joint in joints]
        x, y = np.array(spots).T
        assert (low * box["width"] < x).all() and (x < high * box["width"]).all(), "outside its own view"
        assert (y > 0).all() and (y < box["height"]).all()
        assert y[JOINT["head"]] < y[JOINT["pelvis"]] < y[JOINT["left_foot"]]
        assert x[JOINT["left_hip"]] > x[JOINT["right_hip"]]


def test_soles_touch_the_floor(shown):
    """The lowest drawn body pixel lies where the floor is under the foot."""
    at(shown, 0.0)
    feet = shown.evaluate(f"[10, 11].map(j => {PLAYER}.joints(1)[j]).map(p => {PLAYER}.project(1, [p[0], 0, p[2]])[1])")
    rows = np.flatnonzero((np.ptp(halves(picture(shown))[1], axis=-1) > 45).any(1)) + 50
    assert abs(rows.max() - max(feet)) < 12


def test_swapping_pairs_keeps_canvas_and_context(shown):
    """Browsers drop the oldest of 16 contexts: a context for each pair ends with a black page."""
    shown.evaluate("document.querySelector('.mp-canvas').dataset.mark = 'same'")
    for _ in range(5):
        generate(shown)
    assert shown.evaluate("window.__contexts") == 1
    assert shown.evaluate(f"{PLAYER}.stats.contexts") == 1
    assert shown.evaluate("window.__motionPlayers.length") == 1
    assert shown.evaluate("document.querySelector('.mp-canvas').dataset.mark") == "same"


def test_names_can_be_revealed_without_starting_again(shown):
    at(shown, 1.25)
    shown.click("#reveal")
    shown.wait_for_function("document.querySelector('.mp-chip b').textContent === 'A was base'")
    assert shown.evaluate(f"{PLAYER}.time") == pytest.approx(1.25)
    assert not shown.evaluate(f"{PLAYER}.playing")


def test_shorter_motion_holds_its_last_frame(shown):
    at(shown, 1.95)
    last = shown.evaluate(f"{PLAYER}.joints(1)")
    at(shown, 2.8)
    assert shown.evaluate(f"{PLAYER}.joints(1)") == last
    assert shown.evaluate("[...document.querySelectorAll('.mp-chip')].map(c => 'ended' in c.dataset)") == [False, True]


def test_watching_to_the_end_counts_as_a_play(shown):
    plays = shown.evaluate(f"{PLAYER}.stats.plays")
    shown.evaluate(f"{PLAYER}.setSpeed(4); {PLAYER}.play()")
    shown.wait_for_function(f"{PLAYER}.stats.plays > {plays} && ({PLAYER}.pause(), true)")
    assert int(shown.evaluate("document.querySelector('[data-plays]').dataset.plays")) == plays + 1


def test_jumping_to_the_end_is_not_watching(shown):
    plays = shown.evaluate(f"{PLAYER}.stats.plays")
    at(shown, 2.9)
    shown.evaluate(f"{PLAYER}.setSpeed(1); {PLAYER}.play()")
    shown.wait_for_function(f"{PLAYER}.time < 2.8 && ({PLAYER}.pause(), true)")
    assert shown.evaluate(f"{PLAYER}.stats.plays") == plays


def test_keyboard_plays_steps_and_switches(shown):
    shown.locator(".mp-stage").focus()
    shown.keyboard.press("Space")
    assert shown.evaluate(f"{PLAYER}.playing")
    shown.keyboard.press("Space")
    assert not shown.evaluate(f"{PLAYER}.playing")
    at(shown, 1.0)
    shown.keyboard.press(".")
    assert shown.evaluate(f"{PLAYER}.time") == pytest.approx(1.05)
    shown.keyboard.press("l")
    assert shown.get_attribute("[data-act=loop]", "aria-pressed") == "false"
    shown.keyboard.press("l")


def test_nothing_is_drawn_while_paused_or_hidden(shown):
    frames = shown.evaluate(f"{PLAYER}.stats.frames")
    shown.wait_for_timeout(400)
    assert shown.evaluate(f"{PLAYER}.stats.frames") == frames, "draws although paused"
    shown.evaluate(f"{PLAYER}.play(); document.querySelector('#player').style.display = 'none'")
    shown.wait_for_timeout(500)
    frames, moment = shown.evaluate(f"[{PLAYER}.stats.frames, {PLAYER}.time]")
    shown.wait_for_timeout(400)
    assert shown.evaluate(f"[{PLAYER}.stats.frames, {PLAYER}.time]") == [frames, moment], "draws although hidden"
    shown.evaluate("document.querySelector('#player').style.display = ''")
    shown.wait_for_function(f"{PLAYER}.stats.frames > {frames}")


def test_overlay_puts_both_bodies_into_one_view(shown):
    shown.click("[data-act=overlay]")
    settle(shown)
    pelvis = [shown.evaluate(f"i => {PLAYER}.project(i, {PLAYER}.joints(i)[0])", i) for i in (0, 1)]
    assert np.hypot(*np.subtract(*pelvis)) < 5, "both start at the same place"
    at(shown, 1.5)  # A has walked on and no longer hides B; where they overlap their colours mix to grey
    red, _, blue = np.moveaxis(picture(shown), -1, 0)
    assert (blue - red > 45).mean() > 0.005, "A is missing"
    assert (red - blue > 30).mean() > 0.003, "B is missing"


def test_camera_starts_and_stops_on_the_walker(shown):
    """A camera that looks ahead at the ends of a clip draws the walker smaller than the one who stands beside it."""
    box = shown.locator(".mp-stage").bounding_box()
    for time_s in (0.0, 2.95):
        at(shown, time_s)
        for index, centre in ((0, 0.25), (1, 0.75)):
            pelvis = shown.evaluate(f"{PLAYER}.project({index}, {PLAYER}.joints({index})[0])")
            assert abs(pelvis[0] - centre * box["width"]) < 3, f"side {index} at {time_s} s"


def test_drag_turns_both_views_about_the_body_and_double_click_resets(shown):
    def ahead() -> np.ndarray:
        """Pixels from the pelvis to a point half a metre before it, in each view; and the pelvis itself."""
        script = f"""() => [0, 1].map(i => {{ const h = {PLAYER}, p = h.joints(i)[0];
            const front = h.project(i, [p[0], p[1], p[2] + 0.5]), pelvis = h.project(i, p);
            return [front[0] - pelvis[0], pelvis[0]]; }})"""
        return np.array(shown.evaluate(script))

    home = ahead()
    box = shown.locator(".mp-stage").bounding_box()
    shown.mouse.move(box["x"] + 150, box["y"] + 150)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 260, box["y"] + 150, steps=3)
    shown.mouse.up()
    settle(shown)
    turned = ahead()
    assert (home[:, 0] < -15).all() and (turned[:, 0] > 15).all(), "to the right turns the front to the right, in both"
    np.testing.assert_allclose(turned[:, 1], home[:, 1], atol=3)
    shown.mouse.dblclick(box["x"] + 150, box["y"] + 150)
    settle(shown)
    np.testing.assert_allclose(ahead(), home, atol=0.5)


def test_lost_context_comes_back(shown):
    """Drivers reset after sleep; the picture must return without a reload."""
    shown.evaluate(
        """() => { const gl = document.querySelector('.mp-canvas').getContext('webgl2');
        window.__lose = gl.getExtension('WEBGL_lose_context'); window.__lose.loseContext(); }"""
    )
    shown.wait_for_function("document.querySelector('.mp-text').textContent.includes('graphics driver')")
    shown.evaluate("window.__lose.restoreContext()")
    shown.wait_for_selector("[data-state=ready]")
    settle(shown)
    assert all(body_share(half) > 0.02 for half in halves(picture(shown)))


def test_clearing_shows_the_waiting_stage(shown):
    shown.click("#clear")
    shown.wait_for_selector("[data-state=empty]")
    assert shown.locator(".mp-text").inner_text().startswith("Type a prompt")
    assert shown.is_disabled("[data-act=play]")


def test_dark_theme_reaches_the_picture(shown):
    light = picture(shown).mean()
    shown.evaluate("document.body.classList.add('dark')")
    settle(shown)
    dark = picture(shown).mean()
    shown.evaluate("document.body.classList.remove('dark')")
    assert dark < light - 60


def test_new_pair_plays_by_itself(browser, address):
    page = open_page(browser, address)
    page.wait_for_selector("[data-state=empty]")
    generate(page)
    page.wait_for_function(f"{PLAYER}.time > 0.2")
    page.close()


def test_narrow_screen_stacks_the_views(browser, address):
    page = open_page(browser, address, reduced_motion="reduce")
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_selector("[data-state=empty]")
    generate(page)
    page.wait_for_selector(".mp[data-layout=stacked]")
    pelvis = [page.evaluate(f"i => {PLAYER}.project(i, {PLAYER}.joints(i)[0])", i) for i in (0, 1)]
    assert pelvis[1][1] > pelvis[0][1] + 100
    assert page.evaluate("document.documentElement.scrollWidth") <= 400, "the page scrolls sideways"
    page.close()


def test_reduced_motion_starts_paused(page):
    generate(page)
    assert not page.evaluate(f"{PLAYER}.playing") and page.evaluate(f"{PLAYER}.time") == 0


def test_missing_webgl_is_said_in_a_sentence(browser, address):
    page = open_page(browser, address, script=NO_WEBGL)
    page.wait_for_selector("[data-state=error]")
    assert "WebGL 2" in page.locator(".mp-text").inner_text()
    page.close()


def test_standalone_file_plays_without_network(browser, tmp_path):
    file = tmp_path / "pair.html"
    file.write_text(standalone_html(pack_pair(*walking(), *waving()), load_body(), title="a walk & a wave"))
    context = browser.new_context(viewport={"width": 760, "height": 560}, offline=True, reduced_motion="reduce")
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("[data-state=ready]", timeout=120_000)
    assert asked == [file.as_uri()]
    settle(page)
    assert all(body_share(half) > 0.02 for half in halves(picture(page)))
    context.close()
