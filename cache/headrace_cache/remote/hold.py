"""A handle at the node, and the parts of its object that lie in lent memory.

Shared by all who opened by it in this process, without a lock: what changes, changes whole.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from headrace_cache.extents.page import PAGE_BYTES
from headrace_cache.remote.lent_mapping import LentMapping
from headrace_cache.wire import messages as m
from headrace_cache.wire.bulletin import PostedBulletin
from headrace_cache.wire.told import ToldLoan, ToldOpen
from headrace_cache.wire.values import path_of, version_of
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath

Answer = TypeVar("Answer", bound=m.Answer)


class Lender(Protocol):
    """The session by which the handle was given."""

    bulletin: PostedBulletin
    #: Whether it has ended.
    gone: bool

    def ask(self, request: m.Request, kind: type[Answer]) -> Answer:
        """The node's answer."""
        ...

    def extent(self, number: int) -> LentMapping | None:
        """Memory that was lent; None where it was called back meanwhile."""
        ...

    def forget_handle(self, handle: int, hits: int, served: int) -> None:
        """Let go of a handle some time; asks nobody."""
        ...

    @property
    def has_many_closed(self) -> bool:
        """Whether `tell_closed` is due."""
        ...

    def tell_closed(self) -> None:
        """Let go of what was closed."""
        ...


class Span:
    """A part of the object in lent memory, and which run of it is known to be there.

    It never changes: threads that share it see one run, or another.
    """

    __slots__ = ("extent", "high", "loan", "low", "memory", "shift")

    def __init__(self, extent: LentMapping, loan: ToldLoan, low: int, high: int) -> None:
        """Bytes `low` to `high` are there, and so are their pages, to the last byte."""
        self.extent = extent
        self.memory = extent.mapping
        self.loan = loan
        self.shift = loan.shift
        if loan.presence >= 0 and low < high:
            low -= (low - loan.start) % PAGE_BYTES
            high = min(loan.stop, high + (loan.start - high) % PAGE_BYTES)
        self.low = low
        self.high = high

    def seen(self, start: int, stop: int) -> Span | None:
        """The same memory with the run of a range, where the node has noted that it came since.
        Raises ValueError where the memory was called back."""
        loan, stop = self.loan, min(stop, self.loan.stop)
        if loan.presence < 0 or not loan.start <= start < stop:
            return None
        first, last = (start - loan.start) // PAGE_BYTES, (stop - 1 - loan.start) // PAGE_BYTES
        there = self.extent.pages_there(first, last)
        return Span(self.extent, loan, start, stop) if there else None


def entered(
    spans: dict[int, Span], loan: ToldLoan, extent: LentMapping, start: int, stop: int
) -> Span:
    """The span of this loan, one of `spans` now; bytes `start` to `stop` of it are there at
    least."""
    low = loan.start if loan.complete else max(start, loan.start)
    high = loan.stop if loan.complete else min(stop, loan.stop)
    known = spans.get(loan.start)
    if known is not None and known.extent is extent and low <= known.high and known.low <= high:
        low, high = min(low, known.low), max(high, known.high)  # what is there stays there
    spans[loan.start] = span = Span(extent, loan, low, high)
    return span


class Hold:
    """A handle at the node, shared by all who opened by it here; let go of when none is left."""

    __slots__ = (
        "cached",
        "connection",
        "each",
        "edition",
        "handle",
        "hits",
        "path",
        "restricted",
        "served",
        "spans",
        "stale",
        "version",
    )

    def __init__(self, connection: Lender, edition: int, told: ToldOpen) -> None:
        """`edition` is the bulletin's, from before the node opened it."""
        self.connection = connection
        self.handle = told.handle
        self.path: NamespacePath = path_of(told.path)
        self.version: ObjectVersion = version_of(told.version)
        self.restricted = told.restricted
        self.each = told.each
        self.cached = told.cached
        self.edition = edition
        #: The parts of the object that were lent, by where in it they begin.
        self.spans: dict[int, Span] = {}
        #: Whether the version is known to be gone: who opens the path is to ask.
        self.stale = False
        #: What its readers read by themselves and the node was not told of.
        self.hits = 0
        self.served = 0

    def kept(self) -> m.Closed:
        """What its readers read by themselves, to be told; the handle is kept."""
        told = m.Closed(self.handle, self.hits, self.served, kept=True)
        self.hits = self.served = 0
        return told

    def __del__(self) -> None:
        # It takes no lock, and asks nobody: the next open tells.
        if hasattr(self, "served"):
            self.connection.forget_handle(self.handle, self.hits, self.served)


def entered_hold(connection: Lender, edition: int, told: ToldOpen) -> Hold:
    """A handle that the node gave, with what it lent."""
    hold = Hold(connection, edition, told)
    for loan in reversed(told.loans):
        extent = connection.extent(loan.number)
        if extent is not None:
            entered(hold.spans, loan, extent, 0, 0)
    return hold
