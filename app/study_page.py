"""The page of `python app.py --study study.toml`: one study and nothing else."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from app.page import BRAND, Page
from app.study import StudyPage
from app.study_api import StudyApi
from core.engine import Engine
from core.preference.studies import load_study
from core.settings import Settings
from core.study import StudyDesk

_STYLE = Path(__file__).with_name("study.css")


def build(settings: Settings, study_file: Path) -> Page:
    """Lay out the study over a fresh engine; opens no port. ValueError or FileNotFoundError for a study it can't run.

    Side effect: as soon as the models are loaded, the study's motions are made in the background.
    """
    study, engine = load_study(study_file), Engine(settings)
    desk = StudyDesk(engine, study, study_file.parent)
    with gr.Blocks(title=study.name, fill_width=True, analytics_enabled=False) as blocks:
        gr.HTML(BRAND, elem_id="brand")
        StudyPage(desk, blocks)
        StudyApi(desk)
    desk.start()
    return Page(blocks, engine, styles=(_STYLE,))
