"""What one client, or one store, can take of the door: its share, and no more."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing

import pytest

from headrace_cache.access import HttpAccess, KnownClient, token_digest
from headrace_cache.local_service import LocalService
from headrace_cache.node.http.bounds import (
    MOST_THREADS_OF_A_CLIENT,
    MOST_WRITERS_OF_A_CLIENT,
)
from headrace_cache.node.http.door import HttpDoor
from headrace_cache.policy.audience import Principal
from headrace_cache.reading.open_object import OpenObject
from headrace_mounts.connect import connect
from headrace_namespace.freshness import Freshness
from headrace_namespace.path import NamespacePath
from tests.cache.node.http.conftest import HttpWorld

#: A node whose store never answers, and that does not wait long for it at its end.
_STUCK = """
import time
from headrace_cache.local_service import LocalService
from headrace_cache.node.http import bounds
def stuck(*given):
    print("stuck", flush=True)
    time.sleep(600)
LocalService.open = stuck
bounds.DRAIN_SECONDS = 0.2
"""


def shown(name: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {name * 16}"}


def serve(world: HttpWorld) -> None:
    """A door of three clients and two mounts, /data and /other."""
    (world.data.parent / "other").mkdir()
    (world.data.parent / "other/y").write_bytes(b"y")
    with world.file.open("a") as file:
        file.write(f'[[mount]]\npath = "/other"\nurl = "{world.data.parent / "other"}"\n')
    clients = tuple(
        KnownClient(name, token_digest(name * 16), None, Principal(frozenset({name}), frozenset()))
        for name in "abc"
    )
    service = connect(world.file)
    assert isinstance(service, LocalService)
    world.ends.callback(service.close)
    door = HttpDoor(
        service=service,
        access=HttpAccess("127.0.0.1", 0, None, None, None, clients),
        release="1",
        metrics=lambda: "said 1\n",
    )
    world.port = world.ends.enter_context(closing(door)).port


def test_a_stuck_store_leaves_threads_to_the_others(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("x", 1)
    serve(world)
    begun, go_on = threading.Semaphore(0), threading.Event()
    world.ends.callback(go_on.set)
    opens = LocalService.open

    def stuck(
        self: LocalService, path: NamespacePath, freshness: Freshness | None = None
    ) -> OpenObject:
        if path.text == "/data/x":
            begun.release()
            assert go_on.wait(60)
        return opens(self, path, freshness)

    monkeypatch.setattr(LocalService, "open", stuck)
    answers: list[int] = []

    def ask(name: str) -> None:
        answers.append(world.ask("GET", "/v1/tree/data/x", shown(name)).status)

    askers = [
        threading.Thread(target=ask, args=(name,)) for name in "ab" * MOST_THREADS_OF_A_CLIENT
    ]
    for asker in askers:
        asker.start()
    for _ in range(16):
        assert begun.acquire(timeout=30)
    assert world.ask("GET", "/v1/tree/other/y", shown("c")).body == b"y"
    assert world.ask("GET", "/metrics", shown("a")).body == b"said 1\n"
    assert not begun.acquire(blocking=False)  # half of the threads
    go_on.set()
    for asker in askers:
        asker.join(30)
    assert answers == [200] * len(askers)


def test_one_client_s_writers_leave_room_to_the_others(world: HttpWorld) -> None:
    serve(world)
    begun: list[bytes] = []
    for number in range(MOST_WRITERS_OF_A_CLIENT + 1):
        connected = world.raw()
        connected.sendall(
            b"PUT /v1/tree/data/f%d HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
            b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n" % (number, b"a" * 16)
        )
        begun.append(connected.recv(65536).split(b"\r\n")[0])
    assert begun[:-1] == [b"HTTP/1.1 100 Continue"] * MOST_WRITERS_OF_A_CLIENT
    assert begun[-1].startswith(b"HTTP/1.1 503 ")
    assert world.ask("PUT", "/v1/tree/data/own", shown("b"), b"x").status == 204


def test_writers_that_get_nothing_end(world: HttpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_cache.node.http.exchange.STALLED_SECONDS", 0.2)
    serve(world)
    head = (
        b"PUT /v1/tree/data/f HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
        b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n" % (b"a" * 16)
    )
    for _ in range(MOST_WRITERS_OF_A_CLIENT + 2):
        connected = world.raw()
        connected.sendall(head)
        assert connected.recv(25).startswith(b"HTTP/1.1 100")
        assert connected.recv(65536) == b""  # it was hung up on


def test_a_stuck_store_does_not_hold_the_end_of_the_process(world: HttpWorld) -> None:
    world.put("x", 1)
    process = world.node_process(_STUCK)
    connected = world.raw()
    connected.sendall(b"GET /v1/tree/data/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.terminate()
    assert process.wait(30) == 0  # its store would take ten minutes
