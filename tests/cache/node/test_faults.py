"""The node dies, is not there, stands still or comes back; its clients fork, or are many."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from headrace_cache.local_service import LocalService
from headrace_cache.node import server
from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.remote import connection, node_service
from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import connected
from headrace_cache.wire.told import ToldEntry
from headrace_mounts.connect import open_node
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import (
    ConfigError,
    NotFound,
    PolicyDenied,
    StoreUnavailable,
    VersionGone,
)
from headrace_namespace.path import NamespacePath
from tests.cache.node.conftest import MIB, World, path, whole
from tests.fakes.clock import ManualClock


def test_readers_go_on_when_the_node_is_killed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    data = {name: world.put(name, 3 * MIB) for name in "abc"}
    node = world.node_process()
    client = world.client()
    warm, cold = client.open(path("a")), client.open(path("b"))
    assert whole(warm) == data["a"]
    listing = client.list(path(""))
    next(listing)
    node.kill()
    node.wait(30)
    with caplog.at_level(logging.WARNING):
        assert whole(warm) == data["a"]  # from the memory that it has
        assert whole(cold) == data["b"]  # opened anew
        assert whole(client.open(path("c"))) == data["c"]
        assert client.stat(path("c")).size == 3 * MIB
        assert client.status().bytes_fetched >= 3 * MIB
    assert caplog.text.count("going on with a cache of this process") == 1
    warm.close()
    cold.close()


def test_what_was_replaced_while_the_node_was_gone_is_never_mixed(world: World) -> None:
    world.put("a", 9 * MIB)
    node = world.node_process()
    opened = world.client().open(path("a"))
    node.kill()
    node.wait(30)
    world.put("a", 9 * MIB)
    with pytest.raises(VersionGone, match="the node that held its version is gone"):
        opened.read_at(0, 10)


def test_a_node_that_comes_back_is_used_again_and_is_warm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.put("a", 3 * MIB)
    node = world.node_process()
    client = world.client()
    assert whole(client.open(path("a"))) == data
    client.flush()
    node.kill()
    node.wait(30)
    assert whole(client.open(path("a"))) == data
    monkeypatch.setattr(node_service, "RETRY_SECONDS", 0.0)
    world.node_process()
    client._retry_at = 0.0  # pyright: ignore[reportPrivateUsage]
    assert whole(client.open(path("a"))) == data
    status = client.status()
    assert status.bytes_fetched == 0 and status.tiers["memory"].used >= 3 * MIB  # from its SSD


def test_a_forked_child_has_a_session_of_its_own(world: World) -> None:
    data = world.put("a", 3 * MIB)
    node = world.node()
    client = world.client()
    opened = client.open(path("a"))
    assert whole(opened) == data
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.after_fork_in_child()
            right = whole(client.open(path("a"))) == whole(opened) == data
            os.write(writer, b"right" if right else b"wrong")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"right"
    os.close(reader)
    assert whole(opened) == data
    assert node.server.clients <= 2


def test_a_second_node_is_refused_and_a_dead_ones_socket_is_taken(world: World) -> None:
    node = world.node_process()
    with pytest.raises(ConfigError, match="a node is running already"):
        open_node(world.file)
    node.kill()
    node.wait(30)
    assert load_settings(world.file).node.socket.exists()
    world.put("a", 10)
    world.node()
    assert world.client().stat(path("a")).size == 10


def test_a_node_that_is_stopped_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.5)
    data = world.put("a", 3 * MIB)
    node = world.node_process()
    client = world.client()
    opened = client.open(path("a"))
    node.send_signal(signal.SIGSTOP)
    try:
        assert whole(opened) == whole(client.open(path("a"))) == data
    finally:
        node.send_signal(signal.SIGCONT)
    (warned,) = caplog.records
    assert "does not answer; going on" in warned.getMessage()


def test_a_node_that_stays_silent_is_looked_for_ever_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.1)
    data = world.put("a", 10)
    node = world.node_process()
    client, clock = world.client(), ManualClock()
    client._clock = clock  # pyright: ignore[reportPrivateUsage]
    waits: list[float] = []
    node.send_signal(signal.SIGSTOP)
    try:
        for _ in range(7):
            assert whole(client.open(path("a"))) == data
            clock.sleep(1.0)  # and nobody looks meanwhile
            assert whole(client.open(path("a"))) == data
            waits.append(client._retry_at - clock.monotonic() + 1)  # pyright: ignore[reportPrivateUsage]
            clock.sleep(waits[-1] - 1)
    finally:
        node.send_signal(signal.SIGCONT)
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 30.0)
    monkeypatch.setattr(connection, "ALIVE_SECONDS", 30.0)
    assert whole(client.open(path("a"))) == data
    assert client._connection is not None  # pyright: ignore[reportPrivateUsage]
    node.kill()
    node.wait(30)
    assert whole(client.open(path("a"))) == data
    assert client._retry_at - clock.monotonic() == 2.0  # pyright: ignore[reportPrivateUsage]


def test_a_listing_goes_on_when_the_node_is_killed(world: World) -> None:
    for number in range(2000):
        (world.data / f"file-with-a-rather-long-name-{number:06}").touch()
    node = world.node_process()
    listing = world.client().list(path(""))
    names = [next(listing).path.name]
    node.kill()
    node.wait(30)
    names += [entry.path.name for entry in listing]
    assert sorted(names) == sorted(os.listdir(world.data))


def test_a_dead_nodes_memory_is_not_read_past_the_policy(world: World) -> None:
    data = world.put("a", 3 * MIB)
    node = world.node_process()
    client = world.client()
    opened = client.open(path("a"))
    assert whole(opened) == data
    session = client._connection  # pyright: ignore[reportPrivateUsage]
    assert session is not None
    node.kill()
    node.wait(30)
    world.policy.write_text(
        'version = 1\nepoch = 2\n[[rule]]\nname = "no"\nmatch.path = ["/data/**"]\n'
        'apply.persistence = "deny"\n'
    )
    session._listener.join(30)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(PolicyDenied):
        opened.read_at(0, 10)


def test_what_many_paths_change_is_told_in_parts(world: World) -> None:
    world.write_config(freshness="1h")
    names = [f"{'x' * 100}-{number:05}" for number in range(1500)]
    for name in names:
        (world.data / name).touch()
    world.node()
    client, other = world.client(), world.client()
    assert other.stat(path(names[-1])).size == 0
    assert client.delete([path(name) for name in names]) == {}
    with pytest.raises(NotFound):
        other.stat(path(names[-1]))


def test_what_was_changed_without_a_node_is_told_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write_config(freshness="1h")
    world.put("a", 10)
    world.node()
    client, other = world.client(), world.client()
    assert other.stat(path("a")).size == 10
    lost = client._connection  # pyright: ignore[reportPrivateUsage]
    assert lost is not None
    lost.close()
    client._retry_at = float("inf")  # pyright: ignore[reportPrivateUsage]
    client.delete([path("a")])
    client._retry_at = 0.0  # pyright: ignore[reportPrivateUsage]
    client.stat(path(""))
    with pytest.raises(NotFound):
        other.stat(path("a"))


def test_a_stalled_request_of_one_client_leaves_threads_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", 10)
    world.node()
    client, other = world.client(), world.client()
    go_on, begun = threading.Event(), threading.Semaphore(0)
    explain = LocalService.explain

    def stall(service: LocalService, asked: NamespacePath) -> PolicyExplanation:
        begun.release()
        assert go_on.wait(60)
        return explain(service, asked)

    monkeypatch.setattr(LocalService, "explain", stall)
    askers = [threading.Thread(target=client.explain, args=(path("a"),)) for _ in range(80)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(server.MOST_OF_A_SESSION):
            assert begun.acquire(timeout=30)
        assert other.stat(path("a")).size == 10
        assert not begun.acquire(blocking=False)
    finally:
        go_on.set()
        for asker in askers:
            asker.join(30)
    assert client.stat(path("a")).size == 10


def test_an_interrupted_read_leaves_nothing_lent_that_is_not_mapped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.put("a", 6 * MIB)
    world.node()
    client = world.client()
    opened = client.open(path("a"))
    received = connection.NodeConnection._received  # pyright: ignore[reportPrivateUsage]
    answers = 0

    def interrupt(self: object, *given: object) -> object:
        nonlocal answers
        answers += 1
        if answers == 1:
            raise KeyboardInterrupt
        return received(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(connection.NodeConnection, "_received", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened.read_at(0, 6 * MIB)
    assert whole(opened) == data
    asked = answers
    assert asked > 1
    assert whole(opened) == data
    assert answers == asked


def test_a_fault_of_the_nodes_own_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("a", 10)
    world.node()
    client = world.client()

    def broken(_: LocalService, asked: NamespacePath) -> PolicyExplanation:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(LocalService, "explain", broken)
    logging.getLogger("headrace_cache.node.server").disabled = True
    try:
        with pytest.raises(StoreUnavailable, match="the node failed: ZeroDivisionError: a fault"):
            client.explain(path("a"))
    finally:
        logging.getLogger("headrace_cache.node.server").disabled = False
    with pytest.raises(NotFound, match="does not exist"):
        client.open(path("no\udcffutf8"))


def test_another_configuration_has_a_cache_of_its_own(world: World) -> None:
    world.put("a", 10)
    world.node()
    world.write_config(memory="32MiB")
    with pytest.raises(ConfigError, match="another configuration"):
        world.client()


def test_thousands_of_connections_that_say_nothing(world: World) -> None:
    world.put("a", 3 * MIB)
    world.node()
    socket_file = load_settings(world.file).node.socket
    quiet = [connected(socket_file, 10) for _ in range(400)]
    try:
        assert len(whole(world.client().open(path("a")))) == 3 * MIB
    finally:
        for channel in quiet:
            channel.close()


def read_all(file: str, names: list[str], rounds: int, told: Connection) -> None:
    from headrace_mounts.connect import connect, disconnect_all

    service = connect(file)
    wrong = 0
    for number in range(rounds):
        for name in names:
            with_it = service.open(path(name))
            expected = (Path(file).parent / "data" / name).read_bytes()
            start = (number * 70_000) % len(expected)
            wrong += with_it.read_at(start, start + 200_000) != expected[start : start + 200_000]
            with_it.close()
    told.send((type(service).__name__, wrong))
    disconnect_all()


def test_processes_at_once_in_a_tier_that_is_too_small_for_all(world: World) -> None:
    world.write_config(memory="8MiB")
    names = [f"o{number}" for number in range(12)]
    for number, name in enumerate(names):
        world.put(name, 300_000 + number * 150_000)
    world.node_process()
    context = multiprocessing.get_context("spawn")
    ends: list[tuple[Connection, SpawnProcess]] = []
    for _ in range(3):
        mine, its = context.Pipe(duplex=False)
        process = context.Process(target=read_all, args=(str(world.file), names, 6, its))
        process.start()
        its.close()
        ends.append((mine, process))
    for mine, process in ends:
        assert mine.poll(90)
        assert mine.recv() == ("NodeService", 0)
        process.join(30)
    used = world.client().status().tiers["memory"]
    assert used.used <= used.limit == 8 * MIB


def test_every_request_has_its_answer_in_the_table() -> None:
    """What one end sends, the other end reads: each row there and back."""
    for row in m.Request.__args__:
        assert row.__doc__ and "->" in row.__doc__, row
    entry = ToldEntry(b"/a", None, None, False, False)
    for answer in (m.Found(entry), m.Listed(3, [entry]), m.Number(1 << 62), m.CallBack([1])):
        assert m.answer_of(m.encode(answer)) == answer
