"""An answer that is whole when it begins: head and body leave in one piece, and wait for nobody.

Small ranges that memory has are answered so. aiohttp's own answer would cost each as much as all
that headrace does for it: a table of headers is copied, looked through and written out each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time


def header_lines(headers: Mapping[str, str]) -> bytes:
    """The lines of these headers, as they are sent."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")


class WholeAnswer(web.StreamResponse):
    """One answer to a request that keeps its connection. Its bytes are copied when it is made: it
    holds no memory that could leave the tier under it."""

    def __init__(self, status: HTTPStatus, lines: bytes, body: bytes | memoryview) -> None:
        """`lines` are all its headers but the date."""
        super().__init__(status=status)
        first = b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode("ascii"))
        date = b"Date: %s\r\n\r\n" % rfc822_formatted_time().encode("ascii")
        self._bytes = b"".join((first, lines, date, body))
        self._writer: AbstractStreamWriter | None = None

    @staticmethod
    def fits(request: web.BaseRequest) -> bool:
        """Whether a request can be answered so: others are told of their connection's end."""
        return request.version == HttpVersion11 and request.keep_alive

    @property
    def keep_alive(self) -> bool:
        """Always: the connection is for the next request."""
        return True

    def leaves_at_once(self, request: web.BaseRequest) -> bool:
        """Send all of it: whether the kernel has it, so that there is nothing to wait for. Raises
        ConnectionError where the client is gone."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._writer = request.writer
        transport.write(self._bytes)
        self._bytes = b""
        return not transport.get_write_buffer_size()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Send all of it, where that was not done yet."""
        if self._writer is None:
            self.leaves_at_once(request)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait until the client has taken most of it."""
        assert not data and self._writer is not None
        await self._writer.drain()
