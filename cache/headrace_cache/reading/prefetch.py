"""Read-ahead: how far beyond a read to fetch, judged by how the reads before it went."""

from __future__ import annotations

import weakref

#: The first window; small, because two reads in a row may be chance.
FIRST_WINDOW_BYTES = 2 << 20
#: The widest: four requests of 8 MiB in flight hide 30 ms of latency at 1 GB/s.
WIDEST_WINDOW_BYTES = 32 << 20
#: A long read goes in pieces of at most this size, and of so many the bytes are on their way at
#: once: far from a store, one piece alone keeps only four connections busy.
PIECE_BYTES = 32 << 20
PIECES_UNDER_WAY = 4
#: Reads that skip less than this still count as sequential (a Parquet reader skips columns).
GAP_BYTES = 1 << 20


class ReadAhead:
    """The pattern of one open object's reads. Not shared between threads: a lost update only
    costs a fetch."""

    __slots__ = ("_fetched_to", "_last_stop", "_widest", "_window")

    def __init__(self, widest_bytes: int = WIDEST_WINDOW_BYTES) -> None:
        self._widest = widest_bytes
        self._window = 0
        self._last_stop = 0
        self._fetched_to = 0

    def next(self, start: int, stop: int, size: int) -> tuple[int, int]:
        """After a read of `start` to `stop`: the bytes worth fetching now, an empty range if none.

        A sequential read doubles the window, and opens it at least as wide as itself if it is not
        the first, up to the widest; any other closes it. A new range is
        given only when half of the window before it is used up, so that requests stay large.
        """
        sequential = 0 <= start - self._last_stop <= GAP_BYTES
        self._last_stop = stop
        if not sequential or self._widest < FIRST_WINDOW_BYTES:
            self._window = self._fetched_to = 0
            return stop, stop
        if self._fetched_to - stop > self._window // 2:
            return stop, stop
        # From the second of two reads in a row on as far as that read itself reached, so that one
        # who reads in long pieces does not wait for five of them before the window is as long.
        reached = stop - start if self._window else 0
        self._window = min(max(2 * self._window, FIRST_WINDOW_BYTES, reached), self._widest)
        begin = max(stop, self._fetched_to)
        self._fetched_to = max(begin, min(stop + self._window, size))
        return begin, self._fetched_to


class LongReads:
    """The long reads that go on now: together they fetch no more ahead of themselves than one
    object may take of memory, or they would push out what others have not copied yet."""

    def __init__(self, whole_bytes: int) -> None:
        """`whole_bytes`: what one object may take of memory."""
        self._whole_bytes = whole_bytes
        self._shares: weakref.WeakSet[Share] = weakref.WeakSet()

    @property
    def piece_bytes(self) -> int:
        """How much of a long read to bring at once: a few pieces must fit into memory together."""
        return min(PIECE_BYTES, self._whole_bytes)

    def begin(self) -> Share:
        """A read's share; it ends when nobody holds it."""
        share = Share(self)
        self._shares.add(share)
        return share

    def bytes_each(self) -> int:
        """How many bytes each may have under way now, the piece included that it waits for."""
        return min(PIECES_UNDER_WAY * PIECE_BYTES, self._whole_bytes // max(1, len(self._shares)))


class Share:
    """One long read's part of what all of them may have under way."""

    __slots__ = ("__weakref__", "_all")

    def __init__(self, all_of_them: LongReads) -> None:
        self._all = all_of_them

    @property
    def bytes(self) -> int:
        """See `LongReads.bytes_each`."""
        return self._all.bytes_each()
