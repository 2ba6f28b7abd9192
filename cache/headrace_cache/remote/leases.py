"""Objects that may be opened again without a call, as long as the node has said nothing else.

What stands is what the node told with the open (`Standing`). That nothing came between, the policy,
a mount, a write, is seen in the bulletin, in shared memory; and a file of this machine is looked at
by the client itself, as the node would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from headrace_cache.remote.hold import Hold
from headrace_cache.wire import messages as m
from headrace_cache.wire.told import ToldOpen
from headrace_cache.wire.values import standing_of
from headrace_namespace.backends.local_files import looks_of, still_looks
from headrace_namespace.standing import Standing

#: After so long without a beat the node is asked, and given up where it does not answer.
ALIVE_SECONDS = 5.0
#: Objects that may be opened again without a call; the one that was told of longest ago goes first.
MOST_LEASES = 4096


class _Lease:
    """An open that stands for a while."""

    __slots__ = ("changes", "file", "hold", "looks", "once", "until")

    def __init__(self, hold: Hold, standing: Standing, changes: int, until: float) -> None:
        self.hold = hold
        self.changes = changes
        self.until = until
        self.once = standing.once
        self.file = standing.file
        self.looks = (0, 0, 0, 0) if standing.file is None else looks_of(hold.version.tag)


class Leases:
    """What stands, of one session. Safe to use from many threads."""

    def __init__(self, numbers: memoryview, clock: Callable[[], float] = time.monotonic) -> None:
        """`numbers` are the bulletin's."""
        self._numbers = numbers
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        #: The node's beats, and when they were last seen to go on.
        self._beats = numbers[1]
        self._beat_at = clock()

    def now(self) -> float:
        """When: to be asked before what is to be added is asked for."""
        return self._clock()

    def add(self, hold: Hold, told: ToldOpen, changes: int, asked_at: float) -> None:
        """The node told this of an open that was asked for at `asked_at`, where it told anything:
        the number of `changes` is from before."""
        standing = standing_of(told.standing)
        if standing is None or standing.seconds <= 0:
            return
        with suppress(ValueError):  # a tag of another release
            lease = _Lease(hold, standing, changes, asked_at + standing.seconds)
            if len(self._leases) >= MOST_LEASES:
                self._leases.pop(next(iter(tuple(self._leases)), ""), None)
            self._leases[hold.path.text] = lease

    def take(self, path: str) -> Hold | None:
        """What `path` may be opened by now, without a call; None where the node is to be asked."""
        lease = self._leases.get(path)
        if lease is None:
            return None
        hold, numbers, now = lease.hold, self._numbers, self._clock()
        if numbers[1] != self._beats:
            self._beats, self._beat_at = numbers[1], now
        if (
            numbers[2] != lease.changes
            or numbers[0] != hold.edition
            or hold.connection.gone
            or now >= lease.until
            or now - self._beat_at > ALIVE_SECONDS  # it may not know of what is new
            or hold.restricted
            or hold.stale
            or (lease.file is not None and not still_looks(lease.file, lease.looks))
        ):
            self._leases.pop(path, None)
            return None
        if lease.once and self._leases.pop(path, None) is not lease:
            return None  # another thread was first
        return hold

    def disprove(self, hold: Hold) -> None:
        """This is what is at its path now: where something else was to stand there, no answer of
        before stands any more."""
        lease = self._leases.get(hold.path.text)
        if lease is not None and lease.hold.version != hold.version:
            self._leases.clear()

    def clear(self) -> None:
        """Nothing stands any more."""
        self._leases.clear()

    def counts(self) -> list[m.Closed]:
        """What was read by what stands, and not told yet."""
        told: list[m.Closed] = []
        for lease in tuple(self._leases.values()):
            hold = lease.hold
            if hold.hits or hold.served:
                told.append(m.Closed(hold.handle, hold.hits, hold.served, kept=True))
                hold.hits = hold.served = 0
        return told
