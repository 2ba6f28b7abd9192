"""The bulletin: three numbers in shared memory, by which clients see without a call that what they
were told may no longer hold.

The first changes when objects were withdrawn: what is open is to be asked for anew. The third
changes when a path may lead elsewhere, or its object may be another (mounts, writes): what was
opened is to be opened by a call. The second grows while the node lives, however busy it is.
"""

from __future__ import annotations

import os
import threading

from headrace_cache.backing import create_backing, map_for_reading, open_for_reading

_BYTES = 4096
#: How often a node says that it lives.
BEAT_SECONDS = 1.0


class Bulletin:
    """The node's side: it writes the number."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._backing = create_backing(_BYTES, shared=True)
        self._number = memoryview(self._backing.mapping).cast("Q")
        self._lock = threading.Lock()

    @property
    def edition(self) -> int:
        """The number of now."""
        return self._number[0]

    @property
    def changes(self) -> int:
        """How often paths came to lead elsewhere."""
        return self._number[2]

    def publish(self) -> None:
        """A new edition."""
        with self._lock:
            self._number[0] += 1

    def publish_changes(self) -> None:
        """Paths may lead elsewhere, or their objects be others, from now on."""
        with self._lock:
            self._number[2] += 1

    def beat(self) -> None:
        """The node lives; for one thread at a time, every `BEAT_SECONDS`."""
        self._number[1] += 1

    def open_for_reading(self) -> int:
        """A descriptor for a client; the caller closes it."""
        return open_for_reading(self._backing.descriptor)

    def close(self) -> None:
        """Let go of the memory."""
        self._number.release()
        self._backing.close()


class PostedBulletin:
    """A client's side: it reads the number."""

    __slots__ = ("_mapping", "numbers")

    def __init__(self, descriptor: int) -> None:
        """Takes the descriptor. Raises OSError."""
        try:
            self._mapping = map_for_reading(descriptor)
        finally:
            os.close(descriptor)
        #: The edition of now, the beats, and the changes; the first is read on every warm read, so
        #: without a call in between.
        self.numbers = memoryview(self._mapping).cast("Q")
