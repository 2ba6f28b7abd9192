"""Single flight: however many readers want a page, it is fetched once.

Pages under way are claimed in groups; each group is a flight, flown by a thread of the pool and
never by a reader, so that a reader that is cancelled or dies spoils nothing for those who wait.
A flight always lands, with or without an error, and it lands after its pages were published: who
finds a page neither present nor under way may claim it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from headrace_cache.extents.page import PageId
from headrace_namespace.errors import StoreTimeout
from headrace_namespace.latch import Latch
from headrace_namespace.mount_table import Mount
from headrace_namespace.offload import WAIT_SECONDS


class Flight:
    """Some pages of one version on their way. `wait` returns when they landed."""

    __slots__ = ("_error", "_landed", "mount", "pages", "version")

    def __init__(self, version: bytes, pages: Sequence[int], mount: Mount | None = None) -> None:
        self.version = version
        self.pages = pages
        #: By whose address and credentials it goes: another mount's failure says nothing of one's
        #: own, also where both lead to one bucket.
        self.mount = mount
        self._landed = Latch()
        self._error: BaseException | None = None

    def wait(self, seconds: float = WAIT_SECONDS) -> None:
        """Return when the pages landed, or raise what stopped them. Raises StoreTimeout."""
        if not self._landed.wait(seconds):
            raise StoreTimeout(f"a fetch of {len(self.pages)} pages did not end in {seconds:.0f} s")
        if self._error is not None:
            raise self._error

    def land(self, error: BaseException | None) -> None:
        """Wake all who wait; for `Flights` alone."""
        self._error = error
        self._landed.open()


class Flights:
    """Which pages are under way. Bounded by its callers: each waits for what it claimed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_page: dict[PageId, Flight] = {}

    def claim(
        self, version: bytes, groups: Sequence[Sequence[int]], mount: Mount | None = None
    ) -> tuple[list[Flight], list[Flight]]:
        """Claim each group's pages: (new flights, for the caller to fly; others that have some).

        The caller must see to it that each new flight lands.
        """
        new: list[Flight] = []
        others: dict[int, Flight] = {}
        with self._lock:
            for group in groups:
                free: list[int] = []
                for page in group:
                    flight = self._by_page.get(PageId(version, page))
                    if flight is None:
                        free.append(page)
                    else:
                        others[id(flight)] = flight
                if free:
                    flight = Flight(version, free, mount)
                    new.append(flight)
                    for page in free:
                        self._by_page[PageId(version, page)] = flight
        return new, list(others.values())

    def land(self, flight: Flight, error: BaseException | None = None) -> None:
        """The flight ended: its pages were published before, or could not be had."""
        with self._lock:
            for page in flight.pages:
                self._by_page.pop(PageId(flight.version, page), None)
        flight.land(error)
