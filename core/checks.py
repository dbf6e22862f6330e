"""Numbers of a configuration: what is out of range is refused in one sentence, before any work begins."""

from __future__ import annotations

import math


def require(config: object, *names: str, low: float = 0.0, high: float = math.inf, above: bool = False) -> None:
    """ValueError for the first of these settings outside low-high, NaN and infinity included; None is left alone.

    above: `low` itself is refused too.
    """
    for name in names:
        value = getattr(config, name)
        if value is None or ((value > low if above else value >= low) and value <= high and math.isfinite(value)):
            continue
        if high < math.inf:
            raise ValueError(f"{name}={value} is outside {'(' if above else '['}{low:g}, {high:g}].")
        raise ValueError(f"{name}={value} must be {'above' if above else 'at least'} {low:g}, and finite.")
