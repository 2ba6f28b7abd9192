"""Opens without a call: they stand as long as nothing came between, and never for what is
restricted."""

from __future__ import annotations

import os
import signal
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest

from headrace_cache.remote import leases
from headrace_cache.remote.node_object import NodeObject
from headrace_mounts.settings import declare_mount
from headrace_namespace.errors import PolicyDenied, VersionGone
from headrace_namespace.freshness import CHECK
from headrace_namespace.standing import Standing
from tests.cache.node.conftest import World, on_s3, opened, path, whole
from tests.conftest import Bucket

FOR_EVER = 1e9


@pytest.fixture
def still_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links on the way are trusted for longer than the test takes."""
    monkeypatch.setattr("headrace_namespace.observing.LINKS_SECONDS", FOR_EVER)
    monkeypatch.setattr("headrace_namespace.namespace.LINKS_SECONDS", FOR_EVER)


@pytest.mark.usefixtures("still_links")
@pytest.mark.parametrize("freshness", ["check", "pinned", "1h"])
def test_opening_again_asks_nobody(world: World, freshness: str) -> None:
    world.write_config(freshness=freshness)
    data = world.put("a", 1000)
    node, client = world.node(), world.client()
    assert opened(client, "a") == data
    assert opened(client, "a") == data  # the first brought it into memory
    asked = node.server.answered
    for _ in range(100):
        assert opened(client, "a") == data
    assert node.server.answered == asked


@pytest.mark.usefixtures("still_links")
def test_a_file_that_changed_is_seen_at_once(world: World) -> None:
    world.put("a", 1000)
    world.node()
    client = world.client()
    for size in range(2000, 2020):
        data = world.put("a", size)
        assert opened(client, "a") == data
        before = client.open(path("a"))
        os.replace(_other(world, size), world.data / "a")
        assert len(opened(client, "a")) == size + 1
        assert whole(before) == data
    (world.data / "a").unlink()
    with pytest.raises(FileNotFoundError):
        client.open(path("a"))


def _other(world: World, size: int) -> Path:
    other = world.root / "other"
    other.write_bytes(os.urandom(size + 1))
    return other


def test_links_on_the_way_are_looked_at_every_second(world: World) -> None:
    for name in ("one", "two"):
        world.put(f"{name}/a", 100)
    (world.data / "link").symlink_to("one")
    world.node()
    client = world.client()
    one = opened(client, "one/a")
    assert opened(client, "link/a") == one
    (world.data / "new").symlink_to("two")
    os.replace(world.data / "new", world.data / "link")
    while opened(client, "link/a") == one:
        pass  # a second at most
    assert opened(client, "link/a") == opened(client, "two/a")


@pytest.mark.usefixtures("still_links")
@pytest.mark.parametrize(
    "rule", ['apply.persistence = "memory-only"\napply.guarantee = "unattested"', "apply.users = "]
)
def test_what_is_restricted_is_asked_for_each_time(world: World, rule: str) -> None:
    rule += f'["{os.geteuid()}"]' if rule.endswith("= ") else ""
    world.policy.write_text(
        f'version = 1\n[[rule]]\nname = "hr"\nmatch.path = ["/data/hr/**"]\n{rule}\n'
    )
    data = world.put("hr/a", 1000)
    node, client = world.node(), world.client()
    for _ in range(5):
        asked = node.server.answered
        assert opened(client, "hr/a") == data
        assert node.server.answered > asked


@pytest.mark.usefixtures("still_links")
def test_a_stricter_policy_ends_it(world: World) -> None:
    world.write_config(freshness="pinned")
    data = world.put("a", 1000)
    world.node()
    client = world.client()
    assert opened(client, "a") == opened(client, "a") == data
    world.policy.write_text(
        'version = 1\n[[rule]]\nname = "no"\nmatch.path = ["/data/a"]\napply.persistence = "deny"\n'
    )
    with pytest.raises(PolicyDenied):
        while True:  # until the node has looked, within a second
            opened(client, "a")
    with pytest.raises(PolicyDenied):
        client.open(path("a"))


@pytest.mark.usefixtures("still_links")
def test_a_mount_over_it_ends_it(world: World) -> None:
    world.write_config(freshness="pinned")
    data = world.put("sub/a", 1000)
    other = world.root / "elsewhere"
    other.mkdir()
    (other / "a").write_bytes(b"another")
    world.node()
    client = world.client()
    assert opened(client, "sub/a") == opened(client, "sub/a") == data
    client.add_mount(declare_mount({"path": "/data/sub", "url": str(other)}), over=True)
    while opened(client, "sub/a") == data:
        pass  # until the node has looked, within a second
    assert opened(client, "sub/a") == b"another"


@pytest.mark.usefixtures("still_links")
@pytest.mark.parametrize("freshness", ["pinned", "1h"])
def test_who_writes_reads_what_he_wrote_and_so_do_others(world: World, freshness: str) -> None:
    world.write_config(freshness=freshness)
    world.put("a", 1000)
    world.node()
    client, other = world.client(), world.client()
    for number in range(5):
        opened(client, "a")
        opened(other, "a")
        data = bytes([number]) * 500
        writer = client.create(path("a"))
        with memoryview(data) as view:
            writer.write(view)
        writer.commit()
        assert opened(client, "a") == data
        assert opened(other, "a") == data


@pytest.mark.usefixtures("still_links")
def test_handles_are_let_go_of_and_what_was_read_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MOST_LEASES", 10)
    for number in range(50):
        world.put(f"{number}", 100)
    node, client = world.node(), world.client()
    for number in range(50):
        opened(client, f"{number}")
    before = client.status()
    for _ in range(7):
        opened(client, "49")
    after = client.status()
    assert after.bytes_served - before.bytes_served == 700
    assert after.hits - before.hits == 7
    (session,) = node.server._sessions.values()  # pyright: ignore[reportPrivateUsage]
    client._connection.tell_closed()  # type: ignore[union-attr]  # pyright: ignore
    assert len(session._handles) == 10  # pyright: ignore[reportPrivateUsage]


def test_a_data_set_is_a_handful_of_calls(world: World) -> None:
    content = {f"{number:04}": world.put(f"set/{number:04}", 300) for number in range(1000)}
    node, client = world.node(), world.client()
    for name, data in content.items():  # the node has it in memory
        assert opened(world.client() if name == "0000" else client, f"set/{name}") == data
    other = world.client()
    assert len(list(other.list(path("set")))) == 1000
    asked = node.server.answered
    for name, data in content.items():
        assert opened(other, f"set/{name}") == data
    # Some two of a second's opens may have to be asked again: links are looked at every second.
    assert node.server.answered - asked < 50


def test_a_listing_stands_in_once_for_each_of_its_objects(
    world: World, bucket: Bucket, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `check`, over S3: one LIST and one HEAD for all, and the next open of each asks."""
    monkeypatch.setattr("headrace_namespace.observing.VALID_SECONDS", FOR_EVER)
    on_s3(world, bucket, monkeypatch)
    names = [f"{number:03}" for number in range(120)]
    for name in names:
        s3_client.put_object(Bucket=bucket.name, Key=f"set/{name}", Body=name.encode())
    node, client = world.node(), world.client()
    for _ in client.list(path("set")):
        pass
    asked = node.server.answered
    for name in names:
        assert opened(client, f"set/{name}") == name.encode()
    requests = client.status().requests["/data"]
    assert (requests["list"], requests["stat"]) == (1, 1)
    assert node.server.answered - asked < len(names) + 20  # to bring each, and a few opens
    for name in names[1:6]:  # the first proved the listing, and was not validated by it
        s3_client.put_object(Bucket=bucket.name, Key=f"set/{name}", Body=b"new")
        assert opened(client, f"set/{name}") == b"new"
    assert client.status().requests["/data"]["stat"] == 6


def test_what_stands_once_is_taken_by_one(world: World) -> None:
    world.put("a", 10)
    world.node()
    client = world.client()
    one = client.open(path("a"))
    assert isinstance(one, NodeObject)
    hold = one._hold  # pyright: ignore[reportPrivateUsage]
    assert hold is not None
    connection = client._connection  # pyright: ignore[reportPrivateUsage]
    assert connection is not None
    table = connection.leases._leases  # pyright: ignore[reportPrivateUsage]
    taken: list[object] = []
    start = threading.Barrier(8)

    def take() -> None:
        start.wait(30)
        found = connection.leases.take("/data/a")
        if found is not None:
            taken.append(found)

    for _ in range(50):
        taken.clear()
        numbers = connection.bulletin.numbers
        lease = leases.Lease(hold, Standing(FOR_EVER, once=True), numbers[2], FOR_EVER * 10)
        table["/data/a"] = lease
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1


def test_who_asked_for_now_is_not_given_what_was_before(
    world: World, bucket: Bucket, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_s3(world, bucket, monkeypatch, freshness="1h")
    world.node()
    client = world.client()
    small, large = b"one", b"one!" * 500_000
    for name, data in (("a", small), ("b", large)):
        s3_client.put_object(Bucket=bucket.name, Key=name, Body=data)
        client.open(path(name)).close()
        client.open(path(name)).close()
        s3_client.put_object(Bucket=bucket.name, Key=name, Body=data.replace(b"one", b"two"))
    for name, data in (("a", small), ("b", large)):
        new = data.replace(b"one", b"two")
        assert whole(client.open(path(name), CHECK)) == new
        assert opened(client, name) == new


def test_what_is_gone_is_asked_for_again(
    world: World, bucket: Bucket, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_s3(world, bucket, monkeypatch, freshness="1h")
    world.node()
    client, data = world.client(), b"one!" * 500_000
    s3_client.put_object(Bucket=bucket.name, Key="b", Body=data)
    first = client.open(path("b"))
    s3_client.put_object(Bucket=bucket.name, Key="b", Body=b"two!" * 500_000)
    with pytest.raises(VersionGone):
        whole(first)
    assert client.open(path("b"), CHECK).read_at(0, 4) == b"two!"
    assert opened(client, "b")[:4] == b"two!"


def test_nothing_stands_of_a_node_whose_heart_stands_still(world: World) -> None:
    world.put("a", 10)
    world.node()
    one = world.client().open(path("a"))
    assert isinstance(one, NodeObject)
    hold, beats = one._hold, array("Q", [0, 0, 0])  # pyright: ignore[reportPrivateUsage]
    now = [0.0]
    assert hold is not None
    hold.edition = 0
    table = leases.Leases(memoryview(beats), clock=lambda: now[0])
    lease = leases.Lease(hold, Standing(FOR_EVER), 0, FOR_EVER)
    for now[0] in (0.0, 4.0):
        table._leases["/data/a"] = lease  # pyright: ignore[reportPrivateUsage]
        assert table.take("/data/a") is hold
    now[0] = 6.0
    assert table.take("/data/a") is None
    table._leases["/data/a"] = lease  # pyright: ignore[reportPrivateUsage]
    beats[1] += 1
    assert table.take("/data/a") is hold


def test_a_fork_while_a_listing_is_looked_at_hangs_nobody(world: World) -> None:
    for name in ("a", "b"):
        world.put(f"s/{name}", 10)
    world.node_process()
    client = world.client()
    assert len(list(client.list(path("s")))) == 2
    held, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with client._ahead._lock:  # pyright: ignore[reportPrivateUsage]
            held.set()
            go_on.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            client.after_fork_in_child()
            client.open(path("s/b"))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    thread.join()
