"""Where in memory an object's pages get their place: an extent of their own, or an arena's next.

Every method is called with the extent store's lock held.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable

from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.extents.extent import ExtentShape
from headrace_cache.extents.page import page_length
from headrace_cache.policy.audience import Audience
from headrace_cache.tiers.memory import (
    KERNEL_PAGE_BYTES,
    Extent,
    MemoryTier,
    Span,
    whole_kernel_pages,
)

#: What this process's own bookkeeping takes for a small object beside its key, as measured
#: (tests/bench/scale.py: 1,250 to 1,450); it counts as used memory, else a tier of tiny objects
#: would hold a multiple of its bound.
OBJECT_BYTES = 1536
#: Objects in an arena begin at multiples of this, as Arrow wants its buffers.
ARENA_ALIGNMENT = 64
#: Arenas that are filled at once, each for those whom its objects' rules let read.
MOST_ARENAS = 16


class MemoryRoom:
    """Makes spans in the memory tier, and charges what they take."""

    def __init__(self, memory: MemoryTier, shape: ExtentShape) -> None:
        self.shape = shape
        self._memory = memory
        #: The arenas that small objects are put into now, for each audience its own: who is lent
        #: one may read all that is in it.
        self._arenas: dict[Audience, Extent] = {}
        self._arena_numbers = itertools.count()

    def take(self, held: CachedObject, index: int, pages: range) -> Span | None:
        """The span of these pages, charged and pinned for a fill; None where there is none."""
        span = held.spans.get(index) or self._new_span(held, index)
        if span is None:
            return None
        if not self._charge(held, span, pages):
            self._memory.drop_if_empty(span.extent)
            return None
        span.extent.filling += 1
        return span

    def end_arena(self) -> None:
        """Put nothing more into the arenas of now."""
        self._arenas.clear()

    def _new_span(self, held: CachedObject, index: int) -> Span | None:
        page_bytes = self.shape.page_bytes
        if self.shape.in_arena(held.size):
            return self._arena_span(held)
        each = self.shape.extent_bytes(held.size)
        length = min(each, held.size - index * each)
        lends = self._memory.lends
        extent = self._memory.allocate((held.digest, held.placement, index), length, noted=lends)
        if extent is None:
            return None
        span = Span(extent, 0, index * each, length, page_bytes)
        if lends:
            if not self._memory.charge(extent, whole_kernel_pages(length) + KERNEL_PAGE_BYTES):
                self._memory.drop_if_empty(extent)
                return None
            span.charged[:] = b"\1" * len(span.charged)
        extent.owners.append((held, index, span))
        held.spans[index] = span
        return span

    def _arena_span(self, held: CachedObject) -> Span | None:
        """A place in the arena that is being filled, or in a new one where that is full or gone."""
        audience = held.placement.audience
        arena = self._arenas.get(audience)
        base = 0 if arena is None else -(-arena.taken // ARENA_ALIGNMENT) * ARENA_ALIGNMENT
        if arena is None or arena.gone or base + held.size > arena.size:
            key = ("arena", next(self._arena_numbers))
            base = 0
            arena = self._new_arena(key)
            if arena is None:
                return None
            self._arenas.pop(audience, None)
            if len(self._arenas) >= MOST_ARENAS:
                del self._arenas[next(iter(self._arenas))]  # the oldest; it only gets no more
            self._arenas[audience] = arena
        growth = 0
        if not self._memory.lends:
            growth = whole_kernel_pages(base + held.size) - whole_kernel_pages(arena.taken)
        growth += OBJECT_BYTES + len(held.version.ref.key)
        if not self._memory.charge(arena, growth):
            return None
        arena.taken = base + held.size
        span = Span(arena, base, 0, held.size, self.shape.page_bytes)
        span.charged[:] = b"\1" * len(span.charged)
        arena.owners.append((held, 0, span))
        held.spans[0] = span
        return span

    def _new_arena(self, key: Hashable) -> Extent | None:
        arena = self._memory.allocate(key, self.shape.arena_bytes)
        if arena is None or not self._memory.lends:
            return arena
        if self._memory.charge(arena, whole_kernel_pages(arena.size)):
            return arena
        self._memory.drop_if_empty(arena)
        return None

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
