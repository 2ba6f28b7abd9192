"""One request and its answer, as every route of the door needs them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import HttpVersion11, web

from headrace_cache.access import KnownClient
from headrace_cache.local_service import LocalService
from headrace_cache.node.http.bounds import (
    LEAST_PART_BYTES,
    SLICE_BYTES,
    STALLED_SECONDS,
)
from headrace_cache.node.http.crowd import Crowd
from headrace_cache.wire import routes
from headrace_cache.wire.changes import encode
from headrace_cache.wire.values import told_error
from headrace_namespace.errors import HeadraceError
from headrace_namespace.path import NamespacePath

Answer = TypeVar("Answer")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Stalled(ConnectionError):
    """The client took or sent nothing for too long; its connection is gone."""


@dataclass(slots=True)
class Exchange:
    """A request of a known client, the cache as that client may see it, and how to answer."""

    request: web.BaseRequest
    client: KnownClient
    service: LocalService
    crowd: Crowd
    headers: dict[str, str]
    #: Whether a part of the answer may have gone out: from then on nothing may but the rest of it.
    begun: bool = False
    #: The path that its work is for, whose store it may wait for.
    about: NamespacePath | None = None

    async def on_thread(self, blocking: Callable[[], Answer]) -> Answer:
        """What blocking work answers, without a word to the client meanwhile."""
        return await self.crowd.on_thread(self.client.name, self._mount(), blocking)

    async def work(self, blocking: Callable[[], Answer]) -> Answer:
        """What blocking work answers. While it takes long, a headrace client is told that the node
        lives, until the answer has begun: then a word of that would be bytes of the object."""
        working: Coroutine[Any, Any, Answer] = self.on_thread(blocking)
        if self.begun or routes.PROTOCOL_HEADER not in self.request.headers:
            return await working
        task = asyncio.ensure_future(working)
        while True:
            done, _ = await asyncio.wait((task,), timeout=routes.BEAT_SECONDS)
            if done:
                return task.result()
            self.go_on()

    def go_on(self) -> None:
        """Tell a client that is still there to wait, or to send the body that it asked about."""
        transport = self.request.transport
        if not self.begun and transport is not None and self.request.version >= HttpVersion11:
            transport.write(_CONTINUE)

    def _mount(self) -> str | None:
        """The path of the mount that its work may wait for."""
        if self.about is None:
            return None
        with suppress(HeadraceError):  # the answer will say what is wrong
            mount = self.service.mount_of(self.about)
            return None if mount is None else mount.path.text
        return None

    async def begin(self, response: web.StreamResponse) -> None:
        """The answer's headers go out, and what it sends after them."""
        self.begun = True
        await response.prepare(self.request)

    async def send(self, response: web.StreamResponse, data: bytes | memoryview) -> None:
        """Give a slice to the client; returns when he has taken most of it. Raises Stalled."""
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(data)
        except TimeoutError:
            raise self.hang_up("the client takes nothing") from None

    async def parts(self) -> AsyncIterator[bytearray]:
        """The body, in pieces of some `SLICE_BYTES`. Raises Stalled, ConnectionError where it ends
        too early."""
        content = self.request.content
        part, ended = bytearray(), False
        while not ended:
            least = min(len(part) + LEAST_PART_BYTES, SLICE_BYTES)
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    while len(part) < least and not ended:
                        piece = await content.readany()
                        part += piece
                        ended = not piece
            except TimeoutError:
                raise self.hang_up("the client sends nothing") from None
            except web.RequestPayloadError:
                raise ConnectionResetError("the body ended too early") from None
            if part and (ended or len(part) >= SLICE_BYTES):
                yield part
                part = bytearray()

    def hang_up(self, why: str) -> Stalled:
        """End the connection at once, whatever was on its way."""
        if self.request.transport is not None:
            self.request.transport.abort()
        return Stalled(why)

    def message(self, told: bytes, status: int = 200, **more: str) -> web.Response:
        """An answer that is one message."""
        headers = self.headers | {"Content-Type": routes.MESSAGE_TYPE} | more
        return web.Response(body=told, status=status, headers=headers)


def refusal(
    request: web.BaseRequest,
    error: HeadraceError,
    headers: dict[str, str],
    status: int | None = None,
) -> web.Response:
    """An error: a message for who accepts that, one line of text for others."""
    status = routes.status_of(error) if status is None else status
    if routes.MESSAGE_TYPE in request.headers.get("Accept", ""):
        told = encode(told_error(error))
        headers = headers | {"Content-Type": routes.MESSAGE_TYPE}
        return web.Response(body=told, status=status, headers=headers)
    # A path may hold anything, and an answer is read on terminals.
    line = "".join(char if char.isprintable() else "\ufffd" for char in str(error)) + "\n"
    return web.Response(
        body=line.encode("utf-8", "replace"),
        status=status,
        headers=headers | {"Content-Type": "text/plain; charset=utf-8"},
    )
