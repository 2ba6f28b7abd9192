from __future__ import annotations

import threading

import pytest

from headrace_cache.reading.single_flight import Flights
from headrace_namespace.errors import StoreTimeout

VERSION = b"v" * 16


def test_a_page_under_way_is_not_claimed_again() -> None:
    flights = Flights()
    mine, others = flights.claim(VERSION, [range(0, 4)])
    assert [list(flight.pages) for flight in mine] == [[0, 1, 2, 3]] and others == []
    again, waits = flights.claim(VERSION, [range(2, 6)])
    assert [list(flight.pages) for flight in again] == [[4, 5]] and waits == mine
    flights.land(mine[0])
    mine[0].wait()
    free, _ = flights.claim(VERSION, [range(0, 2)])
    assert [list(flight.pages) for flight in free] == [[0, 1]]


def test_who_waits_learns_of_the_error() -> None:
    flights = Flights()
    (flight,), _ = flights.claim(VERSION, [range(1)])
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            flight.wait()
        except OSError as error:
            raised.append(error)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    flights.land(flight, OSError("gone"))
    for thread in threads:
        thread.join()
    assert len(raised) == 4


def test_waiting_is_bounded() -> None:
    (flight,), _ = Flights().claim(VERSION, [range(1)])
    with pytest.raises(StoreTimeout):
        flight.wait(0)
