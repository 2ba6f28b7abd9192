"""Pages on their way from memory to the SSD tier: published already, not yet in the tier's hands.

Who must know that the tier has them (a purge, a flush) waits here for those that are under way.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from headrace_namespace.clock import Clock
from headrace_namespace.latch import Latch


class Handing:
    """The hand-overs under way. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Each opens when its hand-over ended; a dict, whose steps are atomic, as an ordered set.
        self._under_way: dict[Latch, None] = {}

    @contextmanager
    def one(self) -> Generator[None]:
        """One lasts for as long as the block, however that ends."""
        mine = Latch()
        try:
            self._under_way[mine] = None
            yield
        finally:
            self._under_way.pop(mine, None)
            mine.open()

    def wait(self, seconds: float) -> bool:
        """Return when all that are under way now ended (True), or after `seconds` (False)."""
        until = self._clock.monotonic() + seconds
        for each in self._under_way.copy():
            if not each.wait(max(0.0, until - self._clock.monotonic())):
                return False
        return True
