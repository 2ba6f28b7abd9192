"""From a request's method and target to what answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from headrace_cache.node.http import tree
from headrace_cache.node.http.asking import answer, asked_for, listed
from headrace_cache.node.http.exchange import Exchange
from headrace_cache.node.http.opened import OpenObjects
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.wire import changes as c
from headrace_cache.wire import messages as m
from headrace_cache.wire import routes
from headrace_cache.wire import values as v
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError


class Routing:
    """Answers requests of clients that are known already."""

    def __init__(self, objects: OpenObjects) -> None:
        self._objects = objects

    async def answer(self, exchange: Exchange, target: str) -> web.StreamResponse:
        """The answer. Raises HeadraceError, and ValueError for a request that makes no sense."""
        method = exchange.request.method
        if target == routes.ASK:
            return await self._ask(exchange) if method == "POST" else _not_so(exchange, "POST")
        if target == routes.TREE or target.startswith(routes.TREE + "/"):
            path = routes.path_in(target)
            exchange.about = path
            if method in ("GET", "HEAD"):
                return await tree.read(exchange, self._objects, path)
            if method == "PUT":
                return await tree.write(exchange, path)
            return _not_so(exchange, "GET, HEAD, PUT")
        return web.Response(status=404, text="there is no such route\n", headers=exchange.headers)

    async def _ask(self, exchange: Exchange) -> web.StreamResponse:
        # A web page can send what it likes without asking first, but not of this type.
        if exchange.request.content_type != routes.MESSAGE_TYPE:
            raise ValueError(f"a message is sent as {routes.MESSAGE_TYPE}")
        asked = bytearray()
        async for part in exchange.parts():
            asked += part
            if len(asked) > c.MOST_ASKED_BYTES:
                raise ValueError(f"a message has at most {c.MOST_ASKED_BYTES} bytes")
        request = c.asked_of(asked)
        exchange.about = asked_for(request)
        if isinstance(request, m.List):
            return await self._list(exchange, request)
        told = await exchange.work(lambda: answer(exchange.service, request))
        if isinstance(told, OpenObject):
            told = self._opened(exchange, told)
        return exchange.message(c.encode(told))

    def _opened(self, exchange: Exchange, opened: OpenObject) -> c.OpenedOne:
        """Keep it for the reads that follow."""
        held = self._objects.add(exchange.client.name, opened.path, opened)
        try:
            path, version = v.told_path(held.object.path), v.told_version(opened.version)
            return c.OpenedOne(path, version, held.object.restricted)
        finally:
            self._objects.give_back(held)

    async def _list(self, exchange: Exchange, request: m.List) -> web.StreamResponse:
        entries = exchange.service.list(v.path_of(request.path))
        # Before the answer begins: what is wrong with it can be told by then.
        part = await exchange.work(lambda: listed(entries))
        headers = exchange.headers | {"Content-Type": routes.MESSAGE_TYPE}
        response = web.StreamResponse(headers=headers)
        await exchange.begin(response)
        try:
            while True:
                await exchange.send(response, c.framed(part))
                if part.listing is None:
                    return response
                part = await self._next(exchange, response, entries)
        except HeadraceError as error:
            await exchange.send(response, c.framed(v.told_error(error)))
            return response

    async def _next(
        self, exchange: Exchange, response: web.StreamResponse, entries: Iterator[Entry]
    ) -> m.Listed:
        """The next part; while the store takes long, the client is sent empty ones."""
        working = exchange.on_thread(lambda: listed(entries))
        task = asyncio.ensure_future(working)
        while True:
            done, _ = await asyncio.wait((task,), timeout=routes.BEAT_SECONDS)
            if done:
                return task.result()
            await exchange.send(response, c.framed(m.Listed(1, [])))


def _not_so(exchange: Exchange, allowed: str) -> web.Response:
    return web.Response(
        status=405,
        text=f"this route takes {allowed}\n",
        headers=exchange.headers | {"Allow": allowed},
    )
