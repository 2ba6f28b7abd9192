"""Objects kept open between ranges: bounded, and never closed under a reader."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from headrace_cache.node.http import bounds
from headrace_cache.node.http.bounds import OPEN_SECONDS
from headrace_cache.node.http.opened import OpenObjects
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.reading.reader import Reader
from headrace_cache.wire.routes import etag_of
from headrace_mounts.connect import open_node
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import ConfigError
from headrace_namespace.path import NamespacePath
from tests.cache.node.conftest import path
from tests.cache.node.http.conftest import PLAIN, HttpWorld
from tests.fakes.clock import ManualClock


def test_who_reads_keeps_it_open(world: HttpWorld) -> None:
    for name in "abc":
        world.put(name, 10)
    service = world.node()._service  # pyright: ignore[reportPrivateUsage]
    clock = ManualClock()
    objects = OpenObjects(clock.monotonic, most=2)

    def add(name: str) -> tuple[NamespacePath, str]:
        opened = service.open(path(name))
        objects.give_back(objects.add("me", path(name), opened))
        return path(name), etag_of(opened.version)

    first = add("a")
    held = objects.take("me", *first)
    assert held is not None
    assert objects.take("somebody else", *first) is None
    add("b")
    add("c")
    assert len(objects) == 2
    assert objects.take("me", *first) is None
    assert len(held.object.read_at(0, 10)) == 10  # it left, and is read on
    objects.give_back(held)
    with pytest.raises(ValueError, match="closed"):
        held.object.read_at(0, 10)
    clock.sleep(OPEN_SECONDS + 1)
    kept = objects.take("me", *add("a"))
    assert kept is not None
    objects.end_old()
    assert len(objects) == 1
    clock.sleep(OPEN_SECONDS + 1)
    objects.end_old()  # it is read still
    assert len(kept.object.read_at(0, 10)) == 10
    objects.give_back(kept)
    clock.sleep(OPEN_SECONDS + 1)
    objects.end_old()
    assert len(objects) == 0
    with pytest.raises(ValueError, match="closed"):
        kept.object.read_at(0, 10)
    objects.close()
    assert len(objects) == 0


def test_what_nobody_reads_is_let_go_of_by_time(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr("headrace_cache.node.http.opened.OPEN_SECONDS", 0.0)
    closed = threading.Event()
    close = OpenObject.close

    def noted(self: OpenObject) -> None:
        close(self)
        closed.set()

    monkeypatch.setattr(OpenObject, "close", noted)
    world.put("a", 10)
    world.node()
    assert world.ask("GET", "/v1/tree/data/a").status == 200
    assert closed.wait(30)


def test_what_memory_may_not_hold_leaves_nothing_with_its_handle(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handle's own bytes are for a reader by lines; 4,096 of these would be a gigabyte."""
    data = world.put("a", 200_000)
    opens = Reader.open

    def uncached(self: Reader, *given: Any) -> Any:
        pinned, held = opens(self, *given)
        held.memory = False
        return pinned, held

    monkeypatch.setattr(Reader, "open", uncached)
    node = world.node()
    assert world.ask("GET", "/v1/tree/data/a").body == data
    assert node.door is not None
    (held,) = node.door._objects._held.values()  # pyright: ignore[reportPrivateUsage]
    assert not held.object.cached
    assert held.object._private == (0, b"")  # pyright: ignore[reportPrivateUsage]


def test_a_port_that_is_taken_is_said_and_leaves_nothing(world: HttpWorld) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        world.serve(PLAIN, port=other.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot listen at 127.0.0.1"):
            open_node(world.file)
    assert not load_settings(world.file).node.socket.exists()
    world.node()
    assert world.remote().stat(path("")).is_folder
