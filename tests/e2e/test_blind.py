"""Before the vote nothing tells which model stands on which side: no page, network, file or clock."""

from __future__ import annotations

import io
import json
import re
import statistics
import zipfile
from pathlib import Path

import pytest

from core.preference.store import PreferenceStore

pytestmark = pytest.mark.e2e

N_PAIRS = 8
_CLOCK_TOLERANCE_S, _SIGMAS = 0.3, 6.0  # means of few pairs on a busy machine; both sides come in one message anyway


def new_pair(page, button: str) -> None:
    page.evaluate("window.__heard.length = 0; window.__asked = performance.now()")
    shown = page.evaluate("window.__frames.length")
    page.click(button)
    page.wait_for_function(f"window.__frames.length > {shown}")
    page.wait_for_selector("#vote-left:not([disabled])")
    page.wait_for_timeout(100)


def secrets_of(store: PreferenceStore) -> re.Pattern:
    """What would give a side away: names of versions, and hashes that differ between them."""
    takes = [take for pair in store.pairs() for take in (pair.left, pair.right)]
    words = {take.weights_sha256 for take in takes} | {take.motion_sha256[:12] for take in takes}
    return re.compile("|".join([r"\bbase\b", r"\baligned\b", "easytune[- ]aligned", *words]), re.IGNORECASE)


def test_nothing_tells_the_sides_apart(launch_app, open_page, tiny_checkpoints: Path, tmp_path: Path) -> None:
    """Prevents a blind vote that is none."""
    page = open_page(launch_app(tmp_path, tiny_checkpoints).url, listen=True)
    page.wait_for_selector("#status .pill.ready")  # until then it names the models that are being loaded
    page.fill("#prompt textarea", "a person bows")
    store, seen = PreferenceStore(tmp_path), []
    for i in range(N_PAIRS):
        new_pair(page, "#next" if i else "#generate")
        heard = page.evaluate("window.__heard").copy()
        files = [download(page, name) for name in ("A npz", "B npz", "B GLB", "A BVH")] if i == 0 else []
        heard += page.evaluate("window.__heard")
        seen.append((heard, page.inner_html("#stage"), page.evaluate("document.title"), files))
    told = secrets_of(store)
    for heard, stage, title, files in seen:
        everything = "".join([*heard, stage, title])
        assert sizes(heard), "the test is deaf: the motions did not come by where it listens"
        assert not (found := told.search(everything)), everything[found.start() - 200 : found.end() + 50]
        for name, content in files:
            assert not told.search(name) and not told.search(content), name
    check_clock(store, page.evaluate("window.__frames"), [sizes(heard) for heard, *_ in seen])


def check_clock(store: PreferenceStore, frames: list[dict], payloads: list[list[int]]) -> None:
    """Both sides come in one message, as many bytes each, in the same frame, and as soon whichever model is left."""
    pairs = store.pairs()
    assert len(pairs) == len(frames) == N_PAIRS
    assert all(len(set(payload)) == 1 and len(payload) >= 2 for payload in payloads), payloads
    for frame in frames:
        assert all(len(head) == 3 and all(abs(number) < 100 for number in head) for head in frame["heads"])
    took: dict[bool, list[float]] = {True: [], False: []}
    for pair, frame in list(zip(pairs, frames, strict=True))[1:]:  # the first one waited for the models
        took[pair.left.model_version == "base"].append(frame["took"] / 1000)
    assert not clock_tells(took[True], took[False]), took


def clock_tells(left: list[float], right: list[float]) -> bool:
    """Whether pairs with one model on the left take another time, beyond the spread of pairs with the same side."""
    if min(len(left), len(right)) < 2:
        return False
    within = [time - statistics.mean(times) for times in (left, right) for time in times]
    deviation = (sum(x * x for x in within) / (len(within) - 2)) ** 0.5
    noise = deviation * (1 / len(left) + 1 / len(right)) ** 0.5
    return abs(statistics.mean(left) - statistics.mean(right)) > _CLOCK_TOLERANCE_S + _SIGMAS * noise


def test_a_clock_that_tells_is_noticed() -> None:
    """Prevents a check of times that holds whatever the times are."""
    assert clock_tells([2.0, 2.1, 1.9], [0.9, 1.0, 1.1, 1.0])
    assert not clock_tells([1.0, 1.3, 0.8], [0.9, 1.2, 1.1, 4.0])


def sizes(heard: list[str]) -> list[int]:
    """Lengths of the encoded rotations of all motions that came over the network."""
    return [len(found) for found in re.findall(r"rotations\W{1,6}([A-Za-z0-9+/]{1000,})", "".join(heard))]


def download(page, name: str) -> tuple[str, str]:
    """The file's name, and all that can be read in it as text; archives are opened."""
    with page.expect_download() as caught:
        page.get_by_role("button", name=name, exact=True).first.click()
    content = Path(caught.value.path()).read_bytes()
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = json.dumps(archive.namelist()).encode() + b"".join(archive.read(n) for n in archive.namelist())
    return caught.value.suggested_filename, content.decode("latin-1")
