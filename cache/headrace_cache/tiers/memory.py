"""The memory tier: extents in mapped memory, bounded to the byte.

Memory is charged before it is filled and given back when it is unmapped. An extent of which
somebody holds a view (pyarrow decoding a column, pages waiting to be sealed) cannot be unmapped: it
stays, charged and readable, and leaves when the last view is gone and its turn comes.

Every method is called with the extent store's lock held, except where it says otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from mmap import mmap
from typing import Protocol

from headrace_cache.backing import create_backing, open_for_reading
from headrace_cache.eviction.protocol import EvictionRule
from headrace_cache.tiers.protocol import TierUsage

#: Extents in use that are passed over in one search for room; more would make a tier full of views
#: slow for everybody.
MOST_TRIES = 16
#: The kernel gives memory in pieces of this size.
KERNEL_PAGE_BYTES = 4096


class Span:
    """One object's part of an extent: where it lies, and which of its pages are there.

    Pages only ever go from absent to present. Readers look without a lock: a page is marked after
    its bytes are in place, and an extent that leaves makes `mapping` refuse, never lie.
    """

    __slots__ = (
        "absent",
        "charged",
        "complete",
        "extent",
        "first_page",
        "length",
        "present",
        "shift",
        "since",
        "start",
        "stop",
    )

    def __init__(self, extent: Extent, base: int, start: int, length: int, page_bytes: int) -> None:
        self.extent = extent
        #: What to add to a place in the object for the same place in the mapping.
        self.shift = base - start
        #: From where to where (exclusive) in the object it reaches.
        self.start = start
        self.stop = start + length
        self.length = length
        self.first_page = start // page_bytes
        pages = -(-length // page_bytes)
        self.present = bytearray(pages)
        #: Pages whose memory is charged: a fill that failed may have written some of it.
        self.charged = bytearray(pages)
        self.absent = pages
        self.complete = False
        #: When the oldest byte in it was fetched, in seconds since the epoch.
        self.since: float | None = None

    def has(self, pages: range) -> bool:
        """Whether all these pages of the object are present; any thread may ask."""
        if self.complete:
            return True
        first = pages.start - self.first_page
        return self.present.find(0, first, first + len(pages)) < 0

    def mark(self, page: int) -> None:
        """The page's bytes are in place."""
        index = page - self.first_page
        if not self.present[index]:
            self.present[index] = 1
            self.extent.note(index)
            self.absent -= 1
            self.complete = self.absent == 0

    def mark_all(self, since: float) -> None:
        """Every byte is in place, the oldest fetched then."""
        for page in range(self.first_page, self.first_page + len(self.present)):
            self.mark(page)
        self.charged[:] = b"\1" * len(self.charged)
        self.since = since

    def clear(self) -> None:
        """No page counts as present any more; the bytes stay for whoever reads them just now."""
        self.complete = False
        self.present[:] = bytes(len(self.present))
        self.absent = len(self.present)

    def held_bytes(self, page_bytes: int) -> int:
        """How many bytes of the object are present."""
        last = len(self.present) - 1
        count = sum(self.present) * page_bytes
        if last >= 0 and self.present[last]:
            count -= (last + 1) * page_bytes - self.length
        return count

    def place(self, start: int, stop: int) -> slice:
        """Where bytes `start` to `stop` of the object lie in the mapping."""
        return slice(self.shift + start, self.shift + stop)


class SpanOwner(Protocol):
    """An object with its parts of extents, by extent index."""

    @property
    def spans(self) -> dict[int, Span]:
        """What memory holds of it."""
        ...


class Tenants(Protocol):
    """Objects that share an extent, and are known to it while somebody uses them."""

    @property
    def count(self) -> int:
        """How many there are, used or not."""
        ...

    def in_use(self) -> list[tuple[SpanOwner, int, Span]]:
        """Those that somebody uses, each with the index of its part and the part."""
        ...

    def leave(self) -> None:
        """Nothing lies here any more."""
        ...


class Extent:
    """A run of backing memory, the unit of eviction; one object's, or an arena of several."""

    __slots__ = (
        "_backing",
        "bytes_held",
        "filling",
        "gone",
        "key",
        "lent",
        "mapping",
        "number",
        "owners",
        "presence",
        "size",
        "taken",
        "tenants",
        "uses",
    )

    def __init__(
        self, key: Hashable, size: int, number: int, *, shared: bool = False, noted: bool = False
    ) -> None:
        """`noted`: who has it mapped sees in the memory behind it, a byte for each, which of its
        pages are present; it is one object's then."""
        self.key = key
        self.size = size
        #: No other extent of this tier ever has it.
        self.number = number
        #: Where in the mapping these bytes begin; -1 where there are none.
        self.presence = whole_kernel_pages(size) if noted else -1
        behind = KERNEL_PAGE_BYTES if noted else 0
        self._backing = create_backing(self.presence + behind if noted else size, shared=shared)
        self.mapping: mmap = self._backing.mapping
        self.uses = 0
        self.filling = 0
        #: How many other processes have it mapped; it cannot leave until they gave it back.
        self.lent = 0
        self.bytes_held = 0
        #: How much of it belongs to objects; an arena grows.
        self.taken = 0
        #: It left the tier; nothing more may be put into it.
        self.gone = False
        #: For each object in it: the object, kept alive by this, and its span by index.
        self.owners: list[tuple[SpanOwner, int, Span]] = []
        #: The small objects in it, which nothing here keeps alive.
        self.tenants: Tenants | None = None

    @property
    def objects(self) -> int:
        """How many objects have a part of it."""
        return len(self.owners) + (self.tenants.count if self.tenants else 0)

    def parts(self) -> list[tuple[SpanOwner, int, Span]]:
        """Objects that look for their bytes here, each with the index of its part and the part."""
        return [*self.owners, *(self.tenants.in_use() if self.tenants else ())]

    def vacate(self) -> None:
        """No object has a part of it any more."""
        self.owners.clear()
        if self.tenants is not None:
            self.tenants.leave()
            self.tenants = None

    def note(self, index: int) -> None:
        """The page of this index in it is present: after its bytes, so that nobody is too early."""
        if self.presence >= 0:
            self.mapping[self.presence + index] = 1

    @property
    def busy(self) -> bool:
        """Whether a fill is under way."""
        return self.filling > 0

    def open_for_reading(self) -> int:
        """A descriptor for another process, which the caller closes. Raises OSError."""
        return open_for_reading(self._backing.descriptor)

    def unmap(self) -> bool:
        """Give the memory back; False while somebody holds a view of it."""
        try:
            self._backing.close()
        except BufferError:
            return False
        return True


class MemoryTier:
    """Extents up to `limit_bytes` of memory and `most_extents` mappings; both bounds are hard."""

    def __init__(
        self,
        *,
        limit_bytes: int,
        most_extents: int,
        rule: EvictionRule[Extent],
        call_back: Callable[[int], None] | None = None,
    ) -> None:
        """`call_back` is what tells other processes to give back the extent of this number, where
        extents are lent at all; it must return at once."""
        self.limit_bytes = limit_bytes
        self._most_extents = most_extents
        self._rule = rule
        self._call_back = call_back
        self._numbers = itertools.count()
        self._extents: set[Extent] = set()
        self._used = 0

    def allocate(self, key: Hashable, size: int, *, noted: bool = False) -> Extent | None:
        """An empty extent; None where no other can leave for it. It holds no memory yet."""
        while len(self._extents) >= self._most_extents:
            if not self._evict_one():
                return None
        extent = self._made(key, size, noted=noted)
        if extent is None:
            # The process has no descriptor or mapping left, whoever took them: a cache makes do.
            extent = self._made(key, size, noted=noted) if self._evict_one() else None
            if extent is None:
                return None
        self._extents.add(extent)
        self._rule.insert(extent)
        return extent

    def _made(self, key: Hashable, size: int, *, noted: bool) -> Extent | None:
        try:
            return Extent(key, size, next(self._numbers), shared=self.lends, noted=noted)
        except OSError:
            return None

    def charge(self, extent: Extent, count: int) -> bool:
        """Count `count` bytes (whole kernel pages) as used by `extent`, others leaving for them.

        False where there is no room; nothing is counted then. `extent` itself never leaves here.
        """
        if count > self.limit_bytes:
            return False
        extent.filling += 1
        try:
            while self._used + count > self.limit_bytes:
                if not self._evict_one():
                    return False
        finally:
            extent.filling -= 1
        self._used += count
        extent.bytes_held += count
        self._rule.grown(extent, count)
        return True

    def evict(self, extent: Extent) -> bool:
        """Let this extent go now; False where it is busy or in use."""
        if extent.busy:
            return False
        self._rule.remove(extent)
        if self._let_go(extent):
            return True
        self._rule.readmit(extent)
        return False

    @property
    def lends(self) -> bool:
        """Whether extents may be lent. Who has one mapped can make all of it take memory, by
        looking at it: so all of it is charged from the beginning."""
        return self._call_back is not None

    def retire(self, extent: Extent) -> None:
        """Nothing is in it any more, nor ever will be: it leaves now, or when others give it
        back."""
        for _, _, span in extent.parts():
            span.clear()
        self._take_out(extent)
        extent.vacate()
        extent.gone = True
        self.orphan(extent)

    def orphan(self, extent: Extent) -> None:
        """Nobody's any more: it leaves now, or when nobody uses it and its turn comes. Its key is
        free for another."""
        if not self.evict(extent):
            self._rule.remove(extent)
            extent.key = object()
            self._rule.readmit(extent)

    def drop_if_empty(self, extent: Extent) -> None:
        """Let go of an extent that got no room for its first page."""
        if extent.bytes_held == 0:
            self.evict(extent)

    def usage(self) -> TierUsage:
        """Bytes used and allowed, and how many objects have a page here. Any thread may ask."""
        extents = tuple(self._extents)
        large = {id(owner) for extent in extents for owner, *_ in extent.owners}
        # Read once: an extent that leaves meanwhile has none.
        small = sum(tenants.count for each in extents if (tenants := each.tenants) is not None)
        return TierUsage(self._used, self.limit_bytes, len(large) + small)

    def close(self) -> None:
        """Let everything go; what is in use gives its memory back with its last view."""
        for extent in tuple(self._extents):
            self._rule.remove(extent)
            self._take_out(extent)
            extent.tenants = None
            extent.unmap()
            self._extents.discard(extent)
        self._used = 0

    def _evict_one(self) -> bool:
        """Let one extent go; False where those whose turn it is are all busy or in use.

        Those go to the end, so that the next call tries others.
        """
        for _ in range(MOST_TRIES):
            extent = self._rule.choose()
            if extent is None:
                return False
            if self._let_go(extent):
                return True
            self._rule.readmit(extent)
        return False

    def _let_go(self, extent: Extent) -> bool:
        """Take it from its objects, then unmap it; as before where a view holds it, or another
        process, which is asked to give it back."""
        if extent.lent:
            if self._call_back is not None:
                self._call_back(extent.number)
            return False
        parts = self._take_out(extent)
        if not extent.unmap():
            for owner, index, span in parts:
                owner.spans[index] = span
            return False
        extent.vacate()
        extent.gone = True
        self._extents.discard(extent)
        self._used -= extent.bytes_held
        return True

    def _take_out(self, extent: Extent) -> list[tuple[SpanOwner, int, Span]]:
        parts = extent.parts()
        for owner, index, _ in parts:
            owner.spans.pop(index, None)
        return parts


def whole_kernel_pages(count: int) -> int:
    """`count` bytes rounded up to what the kernel gives."""
    return -(-count // KERNEL_PAGE_BYTES) * KERNEL_PAGE_BYTES
