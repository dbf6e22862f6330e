"""`python -m core import-preferences FOLDER`: an exported dataset into a store, to go on with it or to merge some."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from core.preference.dataset import import_dataset
from core.preference.details import DetailStore
from core.preference.store import PreferenceStore
from core.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportPreferences:
    """Add an exported preference dataset to a store; what is there already is left alone."""

    folder: Annotated[Path, tyro.conf.Positional]  # written by `python -m core export preferences`
    data_dir: Path = Settings.data_dir
    database: str | None = None  # SQLAlchemy URL, as for app.py


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(ImportPreferences, args=arguments, prog="python -m core import-preferences")
    if not config.folder.is_dir():
        raise FileNotFoundError(f"{config.folder} does not exist. Give a folder made by `python -m core export`.")
    store = PreferenceStore(config.data_dir, config.database)
    pairs, events = import_dataset(config.folder, store, DetailStore(store.database))
    log.info("added %d pairs and %d events to %s", pairs, events, config.data_dir)
