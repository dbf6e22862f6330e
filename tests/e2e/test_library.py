"""The Library in real Chromium: what was shown is found, seen again, answered otherwise, shared, carried elsewhere."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from core.preference.dataset import import_dataset
from core.preference.dataset_records import records_of
from core.preference.dataset_zip import unpack_dataset
from core.preference.details import DetailStore
from core.preference.report import PreferenceReport
from core.preference.store import PreferenceStore, default_database
from examples import api_client

PATIENCE_MS = 240_000  # test machines may be busy; each wait ends as soon as it can

pytestmark = pytest.mark.e2e


@pytest.fixture
def open_page(browser, filled_app):
    """Opens the page at an address and fails the test on any script error."""
    contexts, errors = [], []

    def open_url(address: str = ""):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(filled_app.url + address)
        return page

    yield open_url
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def library(open_page):
    """The page, turned to the Library."""
    page = open_page()
    page.get_by_role("tab", name="Library").click()
    page.wait_for_selector("#history .card")
    return page


def sign(page, name: str) -> None:
    """Sign votes by another name."""
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Advanced settings").check()
    page.fill("#annotator :is(input, textarea)", name)
    page.get_by_role("tab", name="Library").click()


def shown(page, total: int) -> None:
    """Wait until the list says that so many pairs are found."""
    page.wait_for_function(f"document.querySelector('#library-summary').innerText.includes('of {total} pair')")


def figures(folder: Path) -> dict:
    records = records_of(PreferenceStore(folder), DetailStore(default_database(folder)))
    return PreferenceReport.of(records.judgements()).to_dict()


def test_search_filter_and_paging(library) -> None:
    """Prevents pairs that nobody finds again, and names of others' votes on pairs that are still open."""
    shown(library, 14)
    assert library.locator("#history .card").count() == 12 and library.locator("#history .strip").count() == 24
    assert "aligned" not in library.inner_text("#history") and "A is better" not in library.inner_text("#history")
    library.get_by_role("button", name="Older").click()
    library.wait_for_function("document.querySelectorAll('#history .card').length === 2")
    library.get_by_label("Search prompts").fill("NUMBER 1")
    shown(library, 5)
    library.get_by_label("Show all names").check()
    library.wait_for_function("document.querySelector('#history').innerText.includes('EasyTune-aligned')")
    library.get_by_label("Search prompts").fill("no such thing")
    library.wait_for_selector("#history .empty")


def test_change_of_mind_is_an_event_that_is_not_blind(open_page, filled_dir: Path) -> None:
    """Prevents a second vote that replaces the record of the first, and names that are shown before the first."""
    page, store = open_page("/?pair=000000000002"), PreferenceStore(filled_dir)
    page.wait_for_selector("#replay .mp[data-state=ready]")
    assert page.locator("#replay .mp-chip b").all_inner_texts() == ["A", "B"], "names before the vote"
    sign(page, "ada")
    page.locator("#history button[data-act=replay][data-pair='000000000002']").click()
    page.wait_for_function("document.querySelector('#replay .mp-chip b').textContent !== 'A'")
    assert "Your answer: A is better" in page.inner_text("#replay-told")
    page.click("#again-tie")
    page.wait_for_function("document.querySelector('#replay-told').innerText.includes('Your answer: Tie')")
    events = [event for event in store.events() if event["pair_id"] == "000000000002" and event["annotator"] == "ada"]
    assert [(event["verdict"], event["blind"]) for event in events] == [("left", True), ("tie", False)]
    page.click("#again-undo")
    page.wait_for_function("document.querySelector('#replay-told').innerText.includes('taken back')")
    assert [vote.annotator for vote in store.votes("000000000002")] == ["bob"]


def test_statistics_are_those_of_the_report(library, filled_dir: Path) -> None:
    """Prevents a page that says other than the command."""
    library.get_by_role("tab", name="Statistics").click()
    library.wait_for_selector("#statistics .figures-table")
    told, expected = library.inner_text("#statistics"), figures(filled_dir)
    assert f"Blind votes\n{expected['votes']}" in told and "By prompt" in told
    assert f"{expected['krippendorff_alpha']:.2f}" in told
    assert f"{expected['ranking'][0]['elo']:.0f}" in told and library.locator("#statistics svg.interval").count() > 2


def test_dataset_leaves_and_comes_home(library, filled_dir: Path, tmp_path: Path) -> None:
    """Prevents a dataset from the page that gives other figures elsewhere, and an import that doubles votes."""
    library.get_by_role("tab", name="Export and import").click()
    with library.expect_download() as caught:
        library.click("#pack-dataset")
    path = tmp_path / "dataset.zip"
    caught.value.save_as(path)
    folder = unpack_dataset(path, tmp_path / "unpacked")
    store, details = PreferenceStore(tmp_path / "new"), DetailStore(default_database(tmp_path / "new"))
    assert import_dataset(folder, store, details)[0] == len(PreferenceStore(filled_dir).pairs())
    assert figures(tmp_path / "new") == figures(filled_dir)
    before = PreferenceStore(filled_dir).counts()
    with library.expect_file_chooser() as chosen:
        library.click("#import-file")
    chosen.value.set_files(path)
    library.wait_for_function("document.querySelector('#transfer-notice').innerText.includes('Added 0 pairs')")
    assert PreferenceStore(filled_dir).counts() == before


def test_motions_leave_together_and_tell_no_model(library) -> None:
    """Prevents a batch without some of what was found, or with names of models."""
    library.get_by_label("Search prompts").fill("number 1")
    shown(library, 5)
    library.get_by_role("tab", name="Export and import").click()
    library.get_by_label("bvh", exact=False).check()
    with library.expect_download() as caught:
        library.click("#pack-motions")
    with zipfile.ZipFile(caught.value.path()) as archive:
        names, table = archive.namelist(), archive.read("index.csv").decode()
    assert len(names) == 5 * 2 * 2 + 1 and {name[-4:] for name in names} == {".glb", ".bvh", ".csv"}
    assert table.count("number 1") == 20 and "aligned" not in table + "".join(names)


def test_example_client(filled_app, filled_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents an example that does not run, and endpoints without names, types and words."""
    from gradio_client import Client

    assert api_client.main(["a person bows", "--url", filled_app.url, "--out", str(tmp_path), "--kind", "npy"]) == 0
    said = capsys.readouterr().out
    assert "'verdict': 'tie'" in said and len(list(tmp_path.glob("arena-*.npy"))) == 2
    (record, *_) = PreferenceStore(filled_dir).recent()
    assert record.pair.left.prompt == "a person bows" and record.votes[0].annotator == "script"
    endpoints = Client(filled_app.url, verbose=False).view_api(return_format="dict", print_info=False)[
        "named_endpoints"
    ]
    assert set(endpoints) == {"/generate", "/vote", "/undo", "/export", "/report", "/status"}
    for name, endpoint in endpoints.items():
        assert endpoint["description"], f"{name} has no words"
        for parameter in endpoint["parameters"]:
            assert parameter["parameter_name"] and parameter["python_type"]["type"] != "Any", (name, parameter)
        assert all(returned["python_type"]["type"] != "Any" for returned in endpoint["returns"]), (name, endpoint)
