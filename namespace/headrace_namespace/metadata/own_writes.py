"""Which of the store's answers this process's own writes have overtaken.

An answer that was asked for before a write ended may be the one from before the write. It may be
given to whoever asked, but must not be remembered: it would stand in for what was written.
"""

from __future__ import annotations

from _thread import allocate_lock
from itertools import count

#: Names share so many places: 30 KB, and of a thousand answers under way one is asked for again
#: (never one too few) where a name that shares its place is written.
PLACES = 1024


class OwnWrites:
    """When each object and folder was last written. Hold `lock` to note a write and make it known,
    and to look whether one was noted and remember an answer: each pair is one step."""

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self._numbers = count(1)
        self._latest = [0] * PLACES
        self._moved = 0

    def mark(self, name: str) -> tuple[int, int]:
        """What changes with the next write of `name`; to be taken before the store is asked."""
        return self._latest[hash(name) % PLACES], self._moved

    def note(self, *names: str) -> None:
        """These objects or folders were written."""
        for name in names:
            self._latest[hash(name) % PLACES] = next(self._numbers)

    def note_all(self) -> None:
        """A folder was moved: whatever lay below it was written."""
        self._moved = next(self._numbers)
