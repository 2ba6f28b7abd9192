"""What a client reads through the node is what the file holds, without a call once it is warm."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_cache.service import OpenObject
from headrace_cache.wire.channel import MOST_PACKET_BYTES
from headrace_mounts.settings import declare_mount
from headrace_namespace.errors import IsFolder, NotFound, PolicyDenied
from tests.cache.node.conftest import MIB, World, path, whole


@pytest.mark.parametrize("size", [0, 1, 1000, 3 * MIB + 7, 20 * MIB])
def test_a_client_reads_what_the_file_holds(world: World, size: int) -> None:
    data = world.put("a", size)
    world.node()
    opened = world.client().open(path("a"))
    assert whole(opened) == whole(opened) == data
    into = bytearray(size + 10)
    assert opened.read_into(0, memoryview(into)) == size and into[:size] == data
    assert bytes(opened.view(0, size)) == data
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read_at(0, 1)


def test_the_next_client_finds_it_warm(world: World) -> None:
    data = world.put("a", 5 * MIB)
    node = world.node()
    assert whole(world.client().open(path("a"))) == data
    second = world.client()
    fetched = second.status().bytes_fetched
    opened = second.open(path("a"))
    asked = node.server.answered
    assert whole(opened) == data and opened.read_at(5, 9) == data[5:9]
    assert node.server.answered == asked  # by what the open has lent
    assert second.status().bytes_fetched == fetched == len(data)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 9 * MIB), st.integers(0, 3 * MIB)), max_size=8))
def test_any_range_is_right(
    shared: tuple[OpenObject, bytes], ranges: list[tuple[int, int]]
) -> None:
    opened, data = shared
    for start, length in ranges:
        assert opened.read_at(start, start + length) == data[start : start + length]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> object:
    with ExitStack() as ends:
        world = World(tmp_path_factory.mktemp("node"), ends)
        data = world.put("a", 9 * MIB)
        world.node()
        yield world.client().open(path("a")), data


def test_what_memory_cannot_hold_is_read_all_the_same(world: World) -> None:
    world.write_config(memory="8MiB")
    data = {name: world.put(name, 6 * MIB) for name in "abcd"}
    node = world.node()
    client = world.client()
    opened = {name: client.open(path(name)) for name in data}
    for _ in range(2):
        for name in data:
            assert whole(opened[name]) == data[name]
            used = client.status().tiers["memory"]
            assert used.used <= used.limit == 8 * MIB
    assert node.server.clients == 1


def test_a_folder_of_thousands_is_listed_in_parts(world: World) -> None:
    for number in range(3000):
        (world.data / f"file-with-a-rather-long-name-{number:06}").touch()
    (world.data / "no\udcffutf8").touch()
    world.node()
    listed = [entry.path.name for entry in world.client().list(path(""))]
    assert sorted(listed) == sorted(os.listdir(world.data)) and len(listed) == 3001


def test_a_listing_that_is_left_is_forgotten(world: World) -> None:
    for number in range(2000):
        (world.data / f"file-with-a-rather-long-name-{number:06}").touch()
    world.node()
    listing = world.client().list(path(""))
    next(listing)
    del listing
    assert world.client().stat(path("file-with-a-rather-long-name-000001")).size == 0


def test_errors_are_those_of_a_cache_of_ones_own(world: World) -> None:
    (world.data / "folder").mkdir()
    world.policy.write_text(
        'version = 1\n[[rule]]\nname = "no"\nmatch.path = ["/data/secret/**"]\n'
        'apply.persistence = "deny"\n'
    )
    world.put("secret/a", 10)
    world.node()
    client = world.client()
    with pytest.raises(NotFound, match="does not exist") as missing:
        client.open(path("nothing"))
    assert (missing.value.path, missing.value.filename) == ("/data/nothing", "/data/nothing")
    with pytest.raises(IsFolder):
        client.open(path("folder"))
    with pytest.raises(PolicyDenied, match="the policy denies"):
        client.open(path("secret/a"))
    with pytest.raises(NotFound, match="no mount answers"):
        client.stat(path("../elsewhere"))


def test_who_writes_reads_what_he_wrote(world: World) -> None:
    world.write_config(freshness="1h")
    world.put("a", 10)
    world.node()
    client, other = world.client(), world.client()
    assert whole(client.open(path("a"))) == whole(other.open(path("a")))
    with_new = client.create(path("a"))
    with_new.write(memoryview(b"new"))
    with_new.commit()
    assert whole(client.open(path("a"))) == whole(other.open(path("a"))) == b"new"
    client.rename(path("a"), path("b"))
    assert whole(other.open(path("b"))) == b"new"
    with pytest.raises(NotFound):
        other.open(path("a"))
    client.delete([path("b")])
    with pytest.raises(NotFound):
        other.open(path("b"))


def test_a_stricter_policy_takes_hold_of_what_is_lent(world: World) -> None:
    world.put("a", 3 * MIB)
    node = world.node()
    opened = world.client().open(path("a"))
    assert len(whole(opened)) == 3 * MIB
    world.policy.write_text(
        'version = 1\nepoch = 2\n[[rule]]\nname = "no"\nmatch.path = ["/data/**"]\n'
        'apply.persistence = "deny"\n'
    )
    reader = node._service.reader()  # pyright: ignore[reportPrivateUsage]
    reader.gate._watch.look()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(PolicyDenied):
        opened.read_at(0, 10)


def test_what_may_not_be_cached_is_read_in_long_pieces(world: World) -> None:
    world.policy.write_text(
        'version = 1\n[[rule]]\nname = "stream"\nmatch.path = ["/data/stream/**"]\n'
        'apply.persistence = "no-cache"\napply.guarantee = "unattested"\n'
    )
    data = world.put("stream/a", 9 * MIB + 5)
    node = world.node()
    opened = world.client().open(path("stream/a"))
    asked = node.server.answered
    assert whole(opened) == data
    assert node.server.answered - asked <= 4  # 4 MiB each, in memory beside the packet
    assert opened.read_at(5 * MIB - 3, 5 * MIB + 3) == data[5 * MIB - 3 : 5 * MIB + 3]
    assert world.client().status().tiers["memory"].used == 0


def test_an_answer_longer_than_a_packet_arrives(world: World) -> None:
    store = world.data.joinpath(*["x" * 200] * 12)  # a long URL
    store.mkdir(parents=True)
    world.node()
    client = world.client()
    for number in range(60):
        mount = declare_mount({"path": f"/{number}", "url": str(store)})
        client.add_mount(mount, checked=False)
    mounts = client.mounts()
    assert len(mounts) == 61
    assert sum(len(mount.url) for mount in mounts) > MOST_PACKET_BYTES


def test_pages_that_others_brought_are_read_without_a_call(world: World) -> None:
    world.write_config(memory="512MiB")
    data = world.put("a", 40 * MIB)
    node = world.node()
    one, other = world.client().open(path("a")), world.client().open(path("a"))
    assert other.read_at(5 * MIB, 5 * MIB + 10) == data[5 * MIB : 5 * MIB + 10]
    for place in (3 * MIB, 7 * MIB, MIB):  # in no order, so that nothing is fetched ahead
        assert one.read_at(place + 5, place + 9) == data[place + 5 : place + 9]
    asked = node.server.answered
    for place in (7 * MIB, MIB, 3 * MIB, 5 * MIB + 7, 8 * MIB - 4, MIB):
        assert other.read_at(place, place + 4) == data[place : place + 4]
    assert node.server.answered == asked
    assert other.read_at(2 * MIB, 2 * MIB + 4) == data[2 * MIB : 2 * MIB + 4]
    assert node.server.answered == asked + 1
    assert whole(other) == data


def test_small_reads_in_order_ask_once_for_a_page(world: World) -> None:
    world.write_config(memory="512MiB")
    data = world.put("a", 6 * MIB)
    world.put("b", 30 * MIB)
    node = world.node()
    opened = world.client().open(path("a"))
    asked = node.server.answered
    for start in range(0, 6 * MIB, 4096):
        assert opened.read_at(start, start + 4096) == data[start : start + 4096]
    assert node.server.answered - asked <= 6
