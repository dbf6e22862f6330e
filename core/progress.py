"""How long work tells where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Callback = Callable[[int, int, Any], None]
"""(done, total, details) after every piece of work; details: figures by name, or a word. It may raise to cancel."""
