"""A clock that tests move by hand."""

from __future__ import annotations


class ManualClock:
    """Stands still until it is told to go on; sleeping only moves it."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self.time = start
        #: By how much this machine's clock has been set forward (or back) by somebody.
        self.set_forward = 0.0

    def now(self) -> float:
        return self.time + self.set_forward

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
