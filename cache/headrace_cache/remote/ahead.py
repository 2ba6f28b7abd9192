"""Which objects a client is likely to open next: the ones that follow in a folder that it has
listed. They are opened with the one that is asked for, so that a data set of 1,000 files costs a
handful of calls.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

from headrace_cache.wire.messages import MOST_AHEAD
from headrace_namespace.path import NamespacePath

#: Names remembered of listings, over all folders; the folder listed longest ago is forgotten first.
MOST_NAMES = 100_000
#: Readers of one folder that are followed at once, each where it is.
MOST_STREAMS = 16
#: Objects opened ahead when a second one follows the first; four times as many each time after.
FIRST_AHEAD = 16


class Ahead:
    """The listings of this process, and where in them it opens. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[str, _Folder] = {}
        self._held = 0

    def listed(self, folder: NamespacePath, names: list[str]) -> None:
        """A folder was listed whole, with objects of these names in it."""
        names.sort()
        with self._lock:
            self._forget(folder.text)
            if len(names) < 2 or len(names) > MOST_NAMES:
                return
            while self._held + len(names) > MOST_NAMES:
                self._forget(next(iter(self._folders)))
            self._folders[folder.text] = _Folder(names)
            self._held += len(names)

    def after(self, path: NamespacePath) -> Sequence[str]:
        """The paths to open with this one: none, until it is seen to follow another."""
        above, _, name = path.text.rpartition("/")
        folder = self._folders.get(above or "/")
        if folder is None:
            return ()
        with self._lock:
            return [f"{above}/{each}" for each in folder.after(name)]

    def _forget(self, folder: str) -> None:
        gone = self._folders.pop(folder, None)
        if gone is not None:
            self._held -= len(gone.names)


class _Folder:
    """One listing: its objects' names, sorted, and where each reader of it will ask next."""

    __slots__ = ("_next", "names")

    def __init__(self, names: list[str]) -> None:
        self.names = names
        #: Place of the next name to be asked for -> how many to open with it.
        self._next: dict[int, int] = {}

    def after(self, name: str) -> Sequence[str]:
        place = bisect_left(self.names, name)
        if place >= len(self.names) or self.names[place] != name:
            return ()
        count = self._next.pop(place, 0)
        if len(self._next) >= MOST_STREAMS:
            del self._next[next(iter(self._next))]
        more = min(4 * count, MOST_AHEAD) if count else FIRST_AHEAD
        self._next[place + count + 1] = more
        return self.names[place + 1 : place + 1 + count]
