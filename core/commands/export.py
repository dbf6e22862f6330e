"""`python -m core export all --kinds glb bvh`: motions as files; `python -m core export preferences`: the votes."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from core.body.smpl_files import load_body
from core.commands.console import ProgressLine
from core.engine import Engine
from core.exports import KINDS, LETTERS
from core.formats import FORMATS, write_motion
from core.motion.files import load_features_npy
from core.preference.dataset import write_dataset
from core.preference.dataset_card import CardFacts
from core.preference.dataset_records import records_of
from core.preference.details import DetailStore
from core.preference.pseudonyms import Pseudonyms
from core.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export:
    """Write motions, or the preference dataset, to files."""

    sources: Annotated[tuple[str, ...], tyro.conf.Positional]  # pair ids, "all", "preferences", or features .npy files
    kinds: tuple[str, ...] = ("glb",)  # glb, bvh, npz, npy, joints; of pairs also mp4
    out: Path = Path("outputs/exports")  # folder
    data_dir: Path = Settings.data_dir  # of the pairs
    database: str | None = None  # SQLAlchemy URL, as for app.py
    body: Path | None = None  # a body in SMPL format instead of the default one
    keep_names: bool = False  # of annotators, who otherwise get pseudonyms
    card: CardFacts = field(default_factory=CardFacts)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("nothing to export was given. Give pair ids, all, preferences, or features .npy files.")
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"kinds={sorted(unknown)[0]!r} is unknown. Choose from {', '.join(KINDS)}.")


def main(arguments: list[str]) -> None:
    """Parse and run."""
    config = tyro.cli(Export, args=arguments, prog="python -m core export")
    files = [Path(source) for source in config.sources if source.endswith(".npy")]
    names = [source for source in config.sources if not source.endswith(".npy")]
    for path in files:
        _export_file(config, path)
    if names:
        if config.database is None and not config.data_dir.is_dir():
            raise FileNotFoundError(f"{config.data_dir} does not exist. Give the --data-dir of an arena.")
        engine = Engine(Settings(data_dir=config.data_dir, database=config.database, body=config.body))
        _export_stored(config, engine, names)


def _export_file(config: Export, path: Path) -> None:
    if missing := [kind for kind in config.kinds if kind not in FORMATS]:
        raise ValueError(f"{missing[0]} shows a pair, {path.name} is one motion. Choose from {', '.join(FORMATS)}.")
    features, body = load_features_npy(path), load_body(config.body)
    for kind in config.kinds:
        target = config.out / f"{path.stem}{FORMATS[kind].ending}"
        if target.resolve() != path.resolve():
            write_motion(target, features, body, kind)
            log.info("wrote %s", target)


def _export_stored(config: Export, engine: Engine, names: list[str]) -> None:
    if "preferences" in names:
        _export_preferences(config, engine)
    ids = [name for name in names if name not in ("all", "preferences")]
    if "all" in names:
        ids = [pair.id for pair in engine.store.pairs()]
        if not ids:
            raise ValueError(f"{config.data_dir} holds no pairs yet. Generate some, or give another --data-dir.")
    progress = ProgressLine("exporting")
    for done, pair_id in enumerate(ids, start=1):
        for kind in config.kinds:
            _export_pair(config, engine, pair_id, kind)
        progress(done, len(ids))
    if ids:
        log.info("wrote the motions of %d pairs to %s", len(ids), config.out)


def _export_pair(config: Export, engine: Engine, pair_id: str, kind: str) -> None:
    """Both sides, or the one file that shows both; copied from the page's own exports, so nothing is made twice."""
    for side in ("left",) if KINDS[kind].both else LETTERS:
        made = engine.export(pair_id, side, kind)
        config.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, config.out / made.name)


def _export_preferences(config: Export, engine: Engine) -> None:
    store, progress = engine.store, ProgressLine("motions")
    records = records_of(store, DetailStore(store.database))
    pseudonym = None if config.keep_names else Pseudonyms(store.database)
    folder = write_dataset(records, store.motions, config.out, engine.body(), pseudonym, config.card, progress)
    log.info("wrote %s: %d pairs, %d events", folder, len(records.pairs), len(records.events))
