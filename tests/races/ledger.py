"""What was written when, for readers in all processes to judge by what they read.

The one writer of an object notes a version as begun before he writes it, and as acknowledged after
the store said so. A read must then give a version between the newest that was acknowledged when
its open began (or the contract's age before that) and the newest that was begun when it had ended.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

#: Versions that one ledger can hold.
MOST_VERSIONS = 200_000
_HEAD = struct.Struct("<QQ")
_TIME = struct.Struct("<d")


class Ledger:
    """Versions 0, 1, 2, … of one object, in a file that processes share."""

    def __init__(self, file: Path) -> None:
        """Made by the writer; whoever comes later finds what is there."""
        size = _HEAD.size + MOST_VERSIONS * _TIME.size
        with file.open("ab") as opened:
            opened.truncate(size)
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), size)

    def begin(self, version: int) -> None:
        """It is about to be written."""
        struct.pack_into("<Q", self._map, 0, version)

    def acknowledge(self, version: int) -> None:
        """The store has it: an open that begins from now on must see it."""
        _TIME.pack_into(self._map, _HEAD.size + version * _TIME.size, time.monotonic())
        struct.pack_into("<Q", self._map, 8, version)

    @property
    def begun(self) -> int:
        """The newest version that a read may give by now."""
        return int(struct.unpack_from("<Q", self._map, 0)[0])

    @property
    def acknowledged(self) -> int:
        """The newest version that the store has said to hold."""
        return int(struct.unpack_from("<Q", self._map, 8)[0])

    def acknowledged_before(self, age_seconds: float) -> int:
        """The newest version that had been acknowledged so long ago."""
        at, version = time.monotonic() - age_seconds, self.acknowledged
        while version and self._time_of(version) > at:
            version -= 1
        return version

    def _time_of(self, version: int) -> float:
        return float(_TIME.unpack_from(self._map, _HEAD.size + version * _TIME.size)[0])
