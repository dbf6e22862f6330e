"""Export and import from the page: the preference dataset as one zip, and many motions as one zip."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app import texts
from app.downloads import FileDrop
from app.handlers import QUIET, sentence_of
from app.library_history import HistoryPanel
from core.engine import Engine
from core.exports import KINDS
from core.exports_batch import zip_exports
from core.preference.dataset import import_dataset, write_dataset
from core.preference.dataset_records import records_of
from core.preference.dataset_zip import pack_folder, unpack_dataset
from core.preference.details import DetailStore
from core.preference.pseudonyms import Pseudonyms

_PROGRESS = gr.Progress()  # Gradio hands the real one to a handler with this default
_DATASET = """## Preference dataset
Every vote as `prompt, chosen, rejected` (JSONL and Parquet), the motions, all events, views in the columns of
Pick-a-Pic and MotionCritic, and a card with licence and counts. Annotators appear under pseudonyms."""
_MOTIONS = """## Motions
The pairs that the filters under *History* find, in any formats; file names don't tell the models."""
_IMPORT = """## Import
A dataset exported here or elsewhere is added to this arena; pairs and votes that are there already are left alone."""
_FOUND, _ALL = "Pairs found under History", "All pairs"


class TransferPanel:
    """Components of export and import and what they do. Build inside a gr.Blocks context."""

    def __init__(self, engine: Engine, history: HistoryPanel) -> None:
        self.engine, self.history = engine, history
        self.details = DetailStore(engine.store.database)
        self._one_at_a_time = threading.Lock()
        with gr.Row(elem_id="transfer"):
            with gr.Column(min_width=280):
                gr.Markdown(_DATASET)
                self.pack = gr.Button("Download the dataset", size="sm", elem_id="pack-dataset")
            with gr.Column(min_width=280):
                gr.Markdown(_MOTIONS)
                self.which = gr.Radio([_FOUND, _ALL], value=_FOUND, label="Which")
                kinds = [(kind.label, name) for name, kind in KINDS.items()]
                self.kinds = gr.CheckboxGroup(kinds, value=["glb"], label="Formats", elem_id="batch-kinds")
                self.batch = gr.Button("Download the motions", size="sm", elem_id="pack-motions")
            with gr.Column(min_width=280):
                gr.Markdown(_IMPORT)
                self.upload = gr.UploadButton("Upload a dataset", file_types=[".zip"], size="sm", elem_id="import-file")
        self.notice = gr.HTML(elem_id="transfer-notice")
        self.drop = FileDrop("transfer-file")
        self._wire()

    def _wire(self) -> None:
        shown: dict[str, Any] = {"api_visibility": "private", "show_progress_on": [self.notice]}
        asked = [self.kinds, self.which, *self.history.filters[:4]]
        for button, handler, inputs in (
            (self.pack, self.on_dataset, None),
            (self.batch, self.on_motions, asked),
        ):
            made = button.click(handler, inputs, [self.drop.file, self.notice], **shown)
            made.success(None, js=self.drop.start_js, **QUIET)
        self.upload.upload(self.on_import, self.upload, self.notice, **shown)

    def on_dataset(self, progress: gr.Progress = _PROGRESS) -> Iterator[dict[Any, Any]]:
        """Write the dataset beside the store, where motions of an earlier export are kept, and zip it."""
        yield self._says("Writing the dataset ...")
        settings = self.engine.settings
        try:
            with self._one_at_a_time:
                records = records_of(self.engine.store, self.details)
                folder, motions = settings.data_dir / "dataset", self.engine.store.motions
                body, pseudonym = self.engine.body(), Pseudonyms(self.engine.store.database)
                write_dataset(records, motions, folder, body, pseudonym, progress=_counted(progress, "Motion"))
                target = settings.data_dir / "exports" / "easytune-arena-preferences.zip"
                made = pack_folder(folder, target)
            counted = f"{texts.count(len(records.pairs), 'pair')}, {texts.count(len(records.events), 'event')}."
            yield {self.drop.file: str(made), self.notice: texts.notice(counted)}
        except Exception as error:
            yield {self.drop.file: None, **self._says(sentence_of(error), "error")}

    def on_motions(
        self, kinds: list[str], which: str, *filters: Any, progress: gr.Progress = _PROGRESS
    ) -> Iterator[dict[Any, Any]]:
        """Write the motions of the pairs asked for, and zip them."""
        yield self._says("Writing the motions ...")
        try:
            with self._one_at_a_time:
                search = self.history.search(*(filters if which == _FOUND else ("", "", "", "")))
                ids = self.history.history.ids(search)
                target = self.engine.settings.data_dir / "exports" / "easytune-arena-motions.zip"
                made = zip_exports(self.engine, ids, kinds, target, lambda done, what: progress(done, desc=what))
            yield {self.drop.file: str(made), self.notice: texts.notice(f"{texts.count(len(ids), 'pair')} exported.")}
        except Exception as error:
            yield {self.drop.file: None, **self._says(sentence_of(error), "error")}

    def on_import(self, path: str) -> Iterator[dict[Any, Any]]:
        """Add the uploaded dataset to the store."""
        yield self._says("Reading the dataset ...")
        try:
            with tempfile.TemporaryDirectory() as folder:
                dataset = unpack_dataset(Path(path), Path(folder))
                pairs, events = import_dataset(dataset, self.engine.store, self.details)
            added = f"Added {texts.count(pairs, 'pair')} and {texts.count(events, 'event')}."
            yield self._says(added)
        except Exception as error:
            yield self._says(sentence_of(error), "error")

    def _says(self, sentence: str, kind: str = "info") -> dict[Any, Any]:
        return {self.notice: texts.notice(sentence, kind)}


def _counted(progress: gr.Progress, noun: str) -> Any:
    """A callback(done, total) that shows on the page."""
    return lambda done, total: progress(done / total, desc=f"{noun} {done} of {total}")
