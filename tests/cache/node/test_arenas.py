"""No memory is lent with a byte of what its borrower may not read, however it came to lie there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from headrace_cache.local_service import LocalService
from headrace_cache.node.daemon import Node
from headrace_cache.remote.node_service import NodeService
from headrace_namespace.errors import PolicyDenied
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from tests.cache.node.conftest import World, path, whole

SECRET, PUBLIC = b"SECRET" * 50, b"public" * 50
RULE = """
version = 1
[[rule]]
name = "hr"
match.path = ["/data/hr/**"]
apply.groups = ["no such group"]
"""


def filled(world: World) -> tuple[Node, LocalService]:
    for folder in ("hr", "pub"):  # the rule could hold for nothing in the second
        (world.data / folder).mkdir()
    (world.data / "hr/x").write_bytes(SECRET)
    for name in ("pub/y", "pub/z"):
        (world.data / name).write_bytes(PUBLIC)
    node = world.node()
    return node, node._service  # pyright: ignore[reportPrivateUsage]


def forbid(world: World, service: LocalService) -> None:
    """The rule is in force when this returns."""
    world.policy.write_text(RULE)
    watch = service.reader().gate._watch  # pyright: ignore[reportPrivateUsage]
    watch.look()
    with pytest.raises(PolicyDenied):
        service.open(path("hr/x"))


def read(service: LocalService, name: str) -> bytes:
    opened = service.open(path(name))
    try:
        return opened.read_at(0, 300)
    finally:
        opened.close()


def lent_to(client: NodeService) -> bytes:
    connection = client._connection  # pyright: ignore[reportPrivateUsage]
    assert connection is not None
    lent = connection._lent._extents.values()  # pyright: ignore[reportPrivateUsage]
    return b"".join(each.mapping[:] for each in lent)


def by_a_view(service: LocalService) -> Callable[[], None]:
    """Somebody holds a view of the arena, as an answer by HTTP does."""
    opened = service.open(path("pub/y"))
    assert opened.read_at(0, 300) == PUBLIC
    view = opened.at_hand(0, 300)
    assert isinstance(view, memoryview)
    assert read(service, "hr/x") == SECRET
    return view.release


def by_a_drop(service: LocalService) -> Callable[[], None]:
    """It was dropped, and its bytes are where they were."""
    assert (read(service, "pub/y"), read(service, "hr/x")) == (PUBLIC, SECRET)
    assert service.drop(path("hr/x")) == 300
    return lambda: None


@pytest.mark.parametrize("way", [by_a_view, by_a_drop])
def test_what_lay_in_an_arena_is_lent_to_nobody_more(
    world: World, way: Callable[[LocalService], Callable[[], None]]
) -> None:
    _, service = filled(world)
    let_go = way(service)
    forbid(world, service)
    client = world.client()
    for name in ("pub/y", "pub/z"):
        assert whole(client.open(path(name))) == PUBLIC
    assert b"public" in lent_to(client) and b"SECRET" not in lent_to(client)
    let_go()


def test_what_was_on_its_way_into_an_arena_is_lent_to_nobody_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, service = filled(world)
    assert read(service, "pub/y") == PUBLIC
    namespace = service._now().namespace  # pyright: ignore[reportPrivateUsage]
    real, at, go = namespace.read_into, threading.Event(), threading.Event()

    def slow(mount: Mount, version: ObjectVersion, start: int, target: memoryview) -> None:
        if version.ref.key.endswith("x"):
            at.set()
            assert go.wait(60)
        real(mount, version, start, target)

    monkeypatch.setattr(namespace, "read_into", slow)
    said: list[str] = []

    def reading() -> None:
        try:
            read(service, "hr/x")
        except PolicyDenied as error:
            said.append(str(error))

    reader = threading.Thread(target=reading)
    reader.start()
    assert at.wait(60)
    forbid(world, service)
    go.set()
    reader.join()
    client = world.client()
    for name in ("pub/y", "pub/z"):
        assert whole(client.open(path(name))) == PUBLIC
    assert b"public" in lent_to(client) and b"SECRET" not in lent_to(client)
    assert said and f"user {os.geteuid()}" in said[0] or "root" in said[0]
