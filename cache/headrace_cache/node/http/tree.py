"""An object's bytes by GET, HEAD and PUT: for headrace's clients, and any other of HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from aiohttp import web

from headrace_cache.node.http.asking import now, version_of
from headrace_cache.node.http.bounds import SLICE_BYTES
from headrace_cache.node.http.exchange import Exchange
from headrace_cache.node.http.facts import facts_of, lines_of
from headrace_cache.node.http.opened import Held, OpenObjects
from headrace_cache.node.http.ranges import ByteRange, byte_range, matches, one_tag, tags
from headrace_cache.node.http.whole import WholeAnswer, header_lines
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.service import OpenWriter
from headrace_cache.wire import routes
from headrace_cache.wire.changes import Made, encode
from headrace_cache.wire.values import told_version
from headrace_namespace.errors import AlreadyExists, HeadraceError, VersionGone, WriteConflict
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath

#: An answer of so few bytes goes out with its headers, copied.
COPIED_BYTES = 64 << 10


async def read(exchange: Exchange, objects: OpenObjects, path: NamespacePath) -> web.StreamResponse:
    """The object, or a range of it. Raises HeadraceError while nothing was answered yet."""
    held = await _held(exchange, objects, path)
    try:
        return await _read(exchange, held)
    finally:
        objects.give_back(held)


async def _held(exchange: Exchange, objects: OpenObjects, path: NamespacePath) -> Held:
    client, service = exchange.client.name, exchange.service
    wanted = exchange.request.headers.get("If-Match")
    etag = one_tag(wanted)
    if etag is not None:
        held = objects.take(client, path, etag)
        if held is not None:
            return held
        opened = await exchange.work(lambda: version_of(service, path, etag))
    else:
        opened = await exchange.work(lambda: service.open(path))
    held = objects.add(client, path, opened)
    if wanted is not None and not matches(wanted, held.etag):
        objects.give_back(held)
        raise VersionGone(f"{path} has another version", path=path.text)
    return held


async def _read(exchange: Exchange, held: Held) -> web.StreamResponse:
    request, opened = exchange.request, held.object
    if not opened.stands:
        await exchange.work(opened.judge)
    size = opened.version.size
    if matches(request.headers.get("If-None-Match"), held.etag):
        return web.Response(status=304, headers=exchange.headers | facts_of(held))
    if_range = request.headers.get("If-Range")
    asked = request.headers.get("Range")
    if if_range is not None and if_range.strip() != f'"{held.etag}"':
        asked = None
    wanted = byte_range(asked, size)
    if wanted is None:
        headers = exchange.headers | facts_of(held) | {"Content-Range": f"bytes */{size}"}
        return web.Response(status=416, headers=headers, text=f"the object has {size} bytes\n")
    start, stop = wanted.start, wanted.stop
    if request.method == "HEAD":
        return web.Response(status=wanted.status, headers=_headers(exchange, held, wanted))
    # Before the answer begins: what is wrong with it can be told by then.
    piece = await _piece(exchange, opened, start, stop) if start < stop else b""
    if stop - start <= COPIED_BYTES and len(piece) == stop - start:
        if not WholeAnswer.fits(request):
            headers = _headers(exchange, held, wanted)
            return web.Response(status=wanted.status, headers=headers, body=bytes(piece))
        lines = lines_of(held, exchange.headers) + header_lines(wanted.headers(size))
        return WholeAnswer(wanted.status, lines, piece)
    response = web.StreamResponse(status=wanted.status, headers=_headers(exchange, held, wanted))
    await exchange.begin(response)
    while True:
        await exchange.send(response, piece)
        start += len(piece)
        if start >= stop:
            return response
        try:
            piece = await _piece(exchange, opened, start, stop)
        except HeadraceError as error:
            # The client sees that it is cut short, asks for the rest, and is told why. The log is
            # not: an error names what was asked for.
            raise exchange.hang_up(type(error).__name__) from error


def _headers(exchange: Exchange, held: Held, wanted: ByteRange) -> dict[str, str]:
    return exchange.headers | facts_of(held) | wanted.headers(held.object.version.size)


async def _piece(
    exchange: Exchange, opened: OpenObject, start: int, stop: int
) -> memoryview | bytes:
    """The next slice: at once where memory has it, else by a thread."""
    stop = min(stop, start + SLICE_BYTES)
    piece = opened.at_hand(start, stop)
    return await exchange.work(partial(_brought, opened, start, stop)) if piece is None else piece


def _brought(opened: OpenObject, start: int, stop: int) -> memoryview | bytes:
    if opened.cached and stop - start > COPIED_BYTES:
        return opened.view(start, stop)
    # Not by `read_at`: where memory may not hold it, each handle would hold bytes of its own.
    piece = bytearray(stop - start)
    opened.read_into(start, memoryview(piece))
    return bytes(piece)


@dataclass(frozen=True, slots=True)
class _Condition:
    """What a PUT demands of what is there."""

    append: bool
    exclusive: bool
    tag: str | None
    etags: frozenset[str]

    @classmethod
    def of(cls, request: web.BaseRequest) -> _Condition:
        """Raises ValueError where one cannot be kept to: without it another object may be lost."""
        headers = request.headers
        if "Content-Range" in headers:
            raise ValueError("an object is written whole: a PUT has no Content-Range")
        if "If-Match" in headers and not tags(headers["If-Match"]):
            raise ValueError("If-Match names entity tags in quotes, or *")
        if headers.get("If-None-Match", "*").strip() != "*":
            raise ValueError("If-None-Match of a PUT can only be *")
        tag = headers.get(routes.TAG_HEADER)
        return cls(
            append=headers.get(routes.APPEND_HEADER, "").lower() == "true",
            exclusive="If-None-Match" in headers,
            tag=None if tag is None else unquote(tag, errors="surrogateescape"),
            etags=tags(headers.get("If-Match")),
        )


async def write(exchange: Exchange, path: NamespacePath) -> web.StreamResponse:
    """Write the body to `path`: whole, or not at all. Raises HeadraceError."""
    request, condition = exchange.request, _Condition.of(exchange.request)
    if request.headers.get("Content-Encoding", "identity") != "identity":
        return web.Response(
            status=415, text="send the bytes as they are\n", headers=exchange.headers
        )
    begin = partial(_begin, exchange, path, condition)
    asks_first = request.headers.get("Expect", "").lower() == "100-continue"
    writer: OpenWriter | None = None
    counted = ExitStack()
    try:
        if asks_first:
            counted.enter_context(exchange.crowd.writer(exchange.client.name))
            writer = await exchange.work(begin)
            exchange.go_on()
        last: bytearray | None = None
        async for part in exchange.parts():
            if last is not None:
                if writer is None:
                    counted.enter_context(exchange.crowd.writer(exchange.client.name))
                    writer = await exchange.work(begin)
                await exchange.work(partial(_take, writer, last))
            last = part
        version = await exchange.work(partial(_finish, begin, writer, last))
    except BaseException:
        if writer is not None:
            await exchange.on_thread(writer.abort)
        raise
    finally:
        counted.close()
    told = encode(Made(told_version(version)))
    etag = {"ETag": f'"{routes.etag_of(version)}"'}
    if routes.MESSAGE_TYPE in request.headers.get("Accept", ""):
        return exchange.message(told, 200, **etag)
    return web.Response(status=204, headers=exchange.headers | etag)


def _begin(exchange: Exchange, path: NamespacePath, condition: _Condition) -> OpenWriter:
    service, tag = exchange.service, condition.tag
    if condition.etags:
        found = now(service, path)
        tag = _matching(path, None if found is None else found.version, condition.etags).tag
    if not condition.append:
        return service.create(path, exclusive=condition.exclusive, if_version=tag)
    if condition.exclusive and now(service, path) is not None:
        raise AlreadyExists(f"{path} exists already", path=path.text)
    writer = service.append(path)
    try:
        if condition.etags:
            # The append pinned what was there in between: the same, where it is so now.
            found = now(service, path)
            _matching(path, None if found is None else found.version, condition.etags)
    except BaseException:
        writer.abort()
        raise
    return writer


def _matching(
    path: NamespacePath, version: ObjectVersion | None, etags: frozenset[str]
) -> ObjectVersion:
    if version is None or not ("*" in etags or routes.etag_of(version) in etags):
        raise WriteConflict(
            f"{path} is no longer the version that was to be replaced",
            path=path.text,
            hint="read it again",
        )
    return version


def _take(writer: OpenWriter, part: bytearray) -> None:
    with memoryview(part) as view:
        writer.write(view)


def _finish(
    begin: partial[OpenWriter], writer: OpenWriter | None, last: bytearray | None
) -> ObjectVersion:
    """The last part, and the commit; of a small body all at once."""
    writing = begin() if writer is None else writer
    try:
        if last is not None:
            _take(writing, last)
        return writing.commit()
    except BaseException:
        writing.abort()
        raise
