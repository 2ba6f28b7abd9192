"""The names of what headrace counts, and the counters themselves."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

HITS = "hits"
MISSES = "misses"
BYTES_FETCHED = "bytes_fetched"
BYTES_SERVED = "bytes_served"

#: Counters stop here, so that everybody can tell them (64 bits), whatever was counted.
MOST_COUNT = (1 << 63) - 1


class Counters:
    """Numbers that only grow, safe to add to from any thread."""

    def __init__(self) -> None:
        self._values: Counter[str] = Counter()
        self.after_fork_in_child()

    def add(self, name: str, amount: int = 1) -> None:
        """Add `amount` to the counter `name`."""
        with self._lock:
            self._values[name] = min(self._values[name] + amount, MOST_COUNT)

    def after_fork_in_child(self) -> None:
        """A thread that the child does not have may have held the lock at the fork."""
        # Re-entrant: collecting garbage within may close a file, which counts.
        self._lock = threading.RLock()

    def values(self) -> Mapping[str, int]:
        """A copy of all counters."""
        with self._lock:
            return dict(self._values)
