"""The read journey, top to bottom.

 1. Resolve the path: which mount, which key, and by which other names it can be reached.
 2. Ask the policy, once, with all names: the placement, or a refusal.
 3. Learn the version, as fresh as the contract demands, and pin it.
 4. Attach to what the tiers hold of this version.
 5. A read whose pages are present copies them out of the mapping: no call, no lock.
 6. Missing pages are claimed; a page that is already on its way is waited for, never asked twice.
 7. A thread of the pool makes room in memory, opens what the SSD tier has sealed, and fetches the
    rest from the store, in ranges of up to 8 MiB, straight into the mapping, carrying the version.
 8. What arrived is published to readers and, where the placement allows, sealed on the SSD.
 9. Where memory may not hold it, or has no room, the bytes go straight to the reader.
10. A sequential reader's next pages are fetched ahead, and the next pieces of a long read.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from headrace_cache.extents.extent_store import CachedObject, ExtentStore, Loan
from headrace_cache.extents.page import page_range
from headrace_cache.policy.audience import EVERYBODY, Principal
from headrace_cache.policy.placement import Guarantee
from headrace_cache.policy.scope import Scope
from headrace_cache.policy.watch import PolicyWatch
from headrace_cache.reading.fetching import MOST_FLIGHTS_OF_A_READ, Fetching
from headrace_cache.reading.gate import Governed, PolicyGate
from headrace_cache.reading.pinned import Pinned
from headrace_cache.reading.prefetch import WIDEST_WINDOW_BYTES, LongReads, ReadAhead
from headrace_cache.reading.settled import SettledOpens
from headrace_cache.reading.single_flight import Flight, Flights
from headrace_namespace.entry import Entry
from headrace_namespace.errors import (
    HeadraceError,
    IsFolder,
    NotFound,
    StoreMissing,
    StoreTimeout,
    VersionGone,
)
from headrace_namespace.freshness import CHECK, Freshness
from headrace_namespace.metrics import BYTES_FETCHED, BYTES_SERVED, HITS, MISSES, Counters
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import WAIT_SECONDS, Offload
from headrace_namespace.path import NamespacePath, other_spelling
from headrace_namespace.standing import Standing

#: How often a read may fail with flights of others that might not have failed as its own: they do
#: not know its versionId, or go by another mount. More of them are no accident.
MOST_TRIES_BY_OTHERS = 4
#: A link on the way may be switched between resolving and asking; more often is no accident.
MOST_RESOLVES = 4


class Reader:
    """Opens, lists and reads, asking the policy first. Safe to use from many threads."""

    def __init__(
        self,
        *,
        namespace: Namespace,
        policy: PolicyWatch,
        store: ExtentStore,
        flights: Flights,
        launcher: Offload,
        counters: Counters,
        guarantee: Guarantee,
        principal: Principal,
        read_ahead_bytes: int = WIDEST_WINDOW_BYTES,
    ) -> None:
        self.gate = PolicyGate(namespace, policy, guarantee, principal)
        self._namespace = namespace
        self._store = store
        self._launcher = launcher
        self._counters = counters
        self._read_ahead_bytes = read_ahead_bytes
        self._fetching = Fetching(namespace, store, flights, counters)
        self._settled = SettledOpens(namespace)
        self.long_reads = LongReads(store.shape.whole_bytes)

    def seen_by(self, principal: Principal) -> Reader:
        """The reader that reads for somebody else; all but its gate is shared."""
        other = copy.copy(self)
        other.gate = self.gate.seen_by(principal)
        return other

    # Steps 1 to 4: from a path to a pinned version, attached.

    def open(
        self, path: NamespacePath, freshness: Freshness | None = None
    ) -> tuple[Pinned, CachedObject]:
        """Steps 1 to 4. Raises NotFound, IsFolder, PolicyDenied.

        What the last open of the path settled holds again where nothing moved since (`settled.py`).
        """
        settled = self._settled.now(self._namespace.mounted(), self.gate.policy())
        again = settled.again(path, freshness)
        if again is not None and self.gate.admits(again[0]):
            return again
        governed, pinned = self._pin(path, freshness)
        held = self.attach(pinned)
        settled.settle(governed.resolved, pinned, held)
        return pinned, held

    def open_unasked(
        self, path: NamespacePath
    ) -> tuple[Pinned, CachedObject, Standing | None] | None:
        """As `open`, where no remote store is asked for it; else None. With it, for how long a
        listing that validated it stands in, where one did. Raises as `open`."""
        resolved = self._namespace.resolve(path)
        observing = self._namespace.observing
        if not observing.asks_nothing(resolved):
            return None
        listed = observing.standing_by_listing(resolved)
        pinned, held = self.open(path)
        return pinned, held, listed if self._is_free(pinned) else None

    def standing(self, pinned: Pinned) -> Standing | None:
        """For how long who has opened this may open it again without asking here; None where each
        open is to ask: of what is restricted, by where it may lie or by who may read it."""
        if not self._is_free(pinned):
            return None
        settled = self._settled.now(self._namespace.mounted(), self.gate.policy())
        return settled.standing(pinned)

    def _is_free(self, pinned: Pinned) -> bool:
        placement = pinned.placement
        return placement.allows_ssd and placement.audience == EVERYBODY

    def pin(self, path: NamespacePath, freshness: Freshness | None = None) -> Pinned:
        """Steps 1 to 3. Raises NotFound, IsFolder, PolicyDenied."""
        return self._pin(path, freshness)[1]

    def _pin(self, path: NamespacePath, freshness: Freshness | None) -> tuple[Governed, Pinned]:
        governed, entry = self._found(path, freshness, reading=True)
        mount = governed.resolved.mount
        if entry.version is None or mount is None:
            raise IsFolder(f"{path} is a folder", path=path.text)
        names, locations = governed.resolved.names, governed.resolved.locations
        placement, policy = governed.placement, governed.policy
        return governed, Pinned(path, mount, entry.version, placement, names, locations, policy)

    def attach(self, pinned: Pinned) -> CachedObject:
        """What the tiers hold, and may hold, of this version under its placement; under the one of
        now, where the policy has just changed. Raises PolicyDenied then."""
        while True:
            held = self._attach(pinned)
            # First attached, then asked: a change that comes later finds it attached.
            now = self.gate.judged(pinned)
            if now is pinned:
                return held
            pinned = now

    def _attach(self, pinned: Pinned) -> CachedObject:
        scope = Scope.of(pinned.names, pinned.locations)
        held, new = self._store.attach(pinned.version, pinned.placement, scope)
        if new and not pinned.placement.allows_ssd:
            # A looser policy may have let it be sealed before; the purge has destroyed its key.
            self._launcher.run(lambda: self._store.forget_sealed(held))
        ttl = pinned.mount.ttl_seconds
        if ttl is not None:
            self._launcher.run(lambda: self._store.forget_older(held, ttl))
        return held

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is now. Raises NotFound, PolicyDenied."""
        return self._found(path, freshness, reading=False)[1]

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder; an object lists as itself. Raises NotFound, PolicyDenied."""
        try:
            yield from self._listed(path)
        except NotFound:
            other = other_spelling(path.text)
            if other is None:
                raise
            yield from self._listed(NamespacePath(other))

    def _listed(self, path: NamespacePath) -> Iterator[Entry]:
        """What policy lets show of a folder's children: of some, only the name."""
        governed = self.gate.govern(path)
        self.gate.require(governed, reading=False)
        withholds = self.gate.policy().may_withhold
        for entry in self._namespace.list(governed.resolved):
            if (
                withholds
                and entry.version is not None
                and self.gate.refusal(self.gate.govern(entry.path), reading=False)
            ):
                yield replace(entry, version=None, withheld=True)
            else:
                yield entry

    # For the writer, so that it finds what a reader would.

    def found(self, path: NamespacePath) -> tuple[Governed, Entry]:
        """What is at `path` by the store's own word, judged as for reading. Raises NotFound."""
        return self._found(path, CHECK, reading=True)

    def for_writing(self, path: NamespacePath) -> tuple[Governed, Entry | None]:
        """Where a write to `path` goes, and what is there now: asked of the store. Another Unicode
        spelling that is there is what is written. Raises PolicyDenied, NotFound (no mount)."""
        try:
            return self.found(path)
        except StoreMissing:
            raise
        except NotFound:
            return self.gate.govern_for_writing(path), None

    def _found(
        self, path: NamespacePath, freshness: Freshness | None, *, reading: bool
    ) -> tuple[Governed, Entry]:
        """The entry at `path` as spelt, else as its other Unicode normal form spells it."""
        try:
            return self._governed_entry(path, freshness, reading=reading)
        except NotFound as error:
            other = other_spelling(path.text)
            if other is None:
                raise
            try:
                return self._governed_entry(NamespacePath(other), freshness, reading=reading)
            except NotFound:
                raise error from None

    def _governed_entry(
        self, path: NamespacePath, freshness: Freshness | None, *, reading: bool
    ) -> tuple[Governed, Entry]:
        """The policy judged the names of one object: be sure that the store found that very one."""
        for _ in range(MOST_RESOLVES):
            governed = self.gate.govern(path)
            self.gate.require(governed, reading=reading)
            entry = self._namespace.stat(governed.resolved, freshness, opening=reading)
            if entry.version is None or entry.version.ref == governed.resolved.ref:
                return governed, entry
        raise VersionGone(
            f"a link on the way to {path} keeps changing", path=path.text, hint="open it again"
        )

    # Steps 5 to 10: from a pinned version to bytes; `OpenObject` asks these.

    def extent_of(self, held: CachedObject, start: int) -> int:
        """The index of the extent that holds the byte at `start`."""
        return start // self._store.shape.extent_bytes(held.size)

    def extent_bytes(self, held: CachedObject) -> int:
        """What one extent holds of the object at most."""
        return self._store.shape.extent_bytes(held.size)

    def spans(self, held: CachedObject, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The extents that hold a range: (index, from, to) each."""
        return self._store.shape.spans(start, stop, held.size)

    def pages(self, start: int, stop: int) -> range:
        """The pages that hold a range."""
        return page_range(start, stop, self._store.shape.page_bytes)

    def bring(
        self, pinned: Pinned, held: CachedObject, start: int, stop: int, *, missed: bool = True
    ) -> None:
        """Return when the range's pages arrived in memory, or could not be given room there.

        `missed`: whether a reader waits for them, and so has missed.
        """
        missing: Sequence[int] = self._store.missing(held, self.pages(start, stop))
        if not missing:
            return
        self._counters.add(MISSES, int(missed))
        for tries in reversed(range(1 + MOST_TRIES_BY_OTHERS)):
            if self._flown(pinned, held, missing, last_try=not tries):
                return
            missing = self._store.missing(held, self.pages(start, stop))

    def _flown(
        self, pinned: Pinned, held: CachedObject, missing: Sequence[int], *, last_try: bool
    ) -> bool:
        """Return when the pages were brought; False where flights failed that might not have, had
        they been this read's own. That is an error too on the last try."""
        under_way: deque[Flight] = deque()
        failed = False
        while missing or under_way:
            if missing and len(under_way) < MOST_FLIGHTS_OF_A_READ:
                # Claimed and launched on another thread: an interrupt of this one leaves no claim.
                room = MOST_FLIGHTS_OF_A_READ - len(under_way)
                launch = functools.partial(self._fetching.launch, pinned, held, missing, room)
                launched = self._launcher.run(launch)
                missing = launched.rest
                under_way += launched.flights
                if not under_way:  # the mount has as many as it may
                    if not launched.landed.wait(WAIT_SECONDS):
                        seconds = f"{WAIT_SECONDS:.0f} s"
                        raise StoreTimeout(f"no fetch of {pinned.mount.path} ended in {seconds}")
                    continue
            flight = under_way.popleft()
            try:
                flight.wait()
            except HeadraceError as error:
                if last_try or not _of_another(flight, error, pinned):
                    raise
                failed = True
        return not failed

    def bring_ahead(
        self,
        pinned: Pinned,
        held: CachedObject,
        start: int,
        stop: int,
        most_flights: int = MOST_FLIGHTS_OF_A_READ,
    ) -> None:
        """Fetch a range that nobody waits for yet; nothing happens where the pool is busy, or the
        mount has `most_flights` under way."""
        missing = self._store.missing(held, self.pages(start, stop)) if start < stop else ()
        if not missing:
            return
        # Unmounted, closed, or no thread to be had: who reads that far will be told.
        with suppress(HeadraceError, RuntimeError):
            if self._namespace.fetchers(pinned.mount).has_room():
                self._launcher.offer(
                    functools.partial(self._launch_ahead, pinned, held, missing, most_flights)
                )

    def _launch_ahead(
        self, pinned: Pinned, held: CachedObject, missing: Sequence[int], most_flights: int
    ) -> None:
        with suppress(HeadraceError):  # unmounted or closed since
            room = most_flights - self._fetching.under_way(pinned.mount)
            self._fetching.launch(pinned, held, missing, room)

    def lend(self, held: CachedObject, pages: range, has: Container[int]) -> Loan | None:
        """Lend what memory holds of these pages; None where it does not hold them all."""
        return self._store.lend(held, pages, has)

    def read_past(self, pinned: Pinned, start: int, target: memoryview) -> None:
        """Read from the store straight to the reader, keeping nothing."""
        # Memory of our own: an interrupted caller goes on with his while bytes still arrive.
        own = bytearray(len(target))
        self._namespace.fetchers(pinned.mount).run(
            lambda: self._namespace.read_into(pinned.mount, pinned.version, start, memoryview(own))
        )
        target[:] = own
        self._counters.add(MISSES)
        self._counters.add(BYTES_FETCHED, len(target))

    def count(self, hits: int, served: int) -> None:
        """An open object's own count of reads that hit and bytes that it gave."""
        self._counters.add(HITS, hits)
        self._counters.add(BYTES_SERVED, served)

    def read_ahead(self) -> ReadAhead:
        """The judge of one open object's pattern."""
        return ReadAhead(self._read_ahead_bytes)


def _of_another(flight: Flight, error: HeadraceError, pinned: Pinned) -> bool:
    """Whether a flight of this read's own may end otherwise."""
    if flight.mount is not pinned.mount:
        return True
    # Who flew it may not have known the versionId, by which the bytes are still there.
    return isinstance(error, VersionGone) and pinned.version.version_id is not None
