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
10. A sequential reader's next pages are fetched ahead.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace_cache.extent_store import CachedObject, ExtentStore
from headrace_cache.page import page_range, runs
from headrace_cache.placement import Guarantee, MetadataKeeping, Placement
from headrace_cache.policy import Policy
from headrace_cache.prefetch import WIDEST_WINDOW_BYTES, ReadAhead
from headrace_cache.service import PolicyExplanation
from headrace_cache.single_flight import Flight, Flights
from headrace_cache.tiers.memory import Span
from headrace_namespace.entry import Entry
from headrace_namespace.errors import IsFolder, NotFound, PolicyDenied, VersionGone
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.metrics import BYTES_FETCHED, BYTES_SERVED, HITS, MISSES, Counters
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath, other_spelling
from headrace_namespace.resolution import Resolved

#: One request to a store: large enough that its fixed cost does not matter (measured best on S3).
REQUEST_BYTES = 8 << 20
#: A long read goes in pieces of this size, so that it needs no more of memory than a few of them.
PIECE_BYTES = 32 << 20
#: A link on the way may be switched between resolving and asking; more often is no accident.
MOST_RESOLVES = 4


@dataclass(frozen=True, slots=True)
class Governed:
    """A path with where it leads and what the policy says of it."""

    resolved: Resolved
    placement: Placement


class Home(Protocol):
    """Where the reader of this process is found: after a fork it is another than before."""

    def reader(self) -> Reader:
        """The reader to use now."""
        ...


class Reader:
    """Opens, lists and reads, asking the policy first. Safe to use from many threads."""

    def __init__(
        self,
        *,
        home: Home,
        namespace: Namespace,
        policy: Policy,
        store: ExtentStore,
        flights: Flights,
        offload: Offload,
        counters: Counters,
        guarantee: Guarantee,
        read_ahead_bytes: int = WIDEST_WINDOW_BYTES,
    ) -> None:
        self._home = home
        self._namespace = namespace
        self._policy = policy
        self._store = store
        self._flights = flights
        self._offload = offload
        self._counters = counters
        self._guarantee = guarantee
        self._read_ahead_bytes = read_ahead_bytes
        self._request_pages = max(1, REQUEST_BYTES // store.shape.page_bytes)

    # Steps 1 to 4: from a path to an open object.

    def open(self, path: NamespacePath, freshness: Freshness | None = None) -> OpenObject:
        """The object at `path`, its version pinned. Raises NotFound, IsFolder, PolicyDenied."""
        governed, entry = self._found(path, freshness, reading=True)
        if entry.version is None:
            raise IsFolder(f"{path} is a folder", path=path.text)
        return OpenObject(self._home, governed, entry.version)

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is now. Raises NotFound, PolicyDenied."""
        return self._found(path, freshness, reading=False)[1]

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder; an object lists as itself. Raises NotFound, PolicyDenied."""
        governed = self._govern(path)
        self._require(governed, reading=False)
        try:
            yield from self._namespace.list(governed.resolved)
        except NotFound:
            other = other_spelling(path.text)
            if other is None:
                raise
            governed = self._govern(NamespacePath(other))
            self._require(governed, reading=False)
            yield from self._namespace.list(governed.resolved)

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and by which rules."""
        placement, reasons = self._policy.explain(self._namespace.resolve(path).names)
        return PolicyExplanation(
            path,
            placement.persistence.word,
            placement.metadata.word,
            placement.guarantee.word,
            reasons,
        )

    def _govern(self, path: NamespacePath) -> Governed:
        resolved = self._namespace.resolve(path)
        return Governed(resolved, self._policy.decide(resolved.names))

    def _require(self, governed: Governed, *, reading: bool) -> None:
        """Refuse what the policy denies, or what demands a guarantee that this process lacks."""
        path, placement = governed.resolved.path.text, governed.placement
        if placement.denies:
            raise PolicyDenied(f"the policy denies {path}", path=path)
        restricted = reading or placement.metadata is MetadataKeeping.MEMORY_ONLY
        if restricted and placement.guarantee > self._guarantee:
            raise PolicyDenied(
                f"{path} demands a host that is attested to {placement.guarantee.word}, and "
                f"this process is {self._guarantee.word}",
                path=path,
                hint='to allow it here, its rule must say guarantee = "unattested"',
            )

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
            governed = self._govern(path)
            self._require(governed, reading=reading)
            entry = self._namespace.stat(governed.resolved, freshness)
            if entry.version is None or entry.version.ref == governed.resolved.ref:
                return governed, entry
        raise VersionGone(
            f"a link on the way to {path} keeps changing", path=path.text, hint="open it again"
        )

    # Steps 5 to 10: from an open object to bytes.

    def attach(self, version: ObjectVersion, placement: Placement) -> CachedObject:
        """What the tiers hold of this version, under this placement."""
        return self._store.attach(version, placement)

    def extent_of(self, held: CachedObject, start: int) -> int:
        """The index of the extent that holds the byte at `start`."""
        return start // self._store.shape.extent_bytes(held.size)

    def spans(self, held: CachedObject, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The extents that hold a range: (index, from, to) each."""
        return self._store.shape.spans(start, stop, held.size)

    def pages(self, start: int, stop: int) -> range:
        """The pages that hold a range."""
        return page_range(start, stop, self._store.shape.page_bytes)

    def bring(self, governed: Governed, held: CachedObject, start: int, stop: int) -> None:
        """Return when the range's pages arrived in memory, or could not be given room there."""
        missing = self._store.missing(held, self.pages(start, stop))
        if not missing:
            return
        self._counters.add(MISSES)
        mine, others = self._flights.claim(held.digest, list(self._groups(held, missing)))
        self._launch(governed, held, mine)
        for flight in (*mine, *others):
            flight.wait()

    def bring_ahead(self, governed: Governed, held: CachedObject, start: int, stop: int) -> None:
        """Fetch a range that nobody waits for yet; nothing happens where the pool is busy."""
        if stop <= start or not self._offload.has_room():
            return
        missing = self._store.missing(held, self.pages(start, stop))
        if missing:
            mine, _ = self._flights.claim(held.digest, list(self._groups(held, missing)))
            self._launch(governed, held, mine)

    def read_past(
        self, governed: Governed, version: ObjectVersion, start: int, target: memoryview
    ) -> None:
        """Read from the store straight to the reader, keeping nothing."""
        mount = governed.resolved.mount
        assert mount is not None  # an open object has one
        self._namespace.read_into(mount.path, version, start, target)
        self._counters.add(MISSES)
        self._counters.add(BYTES_FETCHED, len(target))

    def count(self, hits: int, served: int) -> None:
        """An open object's own count of reads that hit and bytes that it gave."""
        self._counters.add(HITS, hits)
        self._counters.add(BYTES_SERVED, served)

    def read_ahead(self) -> ReadAhead:
        """The judge of one open object's pattern."""
        return ReadAhead(self._read_ahead_bytes)

    def _groups(self, held: CachedObject, missing: Sequence[int]) -> Iterator[range]:
        """Missing pages as runs of one request each, none crossing from one extent to the next."""
        page_bytes = self._store.shape.page_bytes
        each = self._store.shape.extent_bytes(held.size)
        for run in runs(missing, self._request_pages):
            first = run.start
            while first < run.stop:
                border = -(-(first * page_bytes // each + 1) * each // page_bytes)
                stop = min(run.stop, border)
                yield range(first, stop)
                first = stop

    def _launch(self, governed: Governed, held: CachedObject, flights: Sequence[Flight]) -> None:
        for flight in flights:

            def fly(flight: Flight = flight) -> None:
                self._fly(governed, held, flight)

            self._offload.submit(fly)

    def _fly(self, governed: Governed, held: CachedObject, flight: Flight) -> None:
        error: BaseException | None = None
        try:
            # Since the claim, another flight may have landed with some of them.
            absent = self._store.missing(held, range(flight.pages[0], flight.pages[-1] + 1))
            wanted = set(flight.pages)
            for run in runs([page for page in absent if page in wanted], self._request_pages):
                self._fill(governed, held, run)
        except BaseException as caught:  # whatever it is, those who wait must learn of it
            error = caught
        finally:
            self._flights.land(flight, error)

    def _fill(self, governed: Governed, held: CachedObject, pages: range) -> None:
        """Step 7 and 8: room, the sealed tier, the store, publication."""
        mount = governed.resolved.mount
        assert mount is not None  # an open object has one
        fill = self._store.begin_fill(held, pages)
        if fill is None:
            return  # no room: each reader reads past the cache
        with fill:
            for run in runs(fill.load_sealed(), self._request_pages):
                with fill.target(run) as target:
                    start = run.start * self._store.shape.page_bytes
                    self._namespace.read_into(mount.path, held.version, start, target)
                    self._counters.add(BYTES_FETCHED, len(target))
                fill.publish(run)


class OpenObject:
    """One version of one object, pinned at open. Safe to use from several threads.

    Its counts of hits may lose a few when threads share one object: they are statistics.
    """

    def __init__(self, home: Home, governed: Governed, version: ObjectVersion) -> None:
        self._home = home
        self._reader = home.reader()
        self._governed = governed
        self._version = version
        self._size = version.size
        self._held = self._reader.attach(version, governed.placement)
        self._ahead = self._reader.read_ahead()
        self._span: Span | None = None
        self._hits = 0
        self._served = 0
        self._closed = False

    @property
    def path(self) -> NamespacePath:
        """The path it was opened by."""
        return self._governed.resolved.path

    @property
    def version(self) -> ObjectVersion:
        """Exactly which bytes every read gives."""
        return self._version

    def read_at(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop` (exclusive); fewer only at the object's end."""
        span = self._span
        if span is not None and span.complete and span.start <= start <= stop <= span.stop:
            # The warm path: one slice of the mapping.
            try:
                piece = span.extent.mapping[span.place(start, stop)]
            except ValueError:
                self._span = None  # it left the tier
            else:
                self._hits += 1
                self._served += stop - start
                return piece
        start, stop = self._bounds(start, stop)
        if stop - start <= PIECE_BYTES:
            return self._piece(start, stop)
        whole = io.BytesIO()
        for begin in range(start, stop, PIECE_BYTES):
            whole.write(self._piece(begin, min(begin + PIECE_BYTES, stop)))
        return whole.getvalue()

    def read_into(self, start: int, target: memoryview) -> int:
        """Fill `target` from `start` on; the number of bytes, fewer only at the object's end."""
        start, stop = self._bounds(start, start + len(target))
        for begin in range(start, stop, PIECE_BYTES):
            end = min(begin + PIECE_BYTES, stop)
            with target[begin - start : end - start] as part:
                self._gather(begin, end, part)
        return stop - start

    def view(self, start: int, stop: int) -> memoryview | bytes:
        """The same bytes without a copy where they lie in one extent."""
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

    def close(self) -> None:
        """Let go; later reads raise ValueError."""
        if not self._closed:
            self._closed = True
            self._span = None
            self._home.reader().count(self._hits, self._served)

    def _bounds(self, start: int, stop: int) -> tuple[int, int]:
        if self._closed:
            raise ValueError(f"read of a closed object: {self.path}")
        start = min(max(start, 0), self._size)
        return start, min(max(stop, start), self._size)

    def _piece(self, start: int, stop: int) -> bytes:
        """At most PIECE_BYTES: from memory in one slice, else gathered."""
        span, hit = self._brought_span(start, stop)
        if span is not None:
            try:
                piece = span.extent.mapping[span.place(start, stop)]
            except ValueError:
                pass  # it left the tier just now
            else:
                self._enter(span, start, stop, hit=hit)
                return piece
        gathered = bytearray(stop - start)
        with memoryview(gathered) as target:
            self._gather(start, stop, target)
        return bytes(gathered)

    def _brought_span(self, start: int, stop: int) -> tuple[Span | None, bool]:
        """The one extent with the whole range, its missing pages brought, and whether none were.

        None where the range crosses extents, or where memory may not or cannot hold it.
        """
        held = self._current()
        if stop <= start or not held.memory:
            return None, False
        index = self._reader.extent_of(held, start)
        if self._reader.extent_of(held, stop - 1) != index:
            return None, False
        pages = self._reader.pages(start, stop)
        for hit in (True, False):
            span = held.spans.get(index)
            if span is not None and span.has(pages):
                return span, hit
            if hit:
                self._reader.bring(self._governed, held, start, stop)
        return None, False

    def _gather(self, start: int, stop: int, target: memoryview) -> None:
        """Fill `target`, extent by extent, past the cache where it may not or cannot hold them."""
        held = self._current()
        if stop > start and held.memory:
            self._reader.bring(self._governed, held, start, stop)
        for index, begin, end in self._reader.spans(held, start, stop):
            span = held.spans.get(index)
            with target[begin - start : end - start] as part:
                if span is not None and span.has(self._reader.pages(begin, end)):
                    try:
                        with memoryview(span.extent.mapping) as whole:
                            part[:] = whole[span.place(begin, end)]
                    except ValueError:
                        pass  # it left the tier just now
                    else:
                        self._enter(span, begin, end, hit=False)
                        continue
                self._reader.read_past(self._governed, self._version, begin, part)
                self._served += end - begin

    def _enter(self, span: Span, start: int, stop: int, *, hit: bool) -> None:
        """Count a read from `span`; entering an extent that was filled before is a use of it."""
        self._served += stop - start
        if hit:
            self._hits += 1
            if span is not self._span:
                span.extent.uses += 1
        self._span = span
        if not span.complete or stop < self._size:
            begin, end = self._ahead.next(start, stop, self._size)
            if begin < end:
                self._reader.bring_ahead(self._governed, self._held, begin, end)

    def _current(self) -> CachedObject:
        """What is held by the reader of this process: after a fork, look again."""
        reader = self._home.reader()
        if reader is not self._reader:
            self._reader = reader
            self._held = reader.attach(self._version, self._governed.placement)
        return self._held
