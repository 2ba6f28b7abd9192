"""How missing pages come into memory: steps 6 to 8 of the read journey (`reader.py`)."""

from __future__ import annotations

import functools
import itertools
from _thread import allocate_lock
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace_cache.extents.extent_store import CachedObject, ExtentStore
from headrace_cache.extents.page import runs
from headrace_cache.reading.pinned import Pinned
from headrace_cache.reading.single_flight import Flight, Flights
from headrace_namespace.latch import Latch
from headrace_namespace.metrics import BYTES_FETCHED, Counters
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import FETCH_THREADS

#: One request to a store: large enough that its fixed cost does not matter (measured best on S3).
REQUEST_BYTES = 8 << 20
#: Flights of one mount that are under way, in its threads or in line for one. A reader that finds
#: so many waits for a landing; read-ahead is left out long before.
MOST_FLIGHTS = 1024
#: Flights that one read has at once: what every thread of a mount flies, and half as many that a
#: landing finds in line. A small read that comes stands behind these, not behind a whole object.
MOST_FLIGHTS_OF_A_READ = FETCH_THREADS * 3 // 2
#: Flights that a mount has at most when a long read adds to them what it does not wait for yet:
#: a quarter of its threads stays for those who wait.
MOST_FLIGHTS_AHEAD = FETCH_THREADS * 3 // 4


@dataclass(frozen=True, slots=True)
class Launched:
    """Flights that bring the first of the pages, the pages for which there was no room yet, and
    what opens when any flight lands: then there may be some."""

    flights: Sequence[Flight]
    rest: Sequence[int]
    landed: Latch


class Fetching:
    """Claims pages and fetches them, each once. Safe to use from many threads."""

    def __init__(
        self, namespace: Namespace, store: ExtentStore, flights: Flights, counters: Counters
    ) -> None:
        self._namespace = namespace
        self._store = store
        self._flights = flights
        self._counters = counters
        self._request_pages = max(1, REQUEST_BYTES // store.shape.page_bytes)
        self._lock = allocate_lock()
        #: By mount, how many flights of ours have not landed; and what opens when the next does.
        self._under_way: dict[Mount, int] = {}
        self._landed = Latch()

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

    def under_way(self, mount: Mount) -> int:
        """How many flights of the mount have not landed."""
        with self._lock:
            return self._under_way.get(mount, 0)

    def flights(self) -> dict[str, int]:
        """How many flights have not landed, by the path of their mount."""
        with self._lock:
            under_way = list(self._under_way.items())
        counted: dict[str, int] = {}
        for mount, count in under_way:  # one that was mounted anew may have two tables
            counted[mount.path.text] = counted.get(mount.path.text, 0) + count
        return counted

    def launch(
        self,
        pinned: Pinned,
        held: CachedObject,
        missing: Sequence[int],
        most: int,
    ) -> Launched:
        """Claim what nobody else fetches, as much as there is room for and at most `most` flights,
        and give all flights that bring those pages. For one thread at a time: the launcher's."""
        fetchers = self._namespace.fetchers(pinned.mount)  # raises where it was unmounted
        mount = pinned.mount
        with self._lock:
            landed, under_way = self._landed, self._under_way.get(mount, 0)
        room = max(0, min(most, MOST_FLIGHTS - under_way))
        groups = list(itertools.islice(self._groups(held, missing), room))
        rest = missing[sum(len(group) for group in groups) :]
        mine, others = self._flights.claim(held.digest, groups, mount)
        if mine:
            with self._lock:  # landings may have lowered it since, nothing raises it but this
                self._under_way[mount] = self._under_way.get(mount, 0) + len(mine)
        for flight in mine:
            try:
                fetchers.submit(functools.partial(self._fly, pinned, held, flight))
            except Exception as error:  # closed, or no thread to be had
                self._land(mount, flight, error)
        return Launched((*mine, *others), rest, landed)

    def _fly(self, pinned: Pinned, held: CachedObject, flight: Flight) -> None:
        error: BaseException | None = None
        try:
            # Since the claim, another flight may have landed with some of them.
            absent = self._store.missing(held, range(flight.pages[0], flight.pages[-1] + 1))
            wanted = set(flight.pages)
            for run in runs([page for page in absent if page in wanted], self._request_pages):
                self._fill(pinned, held, run)
        except BaseException as caught:  # whatever it is, those who wait must learn of it
            error = caught
        finally:
            self._land(pinned.mount, flight, error)

    def _land(self, mount: Mount, flight: Flight, error: BaseException | None) -> None:
        self._flights.land(flight, error)
        with self._lock:
            left = self._under_way.pop(mount, 1) - 1
            if left:
                self._under_way[mount] = left
            landed, self._landed = self._landed, Latch()
        landed.open()

    def _fill(self, pinned: Pinned, held: CachedObject, pages: range) -> None:
        """Step 7 and 8: room, the sealed tier, the store, publication."""
        fill = self._store.begin_fill(held, pages)
        if fill is None:
            return  # no room: each reader reads past the cache
        with fill:
            for run in runs(fill.load_sealed(), self._request_pages):
                with fill.target(run) as target:
                    start = run.start * self._store.shape.page_bytes
                    self._namespace.read_into(pinned.mount, pinned.version, start, target)
                    self._counters.add(BYTES_FETCHED, len(target))
                fill.publish(run)
