"""Flights that can all be waited for, also those that nobody else waits for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from headrace_cache.reading.single_flight import Flight, Flights
from headrace_namespace.mount_table import Mount


class WatchedFlights(Flights):
    """Knows which of its flights have not landed."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: set[Flight] = set()

    def claim(
        self, version: bytes, groups: Sequence[Sequence[int]], mount: Mount | None = None
    ) -> tuple[list[Flight], list[Flight]]:
        new, others = super().claim(version, groups, mount)
        self.under_way.update(new)
        return new, others

    def land(self, flight: Flight, error: BaseException | None = None) -> None:
        super().land(flight, error)
        self.under_way.discard(flight)

    def wait_for_all(self) -> None:
        """Return when all that were claimed before have landed, however."""
        while self.under_way:
            for flight in tuple(self.under_way):
                with suppress(Exception):  # it is told to whoever reads
                    flight.wait(60.0)
                self.under_way.discard(flight)
