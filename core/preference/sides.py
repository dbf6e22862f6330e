"""Which of two versions stands on the left: balanced, and no one can tell beforehand."""

from __future__ import annotations

import secrets
import threading
from collections import Counter

_LEANING = 3  # of so many draws all but one go to the side that is behind


class SideCoin:
    """Efron's biased coin (1971): the version that stood on the left less often gets the left with probability 2/3.

    A fair coin leaves sides off balance by about sqrt(n); this one keeps them within a few, whatever n, and the next
    side still can't be told from the last ones. Each two versions are balanced for themselves. Thread-safe.
    """

    def __init__(self) -> None:
        self._ahead: Counter[tuple[str, str]] = Counter()  # lefts of the first name minus lefts of the second
        self._lock = threading.Lock()

    def first_goes_left(self, first: str, second: str) -> bool:
        """Draw for one pair of versions, in whatever order they are named."""
        names = (min(first, second), max(first, second))
        with self._lock:
            ahead = self._ahead[names]
            behind = secrets.randbelow(_LEANING) > 0  # whoever is behind goes left
            least_left = (ahead < 0) == behind if ahead else bool(secrets.randbelow(2))
            self._ahead[names] += 1 if least_left else -1
        return least_left == (first == names[0])
