"""Memory for bytes on their way to a store, and how they become the cached pages of their object.

A part is gathered in memory of the cache's own tier, within that tier's bound, sent from there
without another copy, and held until the object has its version: then its bytes are copied into
pages, piece by piece, each piece's memory being given back as soon as it was copied. Where the tier
has no room, or the placement keeps the bytes from the cache, a part lies in private memory, and the
object simply is not warm.

Who touches what: taking, charging and giving back happen on the launcher's thread or a store's,
never on the caller's, so that an interrupt of the caller leaves no memory taken.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace_cache.extents.extent_store import CachedObject, Extent, ExtentStore
from headrace_cache.extents.page import runs
from headrace_namespace.offload import Offload

#: Of the memory tier, how much may be staged by all writers together: readers need the rest.
STAGED_SHARE = 0.5
#: The first charge of a part; each further one doubles it, so that a small object takes little of
#: the tier and a large one asks for room a few times.
FIRST_CHARGE_BYTES = 64 << 10
#: Copied into pages at once, and given back at once.
COPIED_BYTES = 8 << 20


class Staging:
    """Hands out memory for parts, out of the memory tier. Safe to use from many threads."""

    def __init__(self, store: ExtentStore, launcher: Offload) -> None:
        self.store = store
        self._launcher = launcher
        self._most_bytes = int(store.usage()["memory"].limit * STAGED_SHARE)
        #: How much is staged now. Only the launcher's one thread changes it.
        self.staged_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """How much of one object is held for its pages: what memory would hold in one piece."""
        return min(self.store.shape.whole_bytes, self._most_bytes // 2)

    def buffer(self, capacity: int, owner: list[PartBuffer], *, stage: bool) -> PartBuffer:
        """Memory for a part of at most `capacity` bytes, entered into `owner` before it is given,
        so that who gives up all of `owner` gives up this."""
        buffer = PartBuffer(self, capacity, owner)

        def take() -> None:
            extent = self.store.stage(capacity) if stage else None
            buffer.extent = extent
            owner.append(buffer)

        self._launcher.run(take)
        return buffer

    def charge(self, buffer: PartBuffer, count: int) -> bool:
        """Charge `count` bytes more to a buffer's extent; False where there is no room."""

        def charge() -> bool:
            extent = buffer.extent
            if extent is None or self.staged_bytes + count > self._most_bytes:
                return False
            if not self.store.charge_staged(extent, count):
                return False
            self.staged_bytes += count
            buffer.charged += count
            return True

        return self._launcher.run(charge)

    def give_back(self, buffers: Sequence[PartBuffer]) -> None:
        """Let go of these buffers' memory; a part still being sent keeps its own until it ended."""

        def give() -> None:
            for buffer in buffers:
                buffer.gone = True
                buffer.private = None
                self._unstage(buffer)

        self._launcher.run(give)

    def take_over(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Those of the pieces that nobody gave back yet. From now on they are the caller's own to
        give back: who gives up all of their owner's no longer gives up these."""

        def take() -> list[Piece]:
            taken = [piece for piece in pieces if not piece.buffer.gone]
            for piece in taken:
                if piece.buffer in piece.buffer.owner:
                    piece.buffer.owner.remove(piece.buffer)
            return taken

        return self._launcher.run(take)

    def unstage(self, buffer: PartBuffer) -> None:
        """Give back what the buffer has of the tier; its private memory stays."""
        self._launcher.run(lambda: self._unstage(buffer))

    def _unstage(self, buffer: PartBuffer) -> None:
        extent, buffer.extent = buffer.extent, None
        if extent is not None:
            self.store.unstage(extent)
            self.staged_bytes -= buffer.charged
            buffer.charged = 0


class PartBuffer:
    """One part's bytes while they are gathered and sent; made by `Staging.buffer`."""

    __slots__ = ("_staging", "capacity", "charged", "extent", "gone", "length", "owner", "private")

    def __init__(self, staging: Staging, capacity: int, owner: list[PartBuffer]) -> None:
        self._staging = staging
        #: Where it is entered for whoever gives it back.
        self.owner = owner
        #: Whether it was given back: its bytes are no more.
        self.gone = False
        self.capacity = capacity
        self.length = 0
        self.extent: Extent | None = None
        self.charged = 0
        self.private: mmap.mmap | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more can be appended."""
        return self.length == self.capacity

    def append(self, data: memoryview) -> int:
        """Take the first of these bytes, as many as there is room for; how many."""
        count = min(len(data), self.capacity - self.length)
        mapping = self._mapping(self.length + count)
        mapping[self.length : self.length + count] = data[:count]
        self.length += count
        return count

    def view(self) -> memoryview:
        """What was appended; whoever holds it keeps the memory. Raises ValueError once given back:
        new memory in its stead would be zeros that nobody wrote."""
        mapping = self._mapping(self.length)
        with memoryview(mapping) as whole:
            return whole[: self.length].toreadonly()

    def _mapping(self, length: int) -> mmap.mmap:
        """The memory, good for `length` bytes: moved to private memory where the tier is full."""
        if self.gone:
            raise ValueError("a part's memory was given back before its bytes were used")
        if self.private is not None:
            return self.private
        if self.extent is not None:
            if length <= self.charged:
                return self.extent.mapping
            wanted = max(length, 2 * self.charged, FIRST_CHARGE_BYTES)
            more = min(wanted, self.capacity) - self.charged
            if self._staging.charge(self, more):
                return self.extent.mapping
        private = _private(self.capacity)
        if self.extent is not None:
            private[: self.length] = self.extent.mapping[: self.length]
        self.private = private
        self._staging.unstage(self)
        return private


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of the new object's bytes that still lies staged, from `start` on."""

    start: int
    buffer: PartBuffer

    @property
    def stop(self) -> int:
        """Where in the object it ends."""
        return self.start + self.buffer.length


def settle(staging: Staging, held: CachedObject, pieces: Sequence[Piece]) -> None:
    """Let staged pieces, in order, become the object's cached pages, as far as they cover whole
    pages and find room; all of them are given back.

    The pieces are taken over first: who waits for this may be interrupted and let go of all he has
    while it goes on. What he let go of before is left out, and is simply not warm.
    """
    pieces = staging.take_over(pieces)
    waiting = list(pieces)
    try:
        for pages in _covered(staging.store, held, pieces):
            fill = staging.store.begin_fill(held, pages)
            if fill is None:
                return
            with fill:
                _copy(staging.store, held, pages, waiting, fill.target(pages))
                fill.publish(pages)
            reached = pages.stop * staging.store.shape.page_bytes
            done = [piece for piece in waiting if piece.stop <= reached]
            waiting = waiting[len(done) :]
            staging.give_back([piece.buffer for piece in done])
    finally:
        staging.give_back([piece.buffer for piece in waiting])


def _copy(
    store: ExtentStore,
    held: CachedObject,
    pages: range,
    pieces: Sequence[Piece],
    target: memoryview,
) -> None:
    start = pages.start * store.shape.page_bytes
    stop = min(pages.stop * store.shape.page_bytes, held.size)
    with target:
        for piece in pieces:
            begin, end = max(start, piece.start), min(stop, piece.stop)
            if begin < end:
                with piece.buffer.view() as view:
                    target[begin - start : end - start] = view[
                        begin - piece.start : end - piece.start
                    ]


def _covered(store: ExtentStore, held: CachedObject, pieces: Sequence[Piece]) -> Iterator[range]:
    """The pages that the pieces hold whole and memory does not, as runs within one extent each."""
    page_bytes = store.shape.page_bytes
    each = store.shape.extent_bytes(held.size)
    for start, stop in _joined(pieces):
        first = -(-start // page_bytes)
        last = -(-stop // page_bytes) if stop == held.size else stop // page_bytes
        absent = store.missing(held, range(first, last))
        for run in runs(absent, max(1, COPIED_BYTES // page_bytes)):
            begin = run.start
            while begin < run.stop:
                border = -(-(begin * page_bytes // each + 1) * each // page_bytes)
                end = min(run.stop, border)
                yield range(begin, end)
                begin = end


def _joined(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """The pieces' ranges, neighbours as one."""
    start = stop = -1
    for piece in pieces:
        if piece.start != stop:
            if stop > start:
                yield start, stop
            start = piece.start
        stop = piece.stop
    if stop > start:
        yield start, stop


def _private(capacity: int) -> mmap.mmap:
    """Memory of no tier, taken as it is written, and given back with its last view."""
    if sys.platform != "linux":
        return mmap.mmap(-1, capacity)
    private = mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A crash of the process must not write what may be restricted into a core file.
    private.madvise(mmap.MADV_DONTDUMP)
    return private
