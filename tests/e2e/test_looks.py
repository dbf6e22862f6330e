"""Accessibility and calm: axe-core on every tab, light and dark; nothing jumps; it fits a laptop and a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

PATIENCE_MS = 240_000  # test machines may be busy; each wait ends as soon as it can
TABS = ("Compare", "Learn", "History", "Statistics", "Export and import")
PANELS = {"Learn": "#learn", "History": "#history .card", "Statistics": "#statistics .figures-table"}
PANELS |= {"Export and import": "#pack-motions"}
SIZES = ((1280, 720), (390, 844))
SHIFTS_JS = """
window.__shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.__shifts.push({ at: entry.startTime, value: entry.value,
    recent: entry.hadRecentInput,
    nodes: entry.sources.map(({ node }) => node && (node.id || node.className || node.nodeName)) });
}).observe({ type: "layout-shift", buffered: true });
"""  # Chromium's own measure, Cumulative Layout Shift; `recent`: within half a second of a click
STILL_JS = """() => document.fonts.status === "loaded" && document.querySelector("#seed input")
  && performance.now() - Math.max(0, ...window.__shifts.map(({ at }) => at)) > 1000"""  # fields come one by one

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser, filled_app):
    """The page in one colour scheme, calm, with layout shifts noted from the start."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 720}, color_scheme=request.param, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(SHIFTS_JS)
    page.goto(filled_app.url)
    page.wait_for_selector("#generate")
    page.wait_for_selector("#status .ready")
    assert page.evaluate("document.body.classList.contains('dark')") == (request.param == "dark")
    yield page
    context.close()


def turn_to(page, tab: str) -> None:
    """Open a tab, of the page or of the Library, and wait until it has its contents."""
    if tab in TABS[2:]:
        page.get_by_role("tab", name="Library", exact=True).click()
    page.get_by_role("tab", name=tab, exact=True).click()
    if tab in PANELS:
        page.wait_for_selector(PANELS[tab])


def violations(page) -> list[str]:
    """What axe-core calls serious or critical, by WCAG 2.2 A and AA, one line for each element."""
    report = page.evaluate(
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    return [
        f"{found['id']} ({found['impact']}): {node['html'][:160]} {node['any'][:1] and node['any'][0]['message'][:160]}"
        for found in report["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def test_no_serious_violation_on_any_tab(page, node_packages: Path) -> None:
    """Prevents controls without names, text too faint to read, and focus that goes nowhere."""
    page.add_script_tag(path=node_packages / "node_modules" / "axe-core" / "axe.min.js")
    found = {}
    for tab in TABS:
        turn_to(page, tab)
        page.wait_for_timeout(400)  # colours fade in
        found[tab] = violations(page)
    turn_to(page, "History")
    page.locator("#history button[data-act=replay]").first.click()
    page.wait_for_selector("#replay .mp[data-state=ready]")
    found["replay"] = violations(page)
    assert not any(found.values()), "\n".join(f"{tab}: {line}" for tab, lines in found.items() for line in lines)


def test_nothing_jumps_while_a_pair_loads(page) -> None:
    """Prevents a vote that lands on the wrong button because the page moved under the pointer."""
    for field in ("#chips .surprise", "#solver", "#vote-skip", "#body-switch"):
        page.wait_for_selector(field)
    page.wait_for_function(STILL_JS)
    opened = page.evaluate("performance.now()")
    for _ in range(2):  # the first pair, and the one after a vote
        page.fill("#prompt textarea", "a person bows and then waves for a while")
        page.click("#generate")
        page.wait_for_selector("#vote-left:not([disabled])")
        page.wait_for_selector("#player .mp[data-state=ready]")
        page.wait_for_timeout(700)
        page.click("#vote-tie")
        page.wait_for_selector("#reveal .reveal")
    shifts = [shift for shift in page.evaluate("window.__shifts") if shift["at"] > opened]
    assert sum(shift["value"] for shift in shifts) < 0.005, shifts


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_tab_fits(page, size: tuple[int, int]) -> None:
    """Prevents a page that scrolls sideways, and buttons too small for a thumb."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for tab in TABS:
        turn_to(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], tab
        small = page.evaluate(
            """() => [...document.querySelectorAll('button, [role=tab], input:not([type=hidden], [type=range])')]
              .filter((node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
              .map((node) => [node.closest('label') || node, node.innerText || node.name])
              .filter(([node]) => node.offsetWidth && node.offsetHeight > 1) // Gradio measures copies of its tabs
              .filter(([node]) => (node.offsetWidth < 24 || node.offsetHeight < 18)) // a line of a field, in its frame
              .map(([node, name]) => `${name} ${node.offsetWidth}x${node.offsetHeight}`)"""
        )
        assert not small, (tab, small)
