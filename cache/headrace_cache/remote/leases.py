"""Objects that may be opened again without a call, as long as the node has said nothing else.

What stands is what the node told with the open (`Standing`). That nothing came between, the policy,
a mount, a write, is seen in the bulletin, in shared memory; and a file of this machine is looked at
by the client itself, as the node would.

What does not stand any more is kept a while: who opens it asks the node, and with the same message
whether others that he had open stand on. So who reads 200 files again and again asks once or twice
each time, and not for each file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
#: Opens renewed with the first that has to be asked for; then four times as many as were of use of
#: those before, so that who opens a few of many has not all of them renewed.
FIRST_RENEWED = 16


class Lease:
    """An open that stands for a while."""

    __slots__ = ("asked", "changes", "file", "hold", "looks", "once", "unused", "until")

    def __init__(self, hold: Hold, standing: Standing, changes: int, until: float) -> None:
        self.hold = hold
        self.changes = changes
        self.until = until
        self.once = standing.once
        self.file = standing.file
        self.looks = (0, 0, 0, 0) if standing.file is None else looks_of(hold.version.tag)
        #: Whether it was renewed, and not opened since.
        self.unused = False
        #: Whether a thread just asks for it to be renewed.
        self.asked = False


class Leases:
    """What stands, of one session. Safe to use from many threads."""

    def __init__(self, numbers: memoryview, clock: Callable[[], float] = time.monotonic) -> None:
        """`numbers` are the bulletin's."""
        self._numbers = numbers
        self._clock = clock
        #: Also what has run out, until it is asked for or renewed. In the order of the calls that
        #: opened them, which is that in which a job is likely to open them again.
        self._leases: dict[str, Lease] = {}
        #: Renewed opens that were of use, since the last were.
        self._used = 0
        #: The node's beats, and when they were last seen to go on.
        self._beats = numbers[1]
        self._beat_at = clock()

    def now(self) -> float:
        """When: to be asked before what is to be added is asked for."""
        return self._clock()

    def add(self, hold: Hold, told: ToldOpen, changes: int, asked_at: float) -> None:
        """The node told this of an open that was asked for at `asked_at`, where it told anything:
        the number of `changes` is from before. What stood there before does not any more."""
        self._leases.pop(hold.path.text, None)
        standing = standing_of(told.standing)
        if standing is None or standing.seconds <= 0:
            return
        with suppress(ValueError):  # a tag of another release
            lease = Lease(hold, standing, changes, asked_at + standing.seconds)
            if len(self._leases) >= MOST_LEASES:
                self._leases.pop(next(iter(tuple(self._leases)), ""), None)
            self._leases[hold.path.text] = lease

    def take(self, path: str) -> Hold | None:
        """What `path` may be opened by now, without a call; None where the node is to be asked."""
        lease = self._leases.get(path)
        if lease is None:
            return None
        # As `_has_run_out` and `_is_good` would: every warm open pays for a call.
        hold, numbers, now = lease.hold, self._numbers, self._clock()
        if numbers[1] != self._beats:
            self._beats, self._beat_at = numbers[1], now
        if now >= lease.until or numbers[2] != lease.changes:
            return None  # it may be renewed
        if (
            numbers[0] != hold.edition
            or hold.connection.gone
            or now - self._beat_at > ALIVE_SECONDS  # it may not know of what is new
            or hold.restricted
            or hold.stale
            or (lease.file is not None and not still_looks(lease.file, lease.looks))
        ):
            self._leases.pop(path, None)
            return None
        if lease.once and self._leases.pop(path, None) is not lease:
            return None  # another thread was first
        if lease.unused:
            lease.unused = False
            self._used += 1
        return hold

    def _has_run_out(self, lease: Lease, now: float) -> bool:
        return now >= lease.until or self._numbers[2] != lease.changes

    def _is_good(self, hold: Hold) -> bool:
        """Whether nothing is known against opening by it again, while it stands."""
        return self._numbers[0] == hold.edition and not hold.restricted and not hold.stale

    def to_renew(self, path: str) -> list[Lease]:
        """What has run out and is to be renewed with the open of `path`, where that has run out
        too: those that were told of after it, then the others. `renew` or `keep` them."""
        own = self._leases.get(path)
        if own is None:
            return []
        order = tuple(self._leases.values())
        self._leases.pop(path, None)
        try:
            at = order.index(own)
        except ValueError:  # another thread was first
            return []
        most, now = min(max(4 * self._used, FIRST_RENEWED), m.MOST_RENEWED), self._clock()
        self._used = 0
        found: list[Lease] = []
        for lease in (*order[at + 1 :], *order[:at]):
            if lease.asked or lease.once or not self._has_run_out(lease, now):
                continue
            if self._is_good(lease.hold):
                lease.asked = True
                found.append(lease)
                if len(found) >= most:
                    break
        return found

    def renew(self, leases: Sequence[Lease], opened: m.Opened, asked_at: float) -> None:
        """The node told for how long each of these stands on, asked at `asked_at`. What was taken
        out of the table meanwhile stays out."""
        for lease, seconds in zip(leases, opened.renewed, strict=False):
            lease.asked = False
            # Of another edition it says nothing of what was lent under this one.
            if seconds > 0 and lease.hold.edition == opened.edition:
                # In this order: who looks meanwhile finds it run out still, or as it is now.
                lease.unused = True
                lease.until = asked_at + seconds
                lease.changes = opened.changes
            elif self._leases.get(lease.hold.path.text) is lease:
                self._leases.pop(lease.hold.path.text, None)

    def keep(self, leases: Sequence[Lease]) -> None:
        """The node told nothing of these: they may be renewed another time."""
        for lease in leases:
            lease.asked = False

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
        holds = [lease.hold for lease in tuple(self._leases.values())]
        return [hold.kept() for hold in holds if hold.hits or hold.served]
