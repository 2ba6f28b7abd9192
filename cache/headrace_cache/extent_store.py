"""The one gate to the tiers: nothing is stored or given without a placement.

What is shared here, and who may touch it (the note for whoever changes it):
  - `_lock` guards the table of objects, the memory tier and every charge. It is held for
    bookkeeping and for mapping or unmapping memory, never while bytes move.
  - Readers that hit take no lock: they look into `CachedObject.spans` and the span's `present`
    bytes, and copy from the mapping. Eviction first takes the span out of the table and then
    closes the mapping, so a reader that came too late gets ValueError, never other bytes.
  - A fill raises `Extent.filling` under the lock, so that its extent cannot leave, writes through a
    view of the mapping, marks the pages present, and lowers `filling`.
  - A crash at any point loses this process's memory and whatever was not sealed yet; sealed pages
    are verified when they are opened.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterable
from types import TracebackType

from headrace_cache.admission import Admission, admit
from headrace_cache.extent import ExtentShape
from headrace_cache.page import PageId, page_length
from headrace_cache.placement import Placement
from headrace_cache.tiers.memory import Extent, MemoryTier, Span, whole_kernel_pages
from headrace_cache.tiers.protocol import PageTier, TierUsage
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.latch import Latch

# Open objects look into spans; they see them through this gate.
__all__ = ["CachedObject", "ExtentStore", "Fill", "Span"]

#: What this process's own bookkeeping takes for a small object, as measured; it counts as used
#: memory, else a tier of tiny objects would hold a multiple of its bound.
OBJECT_BYTES = 1536
#: How often, and each time how long at most, a fill waits for room before its readers
#: read past the cache. Short: a store that stalls may hold much of a small tier.
MOST_WAITS_FOR_ROOM = 8
ROOM_SECONDS = 0.1
#: Objects in an arena begin at multiples of this, as Arrow wants its buffers.
ARENA_ALIGNMENT = 64


class CachedObject:
    """What the store holds of one version under one placement."""

    __slots__ = ("__weakref__", "digest", "memory", "placement", "size", "spans", "ssd", "version")

    def __init__(
        self, version: ObjectVersion, placement: Placement, digest: bytes, admission: Admission
    ) -> None:
        self.version = version
        self.digest = digest
        self.size = version.size
        self.placement = placement
        self.memory = admission.memory
        self.ssd = admission.ssd
        #: Extent index -> the object's part of that extent, where memory holds one.
        self.spans: dict[int, Span] = {}


class ExtentStore:
    """Holds objects' pages in memory and, sealed, on the SSD, as their placements allow."""

    def __init__(self, *, memory: MemoryTier, ssd: PageTier | None, shape: ExtentShape) -> None:
        self.shape = shape
        self._memory = memory
        self._ssd = ssd
        self._ssd_bytes = ssd.usage().limit if ssd else 0
        self._lock = threading.Lock()
        #: An object lives for as long as a reader or an extent holds it.
        self._objects: weakref.WeakValueDictionary[tuple[bytes, Placement], CachedObject] = (
            weakref.WeakValueDictionary()
        )
        #: Fills under way, and what opens when the next of them ends.
        self._fills = 0
        self._ended = Latch()
        self._arena: Extent | None = None
        self._arena_numbers = itertools.count()

    def attach(self, version: ObjectVersion, placement: Placement) -> tuple[CachedObject, bool]:
        """What is held, and may be held, of this version under this placement; whether it is new
        here, so that nothing is in memory."""
        digest = version.digest()
        with self._lock:
            held = self._objects.get((digest, placement))
            if held is None:
                admission = admit(
                    placement,
                    version.size,
                    memory_bytes=self._memory.limit_bytes,
                    ssd_bytes=self._ssd_bytes,
                )
                held = CachedObject(version, placement, digest, admission)
                self._objects[digest, placement] = held
                return held, True
            return held, False

    def forget_sealed(self, held: CachedObject) -> None:
        """Destroy the key of what the SSD holds of this version, and forget its pages."""
        if self._ssd is not None:
            self._ssd.forget(held.digest)

    def missing(self, held: CachedObject, pages: range) -> list[int]:
        """Which of these pages memory does not hold; without a lock, so true for a moment only."""
        page_bytes = self.shape.page_bytes
        each = self.shape.extent_bytes(held.size)
        absent: list[int] = []
        for page in pages:
            span = held.spans.get(page * page_bytes // each)
            if span is None or not span.has(range(page, page + 1)):
                absent.append(page)
        return absent

    def begin_fill(self, held: CachedObject, pages: range) -> Fill | None:
        """Room in memory for these pages, all of one extent; None where there is none.

        Close the fill in any case.
        """
        index = pages.start * self.shape.page_bytes // self.shape.extent_bytes(held.size)
        for waited in range(MOST_WAITS_FOR_ROOM):
            with self._lock:
                ended, others = self._ended, self._fills
                span = self._room(held, index, pages)
            if span is not None:
                return Fill(self, held, span, pages)
            if waited and not others:
                break  # only readers' views hold memory: waiting brings no room
            # What is being filled, or waits to be sealed, cannot leave memory now; soon it can.
            if self._ssd is not None:
                self._ssd.flush()
            if others:
                ended.wait(ROOM_SECONDS)
        return None

    def abandon_in_child(self) -> None:
        """After a fork: let go of the parent's memory, which would else be held twice over.

        What a thread of the parent was moving at the fork stays: its frame holds it for ever.
        """
        self._lock = threading.Lock()
        self._arena = None
        if self._ssd is not None:
            self._ssd.after_fork_in_child()  # first: it holds views of what waits to be sealed
        self._memory.close()

    def _room(self, held: CachedObject, index: int, pages: range) -> Span | None:
        """The span of these pages, charged and pinned for a fill; the lock is held."""
        span = held.spans.get(index) or self._new_span(held, index)
        if span is None:
            return None
        if not self._charge(held, span, pages):
            self._memory.drop_if_empty(span.extent)
            return None
        span.extent.filling += 1
        self._fills += 1
        return span

    def usage(self) -> dict[str, TierUsage]:
        """How full each tier is, by its name."""
        tiers = {"memory": self._memory.usage()}
        if self._ssd is not None:
            tiers["ssd"] = self._ssd.usage()
        return tiers

    def flush(self) -> None:
        """Return when what was published can be found by other processes, where it may be."""
        if self._ssd is not None:
            self._ssd.flush()

    def close(self) -> None:
        """Flush, and let memory and files go; a view in use keeps its memory until dropped."""
        if self._ssd is not None:
            self._ssd.close()
        with self._lock:
            self._arena = None
            self._memory.close()

    def load_sealed(self, held: CachedObject, pages: list[tuple[int, memoryview]]) -> list[bool]:
        """Open these pages from the SSD into their targets; False for those that it has not."""
        if self._ssd is None or not held.ssd:
            return [False] * len(pages)
        return self._ssd.load([(PageId(held.digest, page), target) for page, target in pages])

    def publish(self, held: CachedObject, span: Span, pages: list[int], *, seal: bool) -> None:
        """These pages' bytes are in place: readers may have them, and the SSD where it may."""
        with self._lock:
            for page in pages:
                span.mark(page)
        if seal and self._ssd is not None and held.ssd:
            self._ssd.store(
                [(PageId(held.digest, page), self._page_view(held, span, page)) for page in pages]
            )

    def end_fill(self, span: Span) -> None:
        """The fill no longer needs its extent."""
        with self._lock:
            span.extent.filling -= 1
            self._fills -= 1
            ended, self._ended = self._ended, Latch()
        ended.open()

    def _page_view(self, held: CachedObject, span: Span, page: int) -> memoryview:
        start = page * self.shape.page_bytes
        length = page_length(page, held.size, self.shape.page_bytes)
        return memoryview(span.extent.mapping)[span.place(start, start + length)]

    def _new_span(self, held: CachedObject, index: int) -> Span | None:
        page_bytes = self.shape.page_bytes
        if self.shape.in_arena(held.size):
            return self._arena_span(held)
        each = self.shape.extent_bytes(held.size)
        length = min(each, held.size - index * each)
        extent = self._memory.allocate((held.digest, index), length)
        if extent is None:
            return None
        span = Span(extent, 0, index * each, length, page_bytes)
        extent.owners.append((held, index, span))
        held.spans[index] = span
        return span

    def _arena_span(self, held: CachedObject) -> Span | None:
        """A place in the arena that is being filled, or in a new one where that is full or gone."""
        arena = self._arena
        base = 0 if arena is None else -(-arena.taken // ARENA_ALIGNMENT) * ARENA_ALIGNMENT
        if arena is None or arena.gone or base + held.size > arena.size:
            key = ("arena", next(self._arena_numbers))
            base = 0
            self._arena = arena = self._memory.allocate(key, self.shape.arena_bytes)
            if arena is None:
                return None
        growth = whole_kernel_pages(base + held.size) - whole_kernel_pages(arena.taken)
        growth += OBJECT_BYTES
        if not self._memory.charge(arena, growth):
            return None
        arena.taken = base + held.size
        span = Span(arena, base, 0, held.size, self.shape.page_bytes)
        span.charged[:] = b"\1" * len(span.charged)
        arena.owners.append((held, 0, span))
        held.spans[0] = span
        return span

    def _charge(self, held: CachedObject, span: Span, pages: range) -> bool:
        """Charge the memory of those pages that were not charged before."""
        new = [page for page in pages if not span.charged[page - span.first_page]]
        need = sum(
            whole_kernel_pages(page_length(page, held.size, self.shape.page_bytes)) for page in new
        )
        if need and not self._memory.charge(span.extent, need):
            return False
        for page in new:
            span.charged[page - span.first_page] = 1
        return True


class Fill:
    """Memory pinned for some pages of one extent while their bytes arrive. A context manager."""

    def __init__(self, store: ExtentStore, held: CachedObject, span: Span, pages: range) -> None:
        self._store = store
        self._held = held
        self._span = span
        self._pages = pages
        self._view = memoryview(span.extent.mapping)

    def load_sealed(self) -> list[int]:
        """Open what the SSD has of the pages, publish it; the pages that must be fetched."""
        targets = [(page, self.target(range(page, page + 1))) for page in self._pages]
        found = self._store.load_sealed(self._held, targets)
        for _, target in targets:
            target.release()
        self.publish([page for page, ok in zip(self._pages, found, strict=True) if ok], seal=False)
        return [page for page, ok in zip(self._pages, found, strict=True) if not ok]

    def target(self, pages: range) -> memoryview:
        """Where the bytes of these pages belong; release it before the fill is closed."""
        page_bytes = self._store.shape.page_bytes
        stop = min(pages.stop * page_bytes, self._held.size)
        return self._view[self._span.place(pages.start * page_bytes, stop)]

    def publish(self, pages: Iterable[int], *, seal: bool = True) -> None:
        """The bytes of these pages are in place."""
        self._store.publish(self._held, self._span, list(pages), seal=seal)

    def __enter__(self) -> Fill:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._view.release()
        self._store.end_fill(self._span)
