from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from headrace_namespace.endpoint import Endpoint
from headrace_namespace.http_answer import HttpAnswer
from headrace_namespace.http_pool import HttpPool, PoolHints


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening


@pytest.fixture
def pool(listener: socket.socket) -> Iterator[HttpPool]:
    pool = HttpPool(
        Endpoint("http", "127.0.0.1", listener.getsockname()[1]),
        connect_seconds=30,
        read_seconds=30,
        tls=None,
        most_connections=1,
        hints=PoolHints("", "", "", "", "", ""),
    )
    with closing(pool):
        yield pool


def wait_for_the_end(connected: socket.socket) -> None:
    """The other end lets go of it, though nobody has thrown away what has failed."""
    connected.settimeout(30)
    while connected.recv(1 << 16):
        pass


@pytest.mark.parametrize("header", ["x\r\nY: z", "\u2603"])
def test_what_http_cannot_say_leaves_no_connection_open(
    listener: socket.socket, pool: HttpPool, header: str
) -> None:
    with pytest.raises(ValueError) as kept, pool.exchange("GET", "/x", {"X": header}):
        pass
    with listener.accept()[0] as connected:
        wait_for_the_end(connected)
    assert kept.tb is not None


def test_an_interrupt_while_the_answer_is_awaited_leaves_no_connection_open(
    listener: socket.socket, pool: HttpPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(answer: HttpAnswer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HttpAnswer, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept, pool.exchange("GET", "/x", {}):
        pass
    with listener.accept()[0] as connected:
        wait_for_the_end(connected)
    assert kept.tb is not None
