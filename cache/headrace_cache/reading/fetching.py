"""How missing pages come into memory: steps 6 to 8 of the read journey (`reader.py`)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from headrace_cache.extents.extent_store import CachedObject, ExtentStore
from headrace_cache.extents.page import runs
from headrace_cache.reading.pinned import Pinned
from headrace_cache.reading.single_flight import Flight, Flights
from headrace_namespace.metrics import BYTES_FETCHED, Counters
from headrace_namespace.namespace import Namespace

#: One request to a store: large enough that its fixed cost does not matter (measured best on S3).
REQUEST_BYTES = 8 << 20


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

    def launch(
        self, pinned: Pinned, held: CachedObject, missing: Sequence[int]
    ) -> Sequence[Flight]:
        """Claim what nobody else fetches, and give all flights that bring the pages."""
        fetchers = self._namespace.fetchers(pinned.mount)  # raises where it was unmounted
        mine, others = self._flights.claim(held.digest, list(self._groups(held, missing)))
        for flight in mine:
            try:
                fetchers.submit(functools.partial(self._fly, pinned, held, flight))
            except Exception as error:  # closed, or no thread to be had
                self._flights.land(flight, error)
        return (*mine, *others)

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
            self._flights.land(flight, error)

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
