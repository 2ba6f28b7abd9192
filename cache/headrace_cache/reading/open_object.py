"""One open object: the warm path, and what a read does when its bytes are not all at hand.

It asks the reader for steps 5 to 10 of the journey (`reader.py`).
"""

from __future__ import annotations

import io
from collections.abc import Container, Iterator
from typing import Protocol

from headrace_cache.extents.extent_store import CachedObject, Loan, Span
from headrace_cache.holding import Holding
from headrace_cache.reading.fetching import MOST_FLIGHTS_AHEAD
from headrace_cache.reading.pinned import Pinned
from headrace_cache.reading.prefetch import ReadAhead
from headrace_cache.reading.reader import Reader
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath
from headrace_namespace.standing import Standing

#: What a handle of an object that may not be cached fetches for small reads, and holds until its
#: next fetch: without it, reading by lines would ask the store for each line.
PRIVATE_BYTES = 256 << 10

#: A view of so few bytes costs more than a copy of them, and keeps a whole arena in memory.
COPIED_BYTES = 64 << 10


class Home(Protocol):
    """Where the reader of this process is found: after a fork it is another than before."""

    def reader(self) -> Reader:
        """The reader to use now."""
        ...

    def holding(self) -> Holding:
        """What looks after what is held, now."""
        ...


class OpenObject:
    """One version of one object, pinned at open. Safe to use from several threads.

    Its counts of hits may lose a few when threads share one object: they are statistics.
    """

    __slots__ = (
        "_ahead",
        "_closed",
        "_held",
        "_hits",
        "_home",
        "_pinned",
        "_private",
        "_reader",
        "_served",
        "_size",
        "_span",
    )

    def __init__(self, home: Home, reader: Reader, pinned: Pinned, held: CachedObject) -> None:
        """`reader` has pinned it, and attached `held`."""
        self._home = home
        self._reader: Reader = reader
        self._pinned: Pinned = pinned
        self._size = pinned.version.size
        self._held: CachedObject = held
        self._ahead: ReadAhead | None = None
        #: The extent that is read now. Where the first is in memory whole, opening is a use of it.
        self._span: Span | None = None
        self.opened_again()
        self._private: tuple[int, bytes] = (0, b"")
        self._hits = 0
        self._served: int = 0
        self._closed = False

    @property
    def path(self) -> NamespacePath:
        """The path it was opened by."""
        return self._pinned.path

    @property
    def mount(self) -> Mount:
        """The mount that answered for its path when it was opened."""
        return self._pinned.mount

    @property
    def version(self) -> ObjectVersion:
        """Exactly which bytes every read gives."""
        return self._pinned.version

    @property
    def restricted(self) -> bool:
        """Whether the policy keeps its bytes from every disk."""
        return not self._pinned.placement.allows_ssd

    @property
    def cached(self) -> bool:
        """Whether memory may hold it at all."""
        return self._held.memory

    def read_at(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop` (exclusive); fewer only at the object's end."""
        span = self._span
        if span is not None and span.complete and span.start <= start <= stop <= span.stop:
            # The warm path: one slice of the mapping.
            shift = span.shift
            try:
                piece = span.extent.mapping[shift + start : shift + stop]
            except ValueError:
                self._span = None  # it left the tier
            else:
                self._hits += 1
                self._served += stop - start
                return piece
        start, stop = self._bounds(start, stop)
        if stop - start <= self._reader.long_reads.piece_bytes:
            return self._piece(start, stop)
        whole = io.BytesIO()
        for begin, end in self._pieces(start, stop):
            whole.write(self._piece(begin, end))
        return whole.getvalue()

    def read_into(self, start: int, target: memoryview) -> int:
        """Fill `target` from `start` on; the number of bytes, fewer only at the object's end."""
        start, stop = self._bounds(start, start + len(target))
        for begin, end in self._pieces(start, stop):
            with target[begin - start : end - start] as part:
                self._gather(begin, end, part)
        return stop - start

    def view(self, start: int, stop: int) -> memoryview | bytes:
        """The same bytes without a copy where they lie in one extent, and are more than a few."""
        if stop - start <= COPIED_BYTES:
            return self.read_at(start, stop)
        start, stop = self._bounds(start, stop)
        span, hit = self._brought_span(start, stop)
        if span is not None:
            try:
                with memoryview(span.extent.mapping) as whole:
                    view = whole[span.place(start, stop)].toreadonly()
            except ValueError:
                pass  # it left the tier just now
            else:
                self._enter(span, start, stop, hit=hit)
                return view
        return self.read_at(start, stop)

    @property
    def stands(self) -> bool:
        """Whether it is judged by the policy of now, as the last look at that found it; where it is
        not, `judge` before anything is told of it. Never waits."""
        reader = self._reader
        return (
            reader is self._home.reader()
            and not self._held.withdrawn
            and reader.gate.stands(self._pinned)
        )

    def judge(self) -> None:
        """Ask the policy of now. Raises PolicyDenied."""
        self._current()

    def at_hand(self, start: int, stop: int) -> memoryview | None:
        """What memory holds of the range from `start` on, in one piece and without a copy; None
        where it does not hold the first byte, or that must be asked for anew. Never waits.

        It ends early where an extent does. Use it and drop it, as a `view`.
        """
        held, reader, stop = self._held, self._reader, min(stop, self._size)
        if self._closed or not 0 <= start < stop or not self.stands:
            return None
        index, extent_bytes = reader.extent_of(held, start), reader.extent_bytes(held)
        stop = min(stop, (index + 1) * extent_bytes)
        span = held.spans.get(index)
        if span is None or not (span.complete or span.has(reader.pages(start, stop))):
            return None
        try:
            with memoryview(span.extent.mapping) as whole:
                view = whole[span.place(start, stop)].toreadonly()
        except ValueError:
            return None  # it left the tier just now
        self._enter(span, start, stop, hit=True)
        return view

    def lend(
        self, start: int, stop: int, has: Container[int], *, bring: bool = True
    ) -> Iterator[Loan]:
        """Lend another process the extents that hold a range, its missing pages brought first if
        `bring`; from the start on as many as memory holds. `has`: those that it has already. Each
        is lent when it is given, whatever becomes of the next."""
        start, stop = self._bounds(start, stop)
        held = self._current()
        for _, begin, end in self._reader.spans(held, start, stop) if held.memory else ():
            pages = self._reader.pages(begin, end)
            loan = self._reader.lend(held, pages, has)
            hit = loan is not None
            if loan is None and bring:
                self._reader.bring(self._pinned, held, begin, end)
                loan = self._reader.lend(held, pages, has)
            if loan is None:
                return  # memory has no room
            self._hits += hit and bring
            if bring and (not loan.complete or stop < self._size):
                self._fetch_ahead(begin, end)
            yield loan

    def standing(self) -> Standing | None:
        """For how long its path may be opened again without asking."""
        return self._reader.standing(self._pinned)

    def opened_again(self) -> None:
        """A borrower opened it once more by the same handle."""
        first = self._held.spans.get(0)
        if first is not None and first.complete:
            first.extent.uses += 1
            self._span = first

    def count(self, hits: int, served: int) -> None:
        """What a borrower read by himself, as he says: it only ever adds."""
        self._hits += max(0, hits)
        self._served += max(0, served)

    def warm(self, start: int, stop: int) -> int:
        """Bring a range into the cache; the bytes that had to be fetched from the store."""
        start, stop = self._bounds(start, stop)
        held = self._current()
        return self._home.holding().warm(self._pinned, held, start, stop)

    def close(self) -> None:
        """Let go; later reads raise ValueError."""
        if not self._closed:
            self._closed = True
            self._span = None
            self._private = (0, b"")
            self.tell_counts()

    def tell_counts(self) -> None:
        """Let what was read of it since the last time be counted for all."""
        hits, served = self._hits, self._served
        self._hits -= hits
        self._served -= served
        if served:
            self._reader.count(hits, served)

    def _bounds(self, start: int, stop: int) -> tuple[int, int]:
        if self._closed:
            raise ValueError(f"read of a closed object: {self.path}")
        start = min(max(start, 0), self._size)
        return start, min(max(stop, start), self._size)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """A long read in pieces; while one is taken, the next are fetched."""
        long_reads = self._reader.long_reads
        piece_bytes = long_reads.piece_bytes
        share = long_reads.begin() if stop - start > piece_bytes else None
        for begin in range(start, stop, piece_bytes):
            end = min(begin + piece_bytes, stop)
            if share is not None and end < stop and self._current().memory:
                ahead = min(begin + share.bytes, stop)
                self._reader.bring_ahead(self._pinned, self._held, begin, ahead, MOST_FLIGHTS_AHEAD)
            yield begin, end

    def _piece(self, start: int, stop: int) -> bytes:
        """One piece: from memory in one slice, else gathered."""
        span, hit = self._brought_span(start, stop)
        if span is not None:
            try:
                piece = span.extent.mapping[span.place(start, stop)]
            except ValueError:
                pass  # it left the tier just now
            else:
                self._enter(span, start, stop, hit=hit)
                return piece
        if not self._held.memory and stop - start < PRIVATE_BYTES:
            return self._private_piece(start, stop)
        gathered = bytearray(stop - start)
        with memoryview(gathered) as target:
            self._gather(start, stop, target)
        return bytes(gathered)

    def _private_piece(self, start: int, stop: int) -> bytes:
        """A small read of what may not be cached, from this handle's own few bytes."""
        first, held = self._private
        if not first <= start <= stop <= first + len(held):
            block = bytearray(min(PRIVATE_BYTES, self._size - start))
            with memoryview(block) as target:
                self._reader.read_past(self._pinned, start, target)
            self._private = first, held = start, bytes(block)
        self._served += stop - start
        return held[start - first : stop - first]

    def _brought_span(self, start: int, stop: int) -> tuple[Span | None, bool]:
        """The one extent with the whole range, its missing pages brought, and whether none were.

        None where the range crosses extents, or where memory may not or cannot hold it.
        """
        held = self._current()
        if stop <= start or not held.memory:
            return None, False
        span = held.spans.get(0)
        if span is not None and span.complete and stop <= span.stop:
            return span, True
        index = self._reader.extent_of(held, start)
        if self._reader.extent_of(held, stop - 1) != index:
            return None, False
        pages = self._reader.pages(start, stop)
        for hit in (True, False):
            span = held.spans.get(index)
            if span is not None and span.has(pages):
                return span, hit
            if hit:
                self._reader.bring(self._pinned, held, start, stop)
        return None, False

    def _gather(self, start: int, stop: int, target: memoryview) -> None:
        """Fill `target`, extent by extent, past the cache where it may not or cannot hold them."""
        held = self._current()
        if stop > start and held.memory:
            self._reader.bring(self._pinned, held, start, stop)
        for index, begin, end in self._reader.spans(held, start, stop):
            with target[begin - start : end - start] as part:
                if self._copied(index, begin, end, part):
                    continue
                if held.memory:
                    # In a tight tier it may have left before its turn came: the SSD may have it.
                    self._reader.bring(self._pinned, held, begin, end)
                    if self._copied(index, begin, end, part):
                        continue
                self._reader.read_past(self._pinned, begin, part)
                self._served += end - begin

    def _copied(self, index: int, begin: int, end: int, part: memoryview) -> bool:
        """Copy a range of one extent into `part`; False where memory does not hold all of it."""
        span = self._held.spans.get(index)
        if span is None or not span.has(self._reader.pages(begin, end)):
            return False
        try:
            with memoryview(span.extent.mapping) as whole:
                part[:] = whole[span.place(begin, end)]
        except ValueError:
            return False  # it left the tier just now
        self._enter(span, begin, end, hit=False)
        return True

    def _enter(self, span: Span, start: int, stop: int, *, hit: bool) -> None:
        """Count a read from `span`; entering an extent that was filled before is a use of it."""
        self._served += stop - start
        if hit:
            self._hits += 1
            if span is not self._span:
                span.extent.uses += 1
        self._span = span
        if not span.complete or stop < self._size:
            self._fetch_ahead(start, stop)

    def _fetch_ahead(self, start: int, stop: int) -> None:
        """After a read of that range, fetch what the next reads will want."""
        if self._ahead is None:
            self._ahead = self._reader.read_ahead()
        begin, end = self._ahead.next(start, stop, self._size)
        if begin < end:
            self._reader.bring_ahead(self._pinned, self._held, begin, end)

    def _current(self) -> CachedObject:
        """What is held by the reader of this process, under the policy of now.

        After a fork, or a change of the policy, it is looked for again. Raises PolicyDenied.
        """
        reader, held = self._home.reader(), self._held
        if reader is not self._reader or held.withdrawn or not reader.gate.is_judged(self._pinned):
            self._private = (0, b"")
            pinned = reader.gate.judged(self._pinned, anew=True)
            held = reader.attach(pinned)
            self._reader, self._pinned, self._held = reader, pinned, held
        return held
