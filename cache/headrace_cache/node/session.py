"""What one client of the node has: its open objects, its listings, and the extents lent to it.

It ends with the connection that began it, however that ends; then everything is given back.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic

from headrace_cache.extents.extent_store import Loan
from headrace_cache.local_service import LocalService
from headrace_cache.node.turns import Turns, Who
from headrace_cache.node_facts import ClientFacts
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.wire.channel import MOST_DESCRIPTORS, Channel, Ended, Peer, close_all
from headrace_cache.wire.messages import CallBack, encode
from headrace_cache.wire.told import ToldLoan
from headrace_namespace.entry import Entry
from headrace_namespace.errors import TooManyOpen

_log = logging.getLogger(__name__)

#: Open objects of one client; a Python job has some thousands at most.
MOST_HANDLES = 65_536
#: Listings under way of one client; the one that was asked for longest ago ends.
MOST_LISTINGS = 64
#: Who has not given back after so long what was called back is told of in the log, and after as
#: long again once more. A job that computes with a view of the memory may well take longer.
GIVE_BACK_SECONDS = 60.0


@dataclass(slots=True)
class Lent:
    """Memory on its way to a client: the extents that it has not yet, and their descriptors."""

    extents: list[int] = field(default_factory=list[int])
    descriptors: list[int] = field(default_factory=list[int])

    def close(self) -> None:
        """They were sent, or could not be."""
        close_all(self.descriptors)
        self.descriptors.clear()


class Session(Generic[Who]):
    """One client. Safe to use from several threads."""

    __slots__ = (
        "_began",
        "_called_back",
        "_channel",
        "_handles",
        "_listings",
        "_lock",
        "_numbers",
        "_store",
        "_tell_from",
        "answered",
        "ended",
        "extents",
        "number",
        "peer",
        "service",
        "turns",
    )

    def __init__(
        self, number: int, channel: Channel, service: LocalService, peer: Peer, turns: Turns[Who]
    ) -> None:
        """`service` is the cache as the client may use it."""
        self.number = number
        self.service = service
        self.peer = peer
        #: Of its connections, to be answered.
        self.turns = turns
        self._channel = channel
        self._store = service.store()
        self._lock = threading.Lock()
        self._handles: dict[int, OpenObject] = {}
        self._listings: dict[int, Iterator[Entry]] = {}
        self._numbers = itertools.count(1)
        #: The extents that the client has mapped.
        self.extents: set[int] = set()
        #: Those of them that it was asked to give back, and when first.
        self._called_back: dict[int, float] = {}
        self._tell_from = 0.0
        self._began = time.monotonic()
        #: Requests answered; one thread at a time adds for each connection, so it may lose a few.
        self.answered = 0
        self.ended = False

    def keep(self, opened: OpenObject) -> int:
        """A handle for an open object. Raises TooManyOpen."""
        with self._lock:
            if self.ended or len(self._handles) >= MOST_HANDLES:
                raise TooManyOpen(
                    f"this process has {MOST_HANDLES} objects open at the node",
                    path=opened.path.text,
                    hint="close some",
                )
            number = next(self._numbers)
            self._handles[number] = opened
            return number

    def opened(self, handle: int) -> OpenObject:
        """What a handle stands for. Raises ValueError."""
        found = self._handles.get(handle)
        if found is None:
            raise ValueError(f"there is no handle {handle}")
        return found

    def known(self, handle: int) -> OpenObject | None:
        """What a handle stands for; None where it stands for nothing."""
        return self._handles.get(handle)

    def close(self, handle: int) -> OpenObject | None:
        """Forget a handle; what it stood for."""
        with self._lock:
            return self._handles.pop(handle, None)

    def begin_listing(self, entries: Iterator[Entry]) -> int:
        """A number to ask for more of a listing by."""
        with self._lock:
            if len(self._listings) >= MOST_LISTINGS:
                del self._listings[next(iter(self._listings))]
            number = next(self._numbers)
            self._listings[number] = entries
            return number

    def take_listing(self, number: int) -> Iterator[Entry]:
        """The listing, for one thread at a time. Raises ValueError where it ended."""
        with self._lock:
            found = self._listings.pop(number, None)
        if found is None:
            raise ValueError(f"there is no listing {number}: so many at once are kept not")
        return found

    def put_listing(self, number: int, entries: Iterator[Entry]) -> None:
        """There may be more of it."""
        with self._lock:
            self._listings[number] = entries

    def extent_bytes(self, opened: OpenObject) -> int:
        """Of how many bytes the extents are in which an object is lent; the last may be shorter."""
        return max(1, self._store.shape.extent_bytes(opened.version.size))

    def lend(
        self, opened: OpenObject, start: int, stop: int, lent: Lent, *, bring: bool = True
    ) -> list[ToldLoan]:
        """Lend what holds a range; what has to be sent with it is added to `lent`."""
        told: list[ToldLoan] = []
        for loan in opened.lend(start, stop, self.extents, bring=bring):
            self._tell(loan, told, lent)
        return told

    def unlend(self, lent: Lent) -> None:
        """It will not be sent."""
        lent.close()
        self.give_back(lent.extents)

    def _tell(self, loan: Loan, told: list[ToldLoan], lent: Lent) -> None:
        number = loan.extent.number
        new = loan.new
        if new:
            with self._lock:
                known = number in self.extents or self.ended
                if not known:
                    self.extents.add(number)
            if known:  # another answer lent it meanwhile, or nobody wants it any more
                self._store.give_back(number)
                new = False
            elif len(lent.descriptors) >= MOST_DESCRIPTORS:
                self.give_back([number])
                return
            else:
                try:
                    lent.descriptors.append(loan.extent.open_for_reading())
                except OSError:  # this process has no descriptor left: the client reads past
                    self.give_back([number])
                    return
                lent.extents.append(number)
        told.append(
            ToldLoan(number, loan.start, loan.stop, loan.shift, loan.complete, loan.presence, new)
        )

    def give_back(self, extents: Sequence[int]) -> None:
        """The client let go of these extents; others than its own are passed over."""
        for number in extents:
            with self._lock:
                if number not in self.extents:
                    continue
                self.extents.discard(number)
                self._called_back.pop(number, None)
            self._store.give_back(number)

    def call_back(self, number: int) -> None:
        """Ask the client to give an extent back, if it has it; returns at once."""
        if number in self.extents:
            self._note_call(number, time.monotonic())
            # One that does not listen is asked again, or its end gives all back.
            with suppress(BlockingIOError, Ended):
                self._channel.send(encode(CallBack([number])))

    def _note_call(self, number: int, now: float) -> None:
        with self._lock:
            first = self._called_back.setdefault(number, now)
            if now < max(first + GIVE_BACK_SECONDS, self._tell_from):
                return
            self._tell_from = now + GIVE_BACK_SECONDS
            count = len(self._called_back)
        _log.warning(
            "a client does not give back memory that was called back",
            extra={**self.identity(), "extents": count, "seconds": round(now - first)},
        )

    def identity(self) -> dict[str, object]:
        """Who it is, for the log."""
        return {"client": self.number, "pid": self.peer.process, "user": self.peer.user}

    def facts(self, sizes: Mapping[int, int], now: float, moment: float) -> ClientFacts:
        """What it has and did. `sizes` are the bytes of all extents that are lent; `now` is the
        time since the epoch, `moment` the same by the clock that never goes back."""
        with self._lock:
            extents, handles, called = (
                tuple(self.extents),
                len(self._handles),
                len(self._called_back),
            )
        return ClientFacts(
            number=self.number,
            process=self.peer.process,
            user=self.peer.user,
            since=round(now - (moment - self._began), 3),
            handles=handles,
            extents=len(extents),
            lent_bytes=sum(sizes.get(number, 0) for number in extents),
            called_back=called,
            answered=self.answered,
        )

    def end(self) -> None:
        """Give everything back."""
        with self._lock:
            self.ended = True
            self._called_back.clear()
            handles, self._handles = list(self._handles.values()), {}
            self._listings.clear()
            extents, self.extents = self.extents, set()
        for opened in handles:
            opened.close()
        for number in extents:
            self._store.give_back(number)
