"""The names still to be listed, of listings of local folders that are under way."""

from __future__ import annotations

import threading
from collections import OrderedDict

#: Listings whose remaining names are held (100,000 names take 10 MB); others scan anew.
MOST_LISTINGS = 8


class HeldListings:
    """Sorted names by folder, those of the folders used last. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: OrderedDict[str, list[str]] = OrderedDict()

    def hold(self, folder: str, names: list[str]) -> None:
        """Keep the names that remain."""
        with self._lock:
            self._names[folder] = names
            self._names.move_to_end(folder)
            while len(self._names) > MOST_LISTINGS:
                self._names.popitem(last=False)

    def take(self, folder: str, after: str) -> list[str] | None:
        """The names held for the listing that stands at `after`, None where they are not.

        Two listings of one folder share the place: one that stands elsewhere scans anew.
        """
        with self._lock:
            names = self._names.get(folder)
            if names is None or names[0] <= after:
                return None
            return self._names.pop(folder)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._names.clear()
