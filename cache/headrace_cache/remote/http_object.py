"""One object open at a node of another host: each read is a range of that very version.

The node keeps nothing that a handle depends on: every range names the version (`If-Match`), so that
a handle goes on when the node was started anew, and no read gives bytes of another version.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from headrace_cache.remote.http_client import HttpNodeClient
from headrace_cache.wire import changes as c
from headrace_cache.wire import messages as m
from headrace_cache.wire import routes
from headrace_cache.wire.values import path_of, told_path, version_of
from headrace_namespace.errors import (
    HeadraceError,
    NotFound,
    StoreAnswerWrong,
    StoreUnavailable,
    VersionGone,
)
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath

_T = TypeVar("_T")

#: A read of so many bytes or more goes by itself; a shorter one may take from what came before it.
LONG_BYTES = 256 << 10
#: What a reader in order is sent beyond what it asked for: twice as much each time.
LEAST_AHEAD_BYTES = 64 << 10
MOST_AHEAD_BYTES = 1 << 20
#: How old such bytes may be: the policy may have changed since.
AHEAD_SECONDS = 2.0
#: How often one read may be cut short and go on with hardly anything come; more often is no
#: accident. A store that stops after each slice is slow, and not that.
MOST_CUTS = 16
#: A cut before so many bytes had come is counted: two slices of the node are more than one.
LEAST_CUT_BYTES = 256 << 10
#: One request warms so much.
WARM_BYTES = 256 << 20


class _Cut(Exception):
    """The answer ended too early; so many bytes had come."""

    def __init__(self, count: int) -> None:
        self.count = count


class _Ahead:
    """Bytes from `start` on that came with an earlier read, and since when."""

    __slots__ = ("data", "since", "start")

    def __init__(self, start: int, data: bytes, since: float) -> None:
        self.start = start
        self.data = data
        self.since = since


#: Fills what it is given from an answer; the bytes that had come. Raises _Cut.
_Take = Callable[[memoryview, http.client.HTTPResponse], int]

_NOTHING = _Ahead(0, b"", 0.0)


class HttpObject:
    """One version of one object, pinned at open. Safe to use from several threads."""

    __slots__ = (
        "_ahead",
        "_client",
        "_closed",
        "_etag",
        "_next",
        "_restricted",
        "_size",
        "_target",
        "_window",
        "path",
        "version",
    )

    def __init__(self, client: HttpNodeClient, told: c.OpenedOne) -> None:
        self._client = client
        #: The path it was opened by, and exactly which bytes every read gives.
        self.path: NamespacePath = path_of(told.path)
        self.version: ObjectVersion = version_of(told.version)
        self._size = self.version.size
        self._restricted = told.restricted
        self._target = routes.target_of(self.path)
        self._etag = routes.etag_of(self.version)
        self._closed = False
        # Each is replaced whole: threads that share the object may only cost each other a request.
        self._ahead = _NOTHING
        #: Where a reader in order reads next, and what it is sent then.
        self._next = 0
        self._window = LEAST_AHEAD_BYTES

    @property
    def restricted(self) -> bool:
        """Whether the policy keeps its bytes from every disk, as its last answer said."""
        return self._restricted

    def read_at(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop` (exclusive); fewer only at the object's end."""
        start, stop = self._bounds(start, stop)
        if stop - start >= LONG_BYTES:
            return self._long(start, stop)
        ahead = self._ahead
        end = ahead.start + len(ahead.data)
        if ahead.start <= start <= stop <= end and time.monotonic() - ahead.since <= AHEAD_SECONDS:
            self._next = stop
            return ahead.data[start - ahead.start : stop - ahead.start]
        return self._short(start, stop)

    def read_into(self, start: int, target: memoryview) -> int:
        """Fill `target` from `start` on; the number of bytes, fewer only at the object's end."""
        start, stop = self._bounds(start, start + len(target))
        if stop - start < LONG_BYTES:
            target[: stop - start] = self.read_at(start, stop)
        else:
            with target[: stop - start] as part:
                self._fill(start, part, _into)
        return stop - start

    def view(self, start: int, stop: int) -> bytes:
        """The bytes; they come in memory of their own."""
        return self.read_at(start, stop)

    def warm(self, start: int, stop: int) -> int:
        """Bring a range into the node's cache; the bytes that had to be fetched."""
        start, stop = self._bounds(start, stop)
        fetched = 0
        for begin in range(start, stop, WARM_BYTES):
            end = min(stop, begin + WARM_BYTES)
            asked = c.WarmRange(told_path(self.path), self._etag, begin, end)
            fetched += self._client.ask(asked, m.Number).value
        return fetched

    def close(self) -> None:
        """Let go; later reads raise ValueError."""
        self._closed = True
        self._ahead = _NOTHING

    def _bounds(self, start: int, stop: int) -> tuple[int, int]:
        if self._closed:
            raise ValueError(f"read of a closed object: {self.path}")
        start = min(max(start, 0), self._size)
        return start, min(max(stop, start), self._size)

    def _short(self, start: int, stop: int) -> bytes:
        """A short read; a reader in order is sent more, for its next ones."""
        if start >= stop:
            return b""
        in_order = start == self._next
        self._window = min(2 * self._window, MOST_AHEAD_BYTES) if in_order else LEAST_AHEAD_BYTES
        end = min(self._size, max(stop, start + self._window)) if in_order else stop
        self._next = stop
        data = self._long(start, end)
        if not in_order:
            return data
        self._ahead = _Ahead(start, data, time.monotonic())
        return data[: stop - start]

    def _long(self, start: int, stop: int) -> bytes:
        """Bytes as the socket gives them; gathered only where an answer was cut short."""
        try:
            return self._get(start, stop, partial(_whole, stop - start))
        except _Cut:
            gathered = bytearray(stop - start)
            with memoryview(gathered) as target:
                self._fill(start, target, _bit_by_bit)
            return bytes(gathered)

    def _fill(self, start: int, target: memoryview, take: _Take) -> None:
        done, cuts = 0, 0
        while done < len(target):
            with target[done:] as rest:
                try:
                    done += self._get(start + done, start + len(target), partial(take, rest))
                except _Cut as cut:
                    take = _bit_by_bit
                    done += cut.count
                    cuts += cut.count < LEAST_CUT_BYTES
                    if cuts > MOST_CUTS:
                        broken = StoreUnavailable(
                            f"{self._client.where} keeps breaking off its answers"
                        )
                        raise self._client.named(broken, self.path) from None

    def _get(self, start: int, stop: int, take: Callable[[http.client.HTTPResponse], _T]) -> _T:
        """What `take` makes of a range's bytes. Raises _Cut where they ended too early."""
        headers = {"If-Match": f'"{self._etag}"', "Range": f"bytes={start}-{stop - 1}"}

        def taken(response: http.client.HTTPResponse) -> _T:
            told = response.headers
            if (
                response.status != 206
                or told.get("ETag") != f'"{self._etag}"'
                or told.get("Content-Range") != f"bytes {start}-{stop - 1}/{self._size}"
                or told.get("Content-Length") != str(stop - start)
            ):
                raise StoreAnswerWrong(
                    f"{self._client.where} answers with another range than was asked for"
                )
            self._restricted = told.get(routes.RESTRICTED_HEADER) == "true"
            return take(response)

        try:
            return self._client.exchange("GET", self._target, headers, taken)
        except NotFound as error:
            gone = VersionGone(
                f"{self.path} was deleted", path=self.path.text, hint="open it again"
            )
            raise self._client.named(gone, self.path) from error
        except HeadraceError as error:
            self._client.named(error, self.path)
            raise


def _whole(count: int, response: http.client.HTTPResponse) -> bytes:
    try:
        data = response.read(count)
    except (OSError, http.client.HTTPException):
        raise _Cut(0) from None
    if len(data) < count:
        raise _Cut(0)
    return data


def _into(target: memoryview, response: http.client.HTTPResponse) -> int:
    done = 0
    while done < len(target):
        with target[done:] as rest:
            try:
                count = response.readinto(rest)
            except (OSError, http.client.HTTPException):
                raise _Cut(done) from None
        if not count:
            raise _Cut(done)
        done += count
    return done


def _bit_by_bit(target: memoryview, response: http.client.HTTPResponse) -> int:
    """As `_into`, with a copy more: of an answer that is cut short no byte is lost, so that a
    store that keeps stopping does not have the same bytes sent again and again."""
    done = 0
    while done < len(target):
        try:
            piece = response.read1(min(len(target) - done, LEAST_CUT_BYTES))
        except (OSError, http.client.HTTPException):
            raise _Cut(done) from None
        if not piece:
            raise _Cut(done)
        target[done : done + len(piece)] = piece
        done += len(piece)
    return done
