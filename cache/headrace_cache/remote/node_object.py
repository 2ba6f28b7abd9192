"""One object open at the node: read from memory that the node has lent, without a call.

As in `reading.open_object`, a read that finds its bytes in a complete span is one slice of a
mapping; the rest asks the node.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress

from headrace_cache.remote.connection import NodeGone
from headrace_cache.remote.hold import Answer, Hold, Lender, Span, entered
from headrace_cache.service import OpenObject
from headrace_cache.wire import messages as m
from headrace_cache.wire.told import ToldLoan
from headrace_namespace.errors import VersionGone
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath

#: A long read asks for its bytes in pieces of this size.
PIECE_BYTES = 32 << 20
#: A view of so few bytes costs more than a copy of them, and keeps a whole arena from its node.
COPIED_BYTES = 64 << 10
#: What was lent may be called back before it was read; more often is a node without room.
MOST_TRIES = 3


class NodeObject:
    """One version of one object, pinned at open. Safe to use from several threads."""

    __slots__ = (
        "_cached",
        "_closed",
        "_connection",
        "_each",
        "_edition",
        "_hits",
        "_hold",
        "_home",
        "_numbers",
        "_other",
        "_restricted",
        "_served",
        "_size",
        "_span",
        "_spans",
        "path",
        "version",
    )

    def __init__(self, home: Callable[[NamespacePath], OpenObject], hold: Hold) -> None:
        """`hold` is the handle that it reads by; `home` opens it anew, where the node is gone."""
        self._home = home
        self._hold: Hold | None = hold
        self._connection: Lender = hold.connection
        #: The path it was opened by, and exactly which bytes every read gives.
        self.path: NamespacePath = hold.path
        self.version: ObjectVersion = hold.version
        self._size = hold.version.size
        self._numbers = hold.connection.bulletin.numbers
        self._edition = hold.edition
        self._restricted = hold.restricted
        self._each = hold.each
        self._cached = hold.cached
        self._hits = 0
        self._served = 0
        self._closed = False
        #: Where it was opened anew.
        self._other: OpenObject | None = None
        #: The part that is read now, and all that were lent, by where in the object they begin.
        self._spans = hold.spans
        self._span: Span | None = self._spans.get(0)

    @property
    def restricted(self) -> bool:
        """Whether the policy keeps its bytes from every disk."""
        return self._restricted if self._other is None else self._other.restricted

    def read_at(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop` (exclusive); fewer only at the object's end."""
        if self._numbers[0] == self._edition and not self._connection.gone:
            span = self._span
            if span is None or not span.low <= start <= stop <= span.high:
                # Of a large object each read is likely to be in another part.
                span = self._spans.get(start // self._each * self._each)
                if span is None or not span.low <= start <= stop <= span.high:
                    span = self._other_span(start, stop)
            if span is not None and start <= stop <= span.high:
                # The warm path: one slice of the mapping.
                shift = span.shift
                try:
                    piece = span.memory[shift + start : shift + stop]
                except ValueError:
                    self._span = None  # it was called back
                else:
                    self._span = span
                    self._hits += 1
                    self._served += stop - start
                    return piece
        start, stop = self._bounds(start, stop)
        if self._other is not None:
            return self._other.read_at(start, stop)
        joined = self._joined(start, stop)
        if joined is not None:
            return joined
        whole = io.BytesIO()
        for begin in range(start, stop, PIECE_BYTES):
            gathered = bytearray(min(stop - begin, PIECE_BYTES))
            with memoryview(gathered) as target:
                self._gather(begin, begin + len(gathered), target)
            whole.write(gathered)
        return whole.getvalue()

    def _joined(self, start: int, stop: int) -> bytes | None:
        """A range over several spans that are all at hand, in one copy; else None, and no call."""
        if self._numbers[0] != self._edition or self._connection.gone:
            return None
        views: list[memoryview] = []
        done = start
        try:
            while done < stop:
                span = self._other_span(done, stop)
                if span is None:
                    return None
                end = min(stop, span.high)
                with memoryview(span.memory) as whole:
                    views.append(whole[span.shift + done : span.shift + end])
                done = end
            joined = b"".join(views)
        except ValueError:  # one was called back just now
            return None
        finally:
            for view in views:
                view.release()
        self._hits += 1
        self._served += len(joined)
        return joined

    def read_into(self, start: int, target: memoryview) -> int:
        """Fill `target` from `start` on; the number of bytes, fewer only at the object's end."""
        start, stop = self._bounds(start, start + len(target))
        with target[: stop - start] as part:
            self._gather(start, stop, part)
        return stop - start

    def view(self, start: int, stop: int) -> memoryview | bytes:
        """The same bytes without a copy where they lie in one piece of memory."""
        if stop - start <= COPIED_BYTES:
            return self.read_at(start, stop)
        start, stop = self._bounds(start, stop)
        if self._other is not None:
            return self._other.view(start, stop)
        span = self._found(start, stop)
        if span is not None and span.low <= start and stop <= span.high:
            try:
                with memoryview(span.memory) as whole:
                    view = whole[span.shift + start : span.shift + stop]
            except ValueError:
                pass  # it was called back just now
            else:
                self._served += stop - start
                return view
        return self.read_at(start, stop)

    def warm(self, start: int, stop: int) -> int:
        """Bring a range into the cache; the bytes that had to be fetched from the store."""
        start, stop = self._bounds(start, stop)
        try:
            if self._other is None:
                asked = m.Warm(self._handle(), start, stop)
                return self._ask(asked, m.Number).value
        except NodeGone:
            pass
        return self._anew().warm(start, stop)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._count()

    def close(self) -> None:
        """Let go; later reads raise ValueError."""
        if self._closed:
            return
        self._closed = True
        self._span = None
        if self._other is not None:
            self._other.close()
        self._count()
        connection, self._hold, self._spans = self._connection, None, {}
        if connection.has_many_closed:
            with suppress(NodeGone):
                connection.tell_closed()

    def _count(self) -> None:
        """The node is told when the handle is let go of."""
        hold = self._hold
        if hold is not None:
            hold.hits += self._hits
            hold.served += self._served

    def _handle(self) -> int:
        if self._hold is None:
            raise ValueError(f"read of a closed object: {self.path}")
        return self._hold.handle

    def _bounds(self, start: int, stop: int) -> tuple[int, int]:
        if self._closed:
            raise ValueError(f"read of a closed object: {self.path}")
        start = min(max(start, 0), self._size)
        return start, min(max(stop, start), self._size)

    def _gather(self, start: int, stop: int, target: memoryview) -> None:
        """Fill `target`, piece by piece of what is lent, and what memory cannot hold by packets."""
        done = start
        tries = MOST_TRIES
        while done < stop:
            if self._other is not None:
                with target[done - start :] as rest:
                    self._other.read_into(done, rest)
                return
            span = self._found(done, min(stop, done + PIECE_BYTES)) if self._cached else None
            if span is None or not span.low <= done < span.high:
                done += self._read_past(done, stop, target, done - start)
                continue
            end = min(stop, span.high)
            try:
                with memoryview(span.memory) as whole:
                    target[done - start : end - start] = whole[span.shift + done : span.shift + end]
            except ValueError:  # it was called back just now
                self._span = None
                tries -= 1
                if not tries:
                    done += self._read_past(done, stop, target, done - start)
                    tries = MOST_TRIES
                continue
            self._served += end - done
            done = end

    def _read_past(self, start: int, stop: int, target: memoryview, at: int) -> int:
        """One packet of bytes; how many."""
        if self._other is not None:
            return 0
        stop = min(stop, start + m.MOST_PAST_BYTES)
        try:
            asked = m.ReadPast(self._handle(), start, stop)
            data = self._ask(asked, m.Bytes).data
        except NodeGone:
            self._anew()
            return 0
        target[at : at + len(data)] = data  # counted where it was read
        return len(data)

    def _found(self, start: int, stop: int) -> Span | None:
        """A span with the byte at `start`, of now's policy, brought where it is not known."""
        span = self._span
        if self._numbers[0] == self._edition and not self._connection.gone:
            if span is None or not span.low <= start < span.high:
                span = self._other_span(start, stop)
            if span is not None:
                if stop <= span.high:
                    self._hits += 1
                self._span = span
                return span
        else:
            self._spans.clear()  # for all who read by the handle: each asks anew
        if stop <= start:
            return None
        try:
            brought = self._ask(m.Bring(self._handle(), start, stop), m.Brought)
        except NodeGone:
            self._anew()
            return None
        self._edition, self._restricted, self._span = brought.edition, brought.restricted, None
        hold = self._hold
        if hold is not None:
            hold.edition, hold.restricted = brought.edition, brought.restricted
        for loan in reversed(brought.loans):
            self._enter(loan, start, stop)
        return self._span

    def _other_span(self, start: int, stop: int) -> Span | None:
        """A part that was lent before, and has the byte at `start`.

        Who reads on from where he was asks the node all the same, page by page, where the part is
        not complete: so the node sees that he does, and fetches ahead of him.
        """
        begin = start // self._each * self._each
        span, last = self._spans.get(begin), self._span
        if span is None:
            return None
        try:
            if not span.low <= start < span.high:
                reads_on = last is not None and start == last.high
                return None if reads_on else span.seen(start, stop)
            if not span.memory.closed:
                return span
        except ValueError:
            pass  # it was called back
        self._spans.pop(begin, None)
        return None

    def _enter(self, loan: ToldLoan, start: int, stop: int) -> None:
        """Read from this loan from now on; bytes `start` to `stop` of it are there at least."""
        extent = self._connection.extent(loan.number)
        if extent is not None:
            self._span = entered(self._spans, loan, extent, start, stop)

    def _ask(self, request: m.Request, kind: type[Answer]) -> Answer:
        try:
            return self._connection.ask(request, kind)
        except VersionGone:
            if self._hold is not None:
                self._hold.stale = True
            raise

    def _anew(self) -> OpenObject:
        """The same version, opened without the node that is gone. Raises VersionGone."""
        if self._other is None:
            other = self._home(self.path)
            if other.version != self.version:
                other.close()
                raise VersionGone(
                    f"{self.path} was replaced, and the node that held its version is gone",
                    path=self.path.text,
                    hint="open it again",
                )
            self._span, self._other = None, other
            self._spans.clear()
        return self._other
