"""`python -m core report`: what the votes say, as tables, JSON and a picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import tyro

from core.preference.dataset import read_dataset
from core.preference.dataset_records import Records, records_of
from core.preference.details import DetailStore
from core.preference.report import PreferenceReport
from core.preference.store import PreferenceStore
from core.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """Statistics of the votes in a store, or in an exported dataset."""

    data_dir: Path = Settings.data_dir
    database: str | None = None  # SQLAlchemy URL, as for app.py
    dataset: Path | None = None  # a folder written by `python -m core export preferences`, instead of a store
    out: Path = Path("outputs/report")  # folder of report.json, report.md and report.png


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Report, args=arguments, prog="python -m core report")
    report = PreferenceReport.of(_records(config).judgements())
    for path in report.save(config.out):
        log.info("wrote %s", path)
    print(report.to_markdown())


def _records(config: Report) -> Records:
    if config.dataset is not None:
        return read_dataset(config.dataset)
    if config.database is None and not config.data_dir.is_dir():
        raise FileNotFoundError(f"{config.data_dir} does not exist. Give the --data-dir of an arena, or a --dataset.")
    store = PreferenceStore(config.data_dir, config.database)
    return records_of(store, DetailStore(store.database))
