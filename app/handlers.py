"""What stands between a click and the engine: one sentence instead of a traceback."""

from __future__ import annotations

import logging
from typing import Any

from core import UnavailableError

log = logging.getLogger(__name__)

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}  # for events of the page alone
EXPECTED = (ValueError, FileNotFoundError, UnavailableError)  # raised by core with a sentence for the user


def sentence_of(error: Exception) -> str:
    """The sentence to show for an error; an unexpected one is logged with its traceback."""
    if isinstance(error, EXPECTED):
        return str(error)
    log.error("Unexpected error", exc_info=error)
    return f"Something went wrong ({type(error).__name__}). The log of the program has the details; please try again."
