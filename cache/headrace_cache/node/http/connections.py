"""The door's connections: taken, counted, and read as HTTP by aiohttp.

A connection counts from when it is accepted, its TLS handshake included, and what is no HTTP is
answered so: neither it nor what it says reaches the log, for it may hold a token.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from headrace_cache.node.http import bounds
from headrace_cache.wire import routes

_log = logging.getLogger(__name__)

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 0\r\nHeadrace-Protocol: %d\r\n\r\n" % routes.HTTP_PROTOCOL
)


#: Else aiohttp tells its own release.
_NAME = {"Server": "headrace"}


class _Connection(RequestHandler):
    """aiohttp's reading of one connection, without its log."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is answered to a request that is none. Raises ConnectionError where an answer has
        begun."""
        manager = self._manager
        if isinstance(manager, Connections):
            manager.note(request.remote, status, exc)
        if request.writer.output_size > 0:
            self.force_close()
            raise ConnectionError
        text = "this is no HTTP request\n" if status < 500 else "the node failed\n"
        answer = web.Response(status=400 if status < 500 else 500, text=text, headers=_NAME)
        answer.force_close()
        return answer

    def log_exception(self, *args: object, **kw: object) -> None:
        """Only the kind of an error: its words may hold what was sent."""
        _log.error("a connection ended by a fault: %s", type(kw.get("exc_info")).__name__)


class Connections(web.Server):
    """aiohttp's server, over connections that it is given."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        """`answer` is asked for each request. For the loop's thread, in its loop."""
        super().__init__(answer)
        #: By what new connections are agreed on; None without TLS.
        self.tls: ssl.SSLContext | None = None
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._ends: dict[RequestHandler, asyncio.Transport] = {}
        #: Those that were closed when this was looked at last, and what of them was not sent yet.
        self._unsent: dict[RequestHandler, int] = {}
        self._noted_from = 0.0

    def __call__(self) -> RequestHandler:
        """What reads one connection."""
        return _Connection(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type] # none, says aiohttp's documentation
            logger=_log,
            keepalive_timeout=bounds.IDLE_SECONDS,
            max_line_size=bounds.MOST_LINE_BYTES,
            max_field_size=bounds.MOST_FIELD_BYTES,
            max_headers=bounds.MOST_HEADERS,
            auto_decompress=False,
        )

    async def accept(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        listener.setblocking(False)
        while True:
            try:
                taken, _ = await self._loop.sock_accept(listener)
            except OSError as error:  # its other end is gone, or no descriptor is left
                _log.warning("a connection could not be taken: %s", error.strerror)
                await asyncio.sleep(bounds.ACCEPT_AGAIN_SECONDS)
                continue
            if self._count >= bounds.MOST_CONNECTIONS:
                _turn_away(taken, None if self.tls else _FULL)
                continue
            self._count += 1
            task = self._loop.create_task(self._open(taken, self.tls))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, taken: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Agree on TLS, and read what it says. `connection_lost` counts it off; or this, where
        there never was one."""
        try:
            await self._loop.connect_accepted_socket(
                self,
                taken,
                ssl=tls,
                ssl_handshake_timeout=bounds.HANDSHAKE_SECONDS if tls else None,
            )
        except OSError:
            self._count -= 1
            taken.close()
        except BaseException:
            self._count -= 1
            taken.close()
            raise

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """It is agreed on."""
        self._ends[handler] = transport
        super().connection_made(handler, transport)

    def end_unread(self) -> None:
        """End those that were closed, and whose other end has taken nothing of the last bytes since
        this was asked before: asyncio would wait for it for ever, and each counts."""
        unsent = {
            handler: transport.get_write_buffer_size()
            for handler, transport in self._ends.items()
            if transport.is_closing()
        }
        for handler, size in unsent.items():
            if self._unsent.get(handler) == size:
                self._ends[handler].abort()
        self._unsent = unsent

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """It counts no more."""
        self._count -= 1
        self._ends.pop(handler, None)
        super().connection_lost(handler, exc)

    def note(self, remote: str | None, status: int, error: BaseException | None) -> None:
        """Log, once in a while, that something else than HTTP came, and of a fault its kind."""
        if status >= 500:
            _log.error("a request could not be answered: %s", type(error).__name__)
            return
        now = time.monotonic()
        if now >= self._noted_from:
            self._noted_from = now + bounds.REFUSAL_LOG_SECONDS
            _log.warning("a request that is no HTTP came from %s", remote)


def _turn_away(taken: socket.socket, word: bytes | None) -> None:
    with taken:
        try:
            if word is not None:
                taken.send(word)
            taken.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is gone already
