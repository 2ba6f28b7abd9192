"""A clock that tests move by hand."""

from __future__ import annotations


class ManualClock:
    """Stands still until it is told to go on; sleeping only moves it."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self.time = start

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
