"""An answer that is cut short is a broken connection: asked again where that does nothing twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from headrace_cache.remote import http_client
from headrace_cache.wire import messages as m
from headrace_cache.wire import routes
from headrace_cache.wire.changes import encode
from headrace_namespace.errors import StoreUnavailable
from tests.cache.node.conftest import path
from tests.cache.node.http.conftest import HttpWorld

_HEAD = (
    b"HTTP/1.1 200 OK\r\nHeadrace-Protocol: 1\r\nContent-Type: "
    + routes.MESSAGE_TYPE.encode()
    + b"\r\nContent-Length: %d\r\n\r\n"
)
_ANSWER = encode(m.Number(7))


class Cutting:
    """A node that breaks off its first answers, and then gives `_ANSWER`."""

    def __init__(self, cuts: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.asked = 0
        self._cuts = cuts
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            taken, _ = self.listener.accept()
            with taken, taken.makefile("rb") as said:
                line = said.readline()
                if not line:
                    return
                length = 0
                while (header := said.readline().strip().lower()) != b"":
                    if header.startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                said.read(length)
                self.asked += 1
                whole = self.asked > self._cuts
                taken.sendall(_HEAD % len(_ANSWER) + (_ANSWER if whole else _ANSWER[:-1]))

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join(30)
        self.listener.close()


@pytest.fixture
def cutting(world: HttpWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutting]:
    monkeypatch.setattr(http_client, "TRY_AGAIN_SECONDS", (0.0, 0.0))
    with closing(Cutting(2)) as node:
        world.port = node.port
        yield node


def test_what_does_nothing_twice_is_asked_again(world: HttpWorld, cutting: Cutting) -> None:
    assert world.remote().drop(path("a")) == 7
    assert cutting.asked == 3


def test_a_change_is_not_made_again(world: HttpWorld, cutting: Cutting) -> None:
    with pytest.raises(StoreUnavailable, match="too early"):
        world.remote().rename(path("a"), path("b"))
    assert cutting.asked == 1
