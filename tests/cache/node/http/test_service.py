"""A client of another host sees the same tree as one of the node's own host."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from headrace_cache.remote import http_client
from headrace_cache.wire import routes
from headrace_namespace.errors import (
    AlreadyExists,
    ConfigError,
    FolderNotEmpty,
    IsFolder,
    NotFound,
    PolicyDenied,
    StoreAnswerWrong,
    StoreUnavailable,
    VersionGone,
    WriteConflict,
)
from headrace_namespace.freshness import CHECK
from headrace_namespace.path import NamespacePath
from tests.cache.node.conftest import MIB, path
from tests.cache.node.http.conftest import HttpWorld, kill

DENY = (
    'version = 1\nepoch = {}\n[[rule]]\nname = "no"\nmatch.path = ["/data/{}"]\n'
    'apply.persistence = "{}"\napply.guarantee = "unattested"\n'
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "TRY_AGAIN_SECONDS", (0.0, 0.0))


def test_reads_of_all_sizes(world: HttpWorld) -> None:
    data = world.put("a", 9 * MIB + 17)
    world.node()
    opened = world.remote().open(path("a"))
    assert opened.version.size == len(data)
    chance = random.Random(7)
    for size in (0, 1, 100, 5000, 70_000, 300_000, 2 * MIB, 20 * MIB):
        for _ in range(5):
            start = chance.randrange(len(data) + 10)
            assert opened.read_at(start, start + size) == data[start : start + size]
            target = bytearray(size)
            count = opened.read_into(start, memoryview(target))
            assert target[:count] == data[start : start + size]
    for size in (100, 7001):  # in order
        pieces = [opened.read_at(at, at + size) for at in range(0, 2 * MIB, size)]
        assert b"".join(pieces)[: 2 * MIB] == data[: 2 * MIB]
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read_at(0, 1)


def test_readers_in_order_ask_seldom(world: HttpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("a", 4 * MIB)
    world.node()
    service = world.remote()
    opened = service.open(path("a"))
    asked: list[str] = []
    exchange = http_client.HttpNodeClient.exchange

    def counted(self: object, method: str, *given: object, **more: object) -> object:
        asked.append(method)
        return exchange(self, method, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(http_client.HttpNodeClient, "exchange", counted)
    for at in range(0, 4 * MIB, 4096):
        opened.read_at(at, at + 4096)
    assert len(asked) < 20


def test_writes(world: HttpWorld) -> None:
    world.node()
    service = world.remote()
    data = os.urandom(5 * MIB)
    for size in (0, 10, MIB, MIB + 1, 5 * MIB):
        writer = service.create(path("new"))
        for at in range(0, size, 300_000):
            writer.write(memoryview(data)[at : min(size, at + 300_000)])
        assert writer.written == size
        assert not (world.data / "new").exists() or size
        version = writer.commit()
        assert (world.data / "new").read_bytes() == data[:size]
        assert service.stat(path("new"), CHECK).version == version
    with pytest.raises(AlreadyExists):
        service.create(path("new"), exclusive=True)
    with pytest.raises(WriteConflict):
        service.create(path("new"), if_version="another")
    tag = version.tag
    writer = service.create(path("new"), if_version=tag)
    writer.write(memoryview(b"first"))
    (world.data / "new").write_bytes(b"meanwhile")
    with pytest.raises(WriteConflict):
        writer.commit()
    with pytest.raises(NotFound):
        service.create(NamespacePath("/nowhere/x"))


def test_an_append_goes_on_from_what_was_there(world: HttpWorld) -> None:
    world.put("a", 10)
    world.node()
    service = world.remote()
    before = (world.data / "a").read_bytes()
    writer = service.append(path("a"))
    writer.write(memoryview(b"more"))
    assert writer.written == 14
    writer.commit()
    assert (world.data / "a").read_bytes() == before + b"more"
    writer = service.append(path("a"))
    (world.data / "a").write_bytes(b"another")
    with pytest.raises(WriteConflict):
        writer.commit()
    service.append(path("fresh")).commit()
    assert (world.data / "fresh").read_bytes() == b""


@pytest.mark.parametrize("size", [100, 4 * MIB])
def test_a_write_that_is_given_up_leaves_nothing(world: HttpWorld, size: int) -> None:
    node = world.node()
    service = world.remote()
    writer = service.create(path("new"))
    writer.write(memoryview(bytes(size)))
    writer.abort()
    with pytest.raises(ValueError, match="ended"):
        writer.commit()
    assert node.door is not None
    node.door.close()  # by then all that was under way has ended
    assert os.listdir(world.data) == []


def test_changes(world: HttpWorld) -> None:
    data = world.put("a", 1000)
    world.node()
    service = world.remote()
    service.make_folder(path("folder"))
    with pytest.raises(AlreadyExists):
        service.make_folder(path("folder"))
    copied = service.copy(path("a"), path("folder/b"))
    assert service.open(path("folder/b")).version == copied
    assert (world.data / "folder/b").read_bytes() == data
    with pytest.raises(FolderNotEmpty) as caught:
        service.remove_folder(path("folder"))
    assert caught.value.path == "/data/folder"
    assert service.rename(path("folder"), path("other"))
    assert service.lies_in(path("other/x"), path("other"))
    assert not service.lies_in(path("a"), path("other"))
    wrong = service.delete([path("other/b"), path("none"), path("other")])
    assert list(wrong) == [path("other")]
    assert isinstance(wrong[path("other")], IsFolder)
    service.remove_folder(path("other"))
    assert sorted(os.listdir(world.data)) == ["a"]
    with pytest.raises(ConfigError, match="on the node's host"):
        service.remove_mount(NamespacePath("/data"))


def test_what_the_cache_holds(world: HttpWorld) -> None:
    world.put("a", 3 * MIB)
    world.node()
    service = world.remote()
    opened = service.open(path("a"))
    assert opened.warm(0, 3 * MIB) == 3 * MIB
    assert opened.warm(0, 3 * MIB) == 0
    assert service.pin(path("a")) == 3 * MIB
    assert service.why(path("a")).pinned
    assert service.unpin(path("a")) == 3 * MIB
    assert service.drop(path("a")) > 0
    assert service.explain(path("a")).persistence == "sealed-ssd"
    assert service.status().bytes_fetched >= 3 * MIB
    assert service.totals().bytes_fetched >= 0
    assert [mount.path.text for mount in service.mounts()] == ["/data"]
    service.flush()


def test_a_long_listing_is_streamed(world: HttpWorld) -> None:
    names = [f"file-with-a-rather-long-name-{number:06}" for number in range(3000)]
    for name in names:
        (world.data / name).touch()
    world.node()
    service = world.remote()
    assert sorted(entry.path.name for entry in service.list(path(""))) == names
    begun = service.list(path(""))
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    with pytest.raises(NotFound):
        list(service.list(path("none")))


def test_an_odd_name_goes_and_comes(world: HttpWorld) -> None:
    name = "ümlaut %2f?#&+ \u2028\udcff\n'\""
    world.put(name, 100)
    world.node()
    service = world.remote()
    assert [entry.path.name for entry in service.list(path(""))] == [name]
    assert len(service.open(path(name)).read_at(0, 100)) == 100


def test_a_replaced_object_is_never_mixed(world: HttpWorld) -> None:
    world.put("a", 20 * MIB)
    world.node()
    opened = world.remote().open(path("a"))
    first = opened.read_at(0, 100)
    world.put("a", 20 * MIB)
    assert opened.read_at(0, 100) == first
    with pytest.raises(VersionGone):
        opened.read_at(10 * MIB, 20 * MIB)


def test_the_policy_is_asked_and_asked_again(world: HttpWorld) -> None:
    data = world.put("a", MIB)
    world.put("secret/b", 10)
    world.policy.write_text(DENY.format(1, "secret/**", "deny"))
    node = world.node()
    service = world.remote()
    with pytest.raises(PolicyDenied):
        service.open(path("secret/b"))
    assert world.ask("GET", "/v1/tree/data/secret/b").status == 403
    assert world.ask("PUT", "/v1/tree/data/secret/c", {}, b"x").status == 403
    with pytest.raises(PolicyDenied):
        service.create(path("secret/c"))
    opened = service.open(path("a"))
    assert not opened.restricted
    assert opened.read_at(0, MIB) == data
    watch = node._service.reader().gate._watch  # pyright: ignore[reportPrivateUsage]
    world.policy.write_text(DENY.format(2, "a", "memory-only"))
    watch.look()
    assert opened.read_at(0, MIB) == data
    assert opened.restricted
    world.policy.write_text(DENY.format(3, "a", "deny"))
    watch.look()
    with pytest.raises(PolicyDenied):
        opened.read_at(0, MIB)


def test_a_handle_goes_on_when_the_node_is_started_anew(world: HttpWorld) -> None:
    data = {name: world.put(name, 6 * MIB) for name in "ab"}
    first = world.node_process()
    world.serve("tls = false\nauthentication = false\n", port=world.port)
    service = world.remote()
    opened = {name: service.open(path(name)) for name in "ab"}
    assert opened["a"].read_at(0, MIB) == data["a"][:MIB]
    kill(first)
    with pytest.raises(StoreUnavailable, match="nothing listens") as caught:
        opened["a"].read_at(2 * MIB, 3 * MIB)
    assert "check the node's address" in str(caught.value)
    world.put("b", 6 * MIB)
    world.node_process()
    assert opened["a"].read_at(0, 6 * MIB) == data["a"]
    with pytest.raises(VersionGone):
        opened["b"].read_at(0, 6 * MIB)


def test_many_threads_of_one_client(world: HttpWorld) -> None:
    data = world.put("a", 4 * MIB)
    world.node()
    service = world.remote()
    opened = service.open(path("a"))
    wrong: list[int] = []

    def read(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(20):
            start = chance.randrange(4 * MIB)
            size = chance.choice([10, 5000, MIB])
            if opened.read_at(start, start + size) != data[start : start + size]:
                wrong.append(start)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(12)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert not wrong


def test_a_forked_child_asks_for_itself(world: HttpWorld) -> None:
    data = world.put("a", 3 * MIB)
    world.node_process()
    service = world.remote()
    opened = service.open(path("a"))
    assert opened.read_at(0, MIB) == data[:MIB]
    writer = service.create(path("new"))
    writer.write(memoryview(bytes(2 * MIB)))
    child = os.fork()
    if child == 0:
        right = False
        try:
            right = opened.read_at(0, 3 * MIB) == data
            del writer
        finally:
            os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert opened.read_at(0, 3 * MIB) == data
    writer.commit()
    assert (world.data / "new").read_bytes() == bytes(2 * MIB)


def test_another_protocol_says_who_must_be_upgraded(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.node()
    service = world.remote()
    headers = service._node._headers  # pyright: ignore[reportPrivateUsage]
    headers[routes.PROTOCOL_HEADER] = "2"
    with pytest.raises(ConfigError, match="upgrade the node"):
        service.stat(path(""))
    headers[routes.PROTOCOL_HEADER] = "0"
    with pytest.raises(ConfigError, match="upgrade the client"):
        service.stat(path(""))


def test_what_is_no_node_is_said(world: HttpWorld, tmp_path: Path) -> None:
    from http.server import HTTPServer, SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            world.port = server.server_port
            with pytest.raises(StoreAnswerWrong, match="is no headrace node"):
                world.remote().stat(path("a"))
        finally:
            server.shutdown()
            thread.join(30)
