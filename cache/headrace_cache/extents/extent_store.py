"""The one gate to the tiers: nothing is stored or given without a placement.

What is shared here, and who may touch it (the note for whoever changes it):
  - `_lock` guards the table of objects, the memory tier and every charge. It is held for
    bookkeeping and for mapping or unmapping memory, never while bytes move.
  - Readers that hit take no lock: they look into `CachedObject.spans` and the span's `present`
    bytes, and copy from the mapping. Eviction first takes the span out of the table and then
    closes the mapping, so a reader that came too late gets ValueError, never other bytes.
  - A fill raises `Extent.filling` under the lock, so that its extent cannot leave, writes through a
    view of the mapping, marks the pages present, and lowers `filling`.
  - A change of the policy withdraws objects: under the lock they leave the table, and their spans
    are cleared, so that who reads on looks anew. What was being handed to the SSD tier just then is
    in `_handing`, and waited for before the tier is purged.
  - A crash at any point loses this process's memory and whatever was not sealed yet; sealed pages
    are verified when they are opened.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Container, Iterable, Sequence

from headrace_cache.extents.admission import Admission, admit
from headrace_cache.extents.arena import Arena, Kind
from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.extents.extent import ExtentShape
from headrace_cache.extents.fill import Fill
from headrace_cache.extents.handing import Handing
from headrace_cache.extents.loans import Loan, Loans
from headrace_cache.extents.memory_room import MemoryRoom
from headrace_cache.extents.object_table import ObjectTable
from headrace_cache.extents.page import PageId, page_length
from headrace_cache.policy.placement import Placement
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.memory import Extent, MemoryTier, Span, whole_kernel_pages
from headrace_cache.tiers.off_tier import OffTier
from headrace_cache.tiers.protocol import HeldPage, PageTier, PurgeReport, TierUsage
from headrace_namespace.clock import Clock
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.latch import Latch

# Open objects look into spans; they see them through this gate.
__all__ = ["CachedObject", "Extent", "ExtentStore", "HeldPage", "Loan", "PurgeReport", "Span"]

#: How often, and each time how long at most, a fill waits for room before its readers read past
#: the cache. Short: a store that stalls may hold much of a small tier.
MOST_WAITS_FOR_ROOM = 8
ROOM_SECONDS = 0.1
#: How long a purge and a flush wait for pages that are just being handed to the SSD tier: where its
#: backlog is full they are sealed meanwhile, at most 8 MiB a time.
HANDED_SECONDS = 10.0


class ExtentStore:
    """Holds objects' pages in memory and, sealed, on the SSD, as their placements allow."""

    def __init__(
        self,
        *,
        memory: MemoryTier,
        ssd: PageTier | None,
        shape: ExtentShape,
        clock: Clock,
        on_withdraw: Callable[[], None] | None = None,
    ) -> None:
        """`on_withdraw` is called when objects were withdrawn; it must return at once."""
        self.shape = shape
        self._clock = clock
        self._on_withdraw = on_withdraw
        self._memory = memory
        #: Whether there is an SSD tier.
        self.has_ssd = ssd is not None
        self._ssd: PageTier = ssd or OffTier()
        self._ssd_bytes = ssd.usage().limit if ssd else 0
        #: Whether the SSD holds nothing that it must not: not so where a purge failed.
        self.ssd_is_clean = True
        #: Each begins before the look at whether the pages may be handed.
        self._handing = Handing(clock)
        self._lock = threading.Lock()
        #: Fills under way, and what opens when the next of them ends.
        self._fills = 0
        self._ended = Latch()
        self._room = MemoryRoom(memory, shape)
        self._objects = ObjectTable(self._room, self._admitted)
        #: For this store to change; its sums are for everybody.
        self.loans = Loans()
        self._staged_numbers = itertools.count()

    def attach(
        self, version: ObjectVersion, placement: Placement, scope: Scope
    ) -> tuple[CachedObject, bool]:
        """What is held, and may be held, of this version under this placement; whether it is new
        here, so that nothing is in memory. `scope` is what its pages are sealed under."""
        with self._lock:
            return self._objects.attach(version, placement, scope)

    def forget_sealed(self, held: CachedObject) -> None:
        """Forget what the SSD holds of this version: no reader finds it any more."""
        self._ssd.forget(held.digest)

    def forget(self, held: CachedObject) -> int:
        """Forget what memory and the SSD hold of this version, whatever its placement; the bytes.

        What a reader holds a view of stays his. The memory of a small object returns with the
        others of its arena.
        """
        with self._lock:
            memory = sum(
                self._take_out(twin, span)
                for twin in self._objects.twins(held)
                for span in tuple(twin.spans.values())
            )
        sealed = self._ssd.forget(held.digest)
        return max(memory, sealed)  # mostly the same bytes, held twice

    def forget_older(self, held: CachedObject, ttl_seconds: float) -> None:
        """Forget what was fetched longer ago than that."""
        before = self._clock.now() - ttl_seconds
        with self._lock:
            for span in tuple(held.spans.values()):
                if span.since is not None and span.since < before:
                    self._take_out(held, span)
        if not held.ssd:
            return
        stored = [page.stored_at for page in self._ssd.inspect(held.digest)]
        if stored and min(stored) < before:
            self._ssd.expire(held.digest, before)
        held.sealed_since = min((at for at in stored if at >= before), default=None)

    def sealed_pages(self, held: CachedObject) -> Sequence[HeldPage]:
        """The pages that the SSD holds of this version, by index."""
        return self._ssd.inspect(held.digest)

    def is_sealed(self, held: CachedObject, page: int) -> bool:
        """Whether the SSD holds the page, or soon will."""
        return self._ssd.holds(PageId(held.digest, page))

    def seal(self, held: CachedObject, pages: Iterable[int]) -> None:
        """Seal on the SSD those of these pages that memory holds, where they may lie there."""
        if not held.ssd:
            return
        each = self.shape.extent_bytes(held.size)
        views: list[tuple[PageId, memoryview]] = []
        with self._handing.one():
            with self._lock:  # no extent leaves meanwhile; a view then keeps it
                for page in pages:
                    span = held.spans.get(page * self.shape.page_bytes // each)
                    if span is not None and span.has(range(page, page + 1)):
                        views.append((PageId(held.digest, page), self._page_view(held, span, page)))
                if not self._may_hand(held):
                    return
            self._ssd.store(views, held.scope)

    def withdraw(self, affected: Callable[[Scope, Placement], bool]) -> None:
        """Take the affected objects out of memory, and out of use: their readers attach anew.

        From the return on nothing more is kept of them under their placements; what is being handed
        to the SSD tier is for `purge` to wait for. Views that readers hold stay theirs.
        """
        with self._lock:
            objects, kinds = self._objects.in_use(), self._room.kinds()
        chosen = [held for held in objects if affected(held.scope, held.placement)]
        chosen_kinds = [kind for kind in kinds if affected(kind.scope, kind.placement)]
        arenas: dict[Arena, list[Kind]] = {}
        for kind in chosen_kinds:
            arenas.setdefault(kind.arena, []).append(kind)
        judged = {id(held) for held in objects}
        with self._lock:
            for arena, of in arenas.items():  # those that were woken meanwhile
                chosen += arena.used(of, judged)
            for held in chosen:
                held.withdrawn = True
                self._objects.remove(held)
                for span in tuple(held.spans.values()):
                    # With all that shares its arena, so that its bytes leave memory now.
                    if not self._memory.evict(span.extent):
                        self._take_out(held, span)
            for arena, of in arenas.items():
                self._room.withdraw(arena, of)
        if (chosen or chosen_kinds) and self._on_withdraw is not None:
            self._on_withdraw()

    def purge(self, covers: Callable[[Scope], bool]) -> PurgeReport | None:
        """Destroy what the SSD holds of the covered scopes; None where that is nothing. Raises
        OSError where it could not be done; then nothing is read from the SSD, and nothing sealed,
        until a purge succeeds."""
        self.ssd_is_clean = False
        if not self._handing.wait(HANDED_SECONDS):
            raise OSError("the SSD tier does not take the pages that were handed to it")
        report = self._ssd.purge(covers)
        self.ssd_is_clean = True
        return report

    def pin_sealed(self, held: CachedObject) -> bool:
        """Keep what the SSD holds of this version from being evicted; False where it cannot."""
        return self._ssd.pin(held.digest)

    def unpin_sealed(self, held: CachedObject) -> bool:
        """Let it be evicted again; whether it was pinned."""
        return self._ssd.unpin(held.digest)

    def is_pinned(self, held: CachedObject) -> bool:
        """Whether the SSD keeps it from being evicted."""
        return self._ssd.pinned(held.digest)

    def missing(self, held: CachedObject, pages: range) -> list[int]:
        """Which of these pages memory does not hold; without a lock, so true for a moment only."""
        page_bytes = self.shape.page_bytes
        each = self.shape.extent_bytes(held.size)
        whole = held.spans.get(0)
        if whole is not None and whole.complete and whole.length == held.size:
            return []
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
                if held.withdrawn:
                    return None
                ended, others = self._ended, self._fills
                span = self._room.take(held, index, pages)
                if span is not None:
                    self._fills += 1
            if span is not None:
                return Fill(self, held, span, pages)
            if waited and not others:
                break  # only readers' views hold memory: waiting brings no room
            # What is being filled, or waits to be sealed, cannot leave memory now; soon it can.
            self._ssd.flush()
            if others:
                ended.wait(ROOM_SECONDS)
        return None

    def lend(self, held: CachedObject, pages: range, has: Container[int]) -> Loan | None:
        """Lend another process these pages of one extent; None where memory does not hold them
        all. `has`: the numbers of the extents that the borrower has."""
        index = pages.start * self.shape.page_bytes // self.shape.extent_bytes(held.size)
        with self._lock:
            span = held.spans.get(index)
            if span is None or held.withdrawn or not span.has(pages):
                return None
            return self.loans.lend(span, has)

    def give_back(self, number: int) -> None:
        """A borrower let go of the extent of this number."""
        with self._lock:
            extent = self.loans.give_back(number)
            if extent is not None and not extent.objects:
                self._memory.evict(extent)
            ended, self._ended = self._ended, Latch()
        ended.open()

    def stage(self, size: int) -> Extent | None:
        """Memory of the tier for up to `size` bytes that are on their way to a store; None where
        none can be had. It holds nothing until `charge_staged`, and stays until `unstage`."""
        with self._lock:
            extent = self._memory.allocate(("staged", next(self._staged_numbers)), size)
            if extent is not None:
                extent.filling += 1
            return extent

    def charge_staged(self, extent: Extent, count: int) -> bool:
        """Count `count` bytes more of a staged extent as used; False where there is no room."""
        with self._lock:
            return self._memory.charge(extent, whole_kernel_pages(count))

    def unstage(self, extent: Extent) -> None:
        """The staged bytes are no longer needed; a view in use keeps its memory until dropped."""
        with self._lock:
            extent.filling -= 1
            self._memory.evict(extent)
            ended, self._ended = self._ended, Latch()
        ended.open()

    def abandon_in_child(self) -> None:
        """After a fork: let go of the parent's memory, which would else be held twice over.

        What a thread of the parent was moving at the fork stays: its frame holds it for ever.
        """
        self._lock = threading.Lock()
        self._handing = Handing(self._clock)
        self._room.forget_arenas()
        self._ssd.after_fork_in_child()  # first: it holds views of what waits to be sealed
        for held in self._objects.in_use():
            # Memory that cannot be let go of is not read on either: this child's own store, which
            # judges what it holds whenever the policy changes, does not know it.
            held.withdrawn = True
            for span in held.spans.values():
                span.clear()
        self._memory.close()

    def usage(self) -> dict[str, TierUsage]:
        """How full each tier is, by its name."""
        tiers = {"memory": self._memory.usage()}
        if self.has_ssd:
            tiers["ssd"] = self._ssd.usage()
        return tiers

    def flush(self) -> None:
        """Return when what was published can be found by other processes, where it may be; or when
        the SSD tier did not take it in time."""
        self._handing.wait(HANDED_SECONDS)
        self._ssd.flush()

    def close(self) -> None:
        """Flush, and let memory and files go; a view in use keeps its memory until dropped."""
        self._ssd.close()
        with self._lock:
            self._room.forget_arenas()
            self._memory.close()

    def load_sealed(self, held: CachedObject, pages: list[tuple[int, memoryview]]) -> list[bool]:
        """Open these pages from the SSD into their targets; False for those that it has not."""
        if not held.ssd or not self.ssd_is_clean:
            return [False] * len(pages)
        return self._ssd.load([(PageId(held.digest, page), target) for page, target in pages])

    def publish(self, held: CachedObject, span: Span, pages: list[int], *, seal: bool) -> None:
        """These pages' bytes are in place: readers may have them, and the SSD where it may."""
        since = self._clock.now() if seal or held.sealed_since is None else held.sealed_since
        with self._handing.one():
            with self._lock:
                if held.withdrawn:
                    return
                for page in pages:
                    span.mark(page)
                if pages and (span.since is None or since < span.since):
                    span.since = since
                if span.complete:
                    self._room.whole(held, span)
                if not seal or not self._may_hand(held):
                    return
            views = [
                (PageId(held.digest, page), self._page_view(held, span, page)) for page in pages
            ]
            self._ssd.store(views, held.scope)

    def _may_hand(self, held: CachedObject) -> bool:
        """Whether pages of it may go to the SSD tier now; the lock is held."""
        return held.ssd and not held.withdrawn and self.ssd_is_clean

    def end_fill(self, span: Span) -> None:
        """The fill no longer needs its extent."""
        with self._lock:
            span.extent.filling -= 1
            self._fills -= 1
            ended, self._ended = self._ended, Latch()
        ended.open()

    def _take_out(self, held: CachedObject, span: Span) -> int:
        """Let memory hold this span no more, now or with its extent; the bytes that it held.

        The lock is held. A reader in it goes on with what he has, and looks for more elsewhere. In
        memory that is lent its bytes are still: what shares its extent goes with it.
        """
        extent, index = span.extent, span.start // self.shape.extent_bytes(max(held.size, 1))
        count = span.held_bytes(self.shape.page_bytes)
        if extent.objects == 1 and self._memory.evict(extent):
            return count
        if self._memory.lends:
            self._memory.retire(extent)
            return count
        held.spans.pop(index, None)
        span.clear()
        self._room.remove(held, span)
        return count

    def _admitted(self, placement: Placement, size: int) -> Admission:
        memory_bytes = self._memory.limit_bytes
        return admit(placement, size, memory_bytes=memory_bytes, ssd_bytes=self._ssd_bytes)

    def _page_view(self, held: CachedObject, span: Span, page: int) -> memoryview:
        start = page * self.shape.page_bytes
        length = page_length(page, held.size, self.shape.page_bytes)
        return memoryview(span.extent.mapping)[span.place(start, start + length)]
