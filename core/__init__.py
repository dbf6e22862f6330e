"""EasyTune Arena: text-to-motion diffusion, reward alignment and preference learning on an ordinary CPU.

Importing this package loads no model, opens no port and touches no file. What stands here is for all floors.
"""

import math
from collections.abc import Callable
from typing import Any

__version__ = "0.1.0"


class UnavailableError(RuntimeError):
    """What was asked for can't be done yet, or not on this machine; the message is a sentence for the user."""


Callback = Callable[[int, int, Any], None]
"""(done, total, details) after each piece of long work; details: figures by name, or a word. It may raise to cancel."""


def require(config: object, *names: str, low: float = 0.0, high: float = math.inf, above: bool = False) -> None:
    """ValueError for the first of these settings outside low-high, NaN and infinity included; None is left alone.

    above: `low` itself is refused too.
    """
    for name in names:
        value = getattr(config, name)
        if value is None or ((value > low if above else value >= low) and value <= high and math.isfinite(value)):
            continue
        if high < math.inf:
            raise ValueError(f"{name}={value} is outside {'(' if above else '['}{low:.7g}, {high:.7g}].")
        raise ValueError(f"{name}={value} must be {'above' if above else 'at least'} {low:g}, and finite.")
