"""Time, given and not fetched: the one room that reads a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a room may know of time; tests bring one that they move by hand."""

    def now(self) -> float:
        """Seconds since the epoch, by this machine's clock, which may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from a fixed point; never goes back. For ages and time-outs."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The machine's own clock."""

    # The functions themselves: every open asks for the time, and a call between doubles the price.
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        time.sleep(seconds)
