"""Objects kept open between ranges: bounded, and never closed under a reader."""

from __future__ import annotations

import socket

import pytest

from headrace_cache.node.http.bounds import OPEN_SECONDS
from headrace_cache.node.http.opened import OpenObjects
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
    add("a")
    assert len(objects) == 1
    objects.close()
    assert len(objects) == 0


def test_a_port_that_is_taken_is_said_and_leaves_nothing(world: HttpWorld) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        world.serve(PLAIN, port=other.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot listen at 127.0.0.1"):
            open_node(world.file)
    assert not load_settings(world.file).node.socket.exists()
    world.node()
    assert world.remote().stat(path("")).is_folder
