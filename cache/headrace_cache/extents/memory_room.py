"""Where in memory an object's pages get their place: an extent of their own, or an arena's next.

Every method is called with the extent store's lock held.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable

from headrace_cache.extents.arena import ROW_BYTES, Arena, ArenaRows, Kind, Row, kind_bytes
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

#: What this process's own bookkeeping takes for an object of several pages in an arena beside its
#: key, as measured (tests/bench/scale.py: 1,250 to 1,450); it counts as used memory.
OBJECT_BYTES = 1536
#: Arenas that are filled at once, each for those whom its objects' rules let read.
MOST_ARENAS = 16


class MemoryRoom:
    """Makes spans in the memory tier, and charges what they take."""

    def __init__(self, memory: MemoryTier, shape: ExtentShape) -> None:
        self.shape = shape
        self._memory = memory
        #: The arenas that small objects are put into now, for each audience its own: who is lent
        #: one may read all that is in it.
        self._arenas: dict[Audience, Arena] = {}
        self._arena_numbers = itertools.count()
        self._rows = ArenaRows()

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

    def whole(self, held: CachedObject, span: Span) -> None:
        """All bytes of this span are there. A small object rests from now on when nobody uses it,
        known as it is known now; where there is no room to remember it, its last user takes it
        along."""
        arena = self._arena_of(held, span)
        if arena is None or held.spans.get(0) is not span:
            return  # the second: it was forgotten while its bytes came
        if arena.knows(held) or self._memory.charge(arena.extent, kind_bytes(held.scope)):
            arena.keep(held, span)
        else:
            arena.lose(held)

    def resting(self, digest: bytes) -> list[Row]:
        """Where a version rests, under each placement once at most."""
        return self._rows.of(digest)

    def wake(self, held: CachedObject, row: Row) -> None:
        """Somebody uses the object that rested there; it has its scope."""
        span = Span(row.kind.arena.extent, row.base, 0, held.size, self.shape.page_bytes)
        span.charged[:] = b"\1" * len(span.charged)
        if not math.isnan(row.since):
            span.mark_all(row.since)
        row.kind.arena.use(held, span)

    def kinds(self) -> list[Kind]:
        """All kinds of objects that rest."""
        return self._rows.kinds()

    def withdraw(self, arena: Arena, kinds: Iterable[Kind]) -> None:
        """Let no object of these kinds rest any more: nothing in their arena, where that can
        leave."""
        extent = arena.extent
        if extent.gone or self._memory.evict(extent):
            return
        if self._memory.lends:
            self._memory.retire(extent)
        else:
            arena.end(kinds)

    def remove(self, held: CachedObject, span: Span) -> None:
        """The object's part of an extent is nobody's any more."""
        extent, arena = span.extent, self._arena_of(held, span)
        if arena is not None:
            arena.remove(held)
        extent.owners = [owner for owner in extent.owners if owner[2] is not span]
        if not extent.objects:
            self._memory.orphan(extent)

    def forget_arenas(self) -> None:
        """Put nothing more into the arenas of now, and know no object that rests."""
        self._arenas.clear()
        self._rows = ArenaRows()

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
        arena = self._arena_for(held)
        if arena is None:
            return None
        extent = arena.extent
        base = arena.base
        growth = 0
        if not self._memory.lends:
            growth = whole_kernel_pages(base + held.size) - whole_kernel_pages(extent.taken)
        rests = self._rests(held)
        if rests:
            growth += ROW_BYTES + (0 if arena.knows(held) else kind_bytes(held.scope))
        else:
            growth += OBJECT_BYTES + len(held.version.ref.key)
        if not self._memory.charge(extent, growth):
            return None
        extent.taken = base + held.size
        span = Span(extent, base, 0, held.size, self.shape.page_bytes)
        span.charged[:] = b"\1" * len(span.charged)
        if rests:
            arena.place(held, span)
        else:
            extent.owners.append((held, 0, span))
            held.spans[0] = span
        return span

    def _arena_for(self, held: CachedObject) -> Arena | None:
        audience = held.placement.audience
        arena = self._arenas.get(audience)
        if arena is not None and not arena.extent.gone and arena.has_room(held.size):
            return arena
        extent = self._new_arena(("arena", next(self._arena_numbers)))
        if extent is None:
            return None
        arena = Arena(extent, self._rows)
        extent.tenants = arena
        self._arenas.pop(audience, None)
        if len(self._arenas) >= MOST_ARENAS:
            del self._arenas[next(iter(self._arenas))]  # the oldest; it only gets no more
        self._arenas[audience] = arena
        return arena

    def _new_arena(self, key: Hashable) -> Extent | None:
        arena = self._memory.allocate(key, self.shape.arena_bytes)
        if arena is None or not self._memory.lends:
            return arena
        if self._memory.charge(arena, whole_kernel_pages(arena.size)):
            return arena
        self._memory.drop_if_empty(arena)
        return None

    def _arena_of(self, held: CachedObject, span: Span) -> Arena | None:
        """The arena in which this object rests, or will once it is whole."""
        tenants = span.extent.tenants
        return tenants if isinstance(tenants, Arena) and self._rests(held) else None

    def _rests(self, held: CachedObject) -> bool:
        """Of what has several pages some may be missing, which no row tells."""
        return held.size <= self.shape.page_bytes

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
