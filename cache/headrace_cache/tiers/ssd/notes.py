"""What readers of the SSD tier notice, kept until a transaction writes it down anyway."""

from __future__ import annotations

import threading

from headrace_cache.tiers.ssd.index import Notes
from headrace_cache.tiers.ssd.records import Place

#: Segments read from before the fact is worth a transaction of its own (a tenth of a millisecond
#: and an fsync); a process that only reads would else never tell the one that evicts.
_MANY_USED = 64

#: Segments remembered as read, at most: what does not fit is noted at its next reading.
_MOST_USED = 1024

#: Broken entries remembered; what does not fit is found broken again at its next reading.
_MOST_BROKEN = 1024


class NoteBook:
    """Segments in use, page entries that led to nothing, and evictions seen. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: set[int] = set()
        self._broken: dict[bytes, Place] = {}
        self._evictions = 0

    def used(self, segment: int) -> None:
        """A page of the segment was served."""
        if segment not in self._used:
            with self._lock:
                if len(self._used) < _MOST_USED:
                    self._used.add(segment)

    def broken(self, page_key: bytes, place: Place) -> None:
        """The entry led to nothing, or to something wrong."""
        with self._lock:
            if len(self._broken) < _MOST_BROKEN:
                self._broken[page_key] = place

    def is_broken(self, page_key: bytes, place: Place) -> bool:
        """Whether this very entry was found broken."""
        return self._broken.get(page_key) == place

    def many_used(self) -> bool:
        """Whether more was read than should wait for the next store."""
        return len(self._used) >= _MANY_USED

    def evicted_since(self, evictions: int) -> bool:
        """Whether segments left since the last asking, of which there have been `evictions`."""
        with self._lock:
            changed, self._evictions = evictions != self._evictions, evictions
            return changed

    def take(self) -> Notes:
        """All notes, which are then forgotten here."""
        if not self._used and not self._broken:
            return Notes()
        with self._lock:
            notes = Notes(frozenset(self._used), tuple(self._broken.items()))
            self._used = set()
            self._broken = {}
            return notes
