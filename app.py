"""Start the arena: `python app.py --help`."""

from __future__ import annotations

import logging
import sys

import tyro

from core.settings import Settings


def main(settings: Settings) -> None:
    """Build the page and serve it; a problem with the settings ends in one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        from app import page  # gradio, after the command line has been understood

        page.build(settings).launch()
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(tyro.cli(Settings))
