"""Statistics: what the votes say so far, and the same as files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app import texts
from app.downloads import FileDrop
from app.handlers import QUIET, sentence_of
from app.library_charts import statistics_html
from core.engine import Engine
from core.preference.dataset_records import records_of
from core.preference.dataset_zip import pack_folder
from core.preference.details import DetailStore
from core.preference.report import PreferenceReport


class StatisticsPanel:
    """Components of the statistics and what they do. Build inside a gr.Blocks context, in the gr.Tab `tab`."""

    def __init__(self, engine: Engine, tab: gr.Tab) -> None:
        self.engine = engine
        self.details = DetailStore(engine.store.database)
        with gr.Row(elem_id="statistics-head"):
            self.refresh = gr.Button("Refresh", size="sm", scale=0, min_width=90)
            self.save = gr.Button("Download as JSON, Markdown and PNG", size="sm", scale=0, min_width=250)
            self.notice = gr.HTML(elem_id="statistics-notice")
        self.figures = gr.HTML(elem_id="statistics")
        self.drop = FileDrop("statistics-file")
        gr.on([tab.select, self.refresh.click], self.on_show, None, [self.figures, self.notice], **QUIET)
        made = self.save.click(self.on_save, None, [self.drop.file, self.notice], **QUIET)
        made.success(None, js=self.drop.start_js, **QUIET)

    def report(self) -> PreferenceReport:
        """The figures as of now."""
        return PreferenceReport.of(records_of(self.engine.store, self.details).judgements())

    def on_show(self) -> dict[Any, Any]:
        """Compute and show."""
        try:
            return {self.figures: statistics_html(self.report()), self.notice: ""}
        except Exception as error:
            return {self.notice: texts.notice(sentence_of(error), "error")}

    def on_save(self) -> Iterator[dict[Any, Any]]:
        """Compute, and write what `python -m core report` writes."""
        yield {self.notice: texts.notice("Computing ...")}
        try:
            target = self.engine.settings.data_dir / "exports" / "easytune-arena-report.zip"
            with tempfile.TemporaryDirectory() as folder:
                self.report().save(Path(folder))
                pack_folder(Path(folder), target)
            yield {self.drop.file: str(target), self.notice: ""}
        except Exception as error:
            yield {self.drop.file: None, self.notice: texts.notice(sentence_of(error), "error")}
