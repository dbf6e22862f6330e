"""Start the arena: `python app.py --help`."""

from __future__ import annotations

import logging
import os
import sys

import tyro

from core.settings import Settings

# Threads that spin while they wait starve each other beside a browser that draws on the same cores (10x slower).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Read the command line, build the page and serve it; wrong settings end in one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = tyro.cli(Settings)

        from app import page, study_page  # they bring gradio in: seconds, so only when the command line is understood

        built = page.build(settings) if settings.study is None else study_page.build(settings, settings.study)
        built.launch()
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
