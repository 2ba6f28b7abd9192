"""Small ranges that memory has are answered in one piece: by the same rules as any other answer."""

from __future__ import annotations

import http.client
import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from typing import BinaryIO

import pytest
from aiohttp import web

from headrace_cache.node.http import bounds, whole
from headrace_cache.node.http.whole import WholeAnswer
from tests.cache.node.http.conftest import Answer, HttpWorld
from tests.cache.node.http.test_service import DENY

TARGET = "/v1/tree/data/a"


@pytest.fixture
def whole_answers(monkeypatch: pytest.MonkeyPatch) -> list[HTTPStatus]:
    """The statuses of the answers that went out in one piece."""
    seen: list[HTTPStatus] = []
    made = WholeAnswer.__init__

    def noted(
        self: WholeAnswer, status: HTTPStatus, lines: bytes, body: bytes | memoryview
    ) -> None:
        made(self, status, lines, body)
        seen.append(status)

    monkeypatch.setattr(WholeAnswer, "__init__", noted)
    return seen


class Kept:
    """One connection of an HTTP client that asks again and again."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("localhost", port, timeout=30)

    def ask(self, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        self._connection.request(method, TARGET, headers=dict(headers or {}))
        with closing(self._connection.getresponse()) as response:
            return Answer(response.status, dict(response.headers), response.read())

    def port(self) -> int:
        """Another one would tell that this is another connection."""
        name: tuple[str, int] = self._connection.sock.getsockname()[:2]
        return name[1]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def kept(world: HttpWorld) -> Iterator[Kept]:
    """A connection to a node that has /data/a, of 300,000 bytes."""
    world.put("a", 300_000)
    world.node()
    with closing(Kept(world.port)) as connection:
        yield connection


def test_all_kinds_of_answers_on_one_connection(
    world: HttpWorld, kept: Kept, whole_answers: list[HTTPStatus]
) -> None:
    data = (world.data / "a").read_bytes()
    first = kept.ask({"Range": "bytes=0-9"})
    assert (first.status, first.body) == (206, data[:10])
    connection = kept.port()
    pinned = {"If-Match": first.headers["ETag"]}
    ranged = kept.ask(pinned | {"Range": "bytes=70000-74095"})
    assert (ranged.status, ranged.body) == (206, data[70_000:74_096])
    assert ranged.headers["Content-Range"] == "bytes 70000-74095/300000"
    assert whole_answers == [206, 206]
    head = kept.ask(pinned | {"Range": "bytes=70000-74095"}, method="HEAD")
    assert (head.status, head.body) == (206, b"")
    assert dated(head.headers) == dated(ranged.headers)
    assert kept.ask({"If-None-Match": first.headers["ETag"]}).status == 304
    assert kept.ask(pinned | {"Range": "bytes=300000-"}).status == 416
    assert kept.ask({"If-Match": '"other"'}).status == 412
    assert kept.ask(pinned | {"Range": "bytes=299999-400000"}).body == data[-1:]
    assert kept.ask(pinned).body == data
    assert kept.ask(pinned | {"Range": "bytes=5-5"}).body == data[5:6]
    assert whole_answers == [206] * 4
    assert kept.port() == connection


def dated(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of an answer, whenever it was made."""
    return {name: value for name, value in headers.items() if name != "Date"}


def test_it_tells_what_aiohttp_s_own_answer_would(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"Range": "bytes=3-8"}
    told = kept.ask(asked)

    def never(request: web.BaseRequest) -> bool:
        return False

    monkeypatch.setattr(WholeAnswer, "fits", never)
    theirs = kept.ask(asked)
    assert (told.status, told.body) == (theirs.status, theirs.body)
    assert dated(told.headers) == dated(theirs.headers)
    assert "Date" in told.headers and "Date" in theirs.headers


def test_pipelined_requests_are_answered_in_their_order(world: HttpWorld, kept: Kept) -> None:
    data = (world.data / "a").read_bytes()
    starts = [(number * 977) % 290_000 for number in range(300)]
    connected = world.raw()
    for start in starts:
        connected.sendall(
            b"GET /v1/tree/data/a HTTP/1.1\r\nHost: localhost\r\nRange: bytes=%d-%d\r\n\r\n"
            % (start, start + 99)
        )
    with connected.makefile("rb") as said:
        for start in starts:
            assert answered(said) == 100
            assert said.read(100) == data[start : start + 100]


def answered(said: BinaryIO) -> int:
    """The length that the head of a 206 tells of."""
    assert said.readline() == b"HTTP/1.1 206 Partial Content\r\n"
    length = -1
    while (line := said.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return length


def test_a_slow_client_gets_every_byte(world: HttpWorld, kept: Kept) -> None:
    """More than lies between two ends: the node waits for him, in the middle of an answer."""
    data = (world.data / "a").read_bytes()[:60_000]
    connected = socket.socket()
    world.ends.enter_context(connected)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connected.settimeout(30)
    connected.connect(("127.0.0.1", world.port))
    request = b"GET /v1/tree/data/a HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-59999\r\n\r\n"
    connected.sendall(request * 200)
    assert kept.ask({"Range": "bytes=0-9"}).body == data[:10]  # others are served meanwhile
    with connected.makefile("rb") as said:
        for _ in range(200):
            assert answered(said) == 60_000
            assert said.read(60_000) == data


def test_a_client_that_never_reads_keeps_no_connection(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little is on its way to him for an answer to wait; and he is idle then."""
    monkeypatch.setattr(bounds, "IDLE_SECONDS", 1.0)
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.2)
    world.put("a", 300_000)
    door = world.node().door
    assert door is not None
    connections = door._connections  # pyright: ignore[reportPrivateUsage]
    connected = world.raw()
    request = b"GET /v1/tree/data/a HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-59999\r\n\r\n"
    unsent = answers = 0
    while not unsent:
        connected.sendall(request)
        answers += 1
        while door.answered < answers:
            threading.Event().wait(0.001)
        (handler,) = connections.connections
        assert handler.transport is not None
        unsent = handler.transport.get_write_buffer_size()
    assert connections._count == 1  # pyright: ignore[reportPrivateUsage]
    while connections._count:  # pyright: ignore[reportPrivateUsage]
        threading.Event().wait(0.01)


def test_a_client_that_is_gone_leaves_nothing(world: HttpWorld, kept: Kept) -> None:
    assert world.running is not None
    door = world.running.door
    assert door is not None
    for _ in range(20):
        connected = socket.create_connection(("127.0.0.1", world.port), timeout=30)
        connected.sendall(
            b"GET /v1/tree/data/a HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-49999\r\n\r\n" * 50
        )
        # It ends by a reset, whatever was on its way.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connected.close()
    assert kept.ask({"Range": "bytes=0-9"}).status == 206
    door.close()
    assert door._crowd.size == 0  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("version", "connection", "told"),
    [(b"1.1", b"close", b"Connection: close"), (b"1.0", b"keep-alive", b"Connection: keep-alive")],
)
def test_who_asks_for_the_end_of_a_connection_is_told_of_it(
    world: HttpWorld,
    kept: Kept,
    whole_answers: list[HTTPStatus],
    version: bytes,
    connection: bytes,
    told: bytes,
) -> None:
    connected = world.raw()
    connected.sendall(
        b"GET /v1/tree/data/a HTTP/%s\r\nHost: localhost\r\nConnection: %s\r\n"
        b"Range: bytes=0-9\r\n\r\n" % (version, connection)
    )
    with connected.makefile("rb") as said:
        assert said.readline() == b"HTTP/%s 206 Partial Content\r\n" % version
        lines = list(iter(said.readline, b"\r\n"))
        assert told + b"\r\n" in lines
        assert len(said.read(10)) == 10
        if connection == b"close":
            assert said.read() == b""
    assert whole_answers == []


def test_each_range_is_judged_by_the_policy_of_its_time(world: HttpWorld, kept: Kept) -> None:
    first = kept.ask({"Range": "bytes=0-9"})
    pinned = {"If-Match": first.headers["ETag"], "Range": "bytes=10-19"}
    assert first.headers["Headrace-Restricted"] == "false"
    assert first.headers["Cache-Control"] == "private, no-cache"
    change_policy(world, DENY.format(1, "a", "memory-only"))
    kept_in_memory = kept.ask(pinned)
    assert kept_in_memory.status == 206
    assert kept_in_memory.headers["Headrace-Restricted"] == "true"
    assert kept_in_memory.headers["Cache-Control"] == "no-store"
    change_policy(world, DENY.format(2, "a", "deny"))
    denied = kept.ask(pinned)
    assert denied.status == 403
    change_policy(world, "version = 1\nepoch = 3\n")
    allowed = kept.ask(pinned)
    assert allowed.headers["Headrace-Restricted"] == "false"
    assert allowed.body == (world.data / "a").read_bytes()[10:20]


def change_policy(world: HttpWorld, text: str) -> None:
    world.policy.write_text(text)
    assert world.running is not None
    watch = world.running._service.reader().gate._watch  # pyright: ignore[reportPrivateUsage]
    watch.look()


def test_a_replaced_object_is_never_mixed_into_the_old_one(world: HttpWorld, kept: Kept) -> None:
    old = (world.data / "a").read_bytes()
    first = kept.ask({"Range": "bytes=0-9"})
    new = os.urandom(300_000)
    (world.data / "other").write_bytes(new)
    os.replace(world.data / "other", world.data / "a")
    asked = {"Range": "bytes=100-199"}
    # Memory has the version that is named.
    assert kept.ask(asked | {"If-Match": first.headers["ETag"]}).body == old[100:200]
    now = kept.ask(asked)
    assert (now.status, now.body) == (206, new[100:200])
    assert now.headers["ETag"] != first.headers["ETag"]
    pinned = kept.ask(asked | {"If-Match": now.headers["ETag"]})
    assert (pinned.headers["ETag"], pinned.body) == (now.headers["ETag"], new[100:200])
    either = kept.ask(asked | {"If-Range": first.headers["ETag"]})
    assert (either.status, either.body) == (200, new)


def test_an_answer_holds_no_memory_of_the_tier() -> None:
    """A mapping that anything looks into cannot be closed."""
    mapping = mmap.mmap(-1, 4096)
    mapping[:5] = b"first"
    with memoryview(mapping) as all_of_it:
        view = all_of_it[:5].toreadonly()
    answer = WholeAnswer(HTTPStatus.OK, whole.header_lines({"Content-Length": "5"}), view)
    view.release()
    mapping.close()
    assert answer.keep_alive
