"""Many clients at once: thousands that say nothing, floods of opens, and who never says Hello."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_cache.local_service import LocalService
from headrace_cache.node import connection, session, store_turns
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.remote.node_service import NodeService
from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import MOST_PACKET_BYTES, Channel, Ended, close_all, connected
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import TooManyOpen
from headrace_namespace.freshness import CHECK, Freshness
from headrace_namespace.path import NamespacePath
from tests.cache.node.conftest import MIB, World, path, whole

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the node is Linux's")

#: Clients that say nothing, as many as the machine lets there be.
CROWD = 10_000
LEAST_CROWD = 2_000
#: Connections above the crowd until the node's bound.
SPARE = 50
#: What a client that says nothing may take of the node's memory.
MOST_IDLE_BYTES = 4 << 10


@pytest.fixture
def crowd() -> Iterator[int]:
    """How many clients a process can be, and a node serve, that need a descriptor each."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(CROWD, hard - 1000)
    if count < LEAST_CROWD:
        pytest.skip(f"{hard} descriptors are too few for {LEAST_CROWD} clients")
    yield count
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Sessions of clients that say nothing more."""

    def __init__(self, world: World) -> None:
        settings = load_settings(world.file)
        self.socket_file = settings.node.socket
        self._hello = m.encode(m.Hello(m.PROTOCOL, "1", settings.node_fingerprint))
        self._room = bytearray(MOST_PACKET_BYTES)
        self.channels: list[Channel] = []

    def come(self) -> m.Answer:
        """One more; what the node says to it."""
        channel = connected(self.socket_file, 30)
        self.channels.append(channel)
        try:
            channel.send(self._hello)
            packet, descriptors = channel.receive(self._room)
        except Ended:  # the kernel tells that it hung up before it tells what it said
            packet, descriptors = channel.receive(self._room)
        close_all(descriptors)
        return m.answer_of(packet)

    def ask(self, request: m.Request) -> m.Answer:
        """What the last who came is answered."""
        self.channels[-1].send(m.encode(request))
        packet, descriptors = self.channels[-1].receive(self._room)
        close_all(descriptors)
        return m.answer_of(packet)

    def go(self) -> None:
        for channel in self.channels:
            channel.close()
        self.channels.clear()


def private_bytes(process: int) -> int:
    """What the process has of memory beside files and what it lends."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise LookupError("RssAnon")


def descriptors(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


def sockets(process: int) -> int:
    """Of its descriptors: those of files and memory come and go."""
    count = 0
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(descriptor).startswith("socket:")
    return count


def test_thousands_of_clients_that_say_nothing(world: World, crowd: int) -> None:
    data = {name: world.put(name, 3 * MIB) for name in "abc"}
    # A node takes connections for a quarter of its descriptors, to have some for its extents.
    bound = f"from headrace_cache.node import daemon; daemon.MOST_CONNECTIONS = {crowd + SPARE}\n"
    more = f"daemon.most_descriptors = lambda: {4 * (crowd + SPARE)}\n"
    node = world.node_process(bound + more)
    client = world.client()
    warm = client.open(path("a"))
    assert whole(warm) == data["a"]
    before, had = private_bytes(node.pid), descriptors(node.pid)
    silent = Crowd(world)
    try:
        while len(silent.channels) < crowd:
            assert isinstance(silent.come(), m.Welcome)
        taken = (private_bytes(node.pid) - before) / crowd
        print(f"{crowd} clients that say nothing: {taken:.0f} bytes each of the node's memory")
        assert taken < MOST_IDLE_BYTES
        assert sockets(node.pid) >= crowd + 2  # with the one that listens, and the client's own
        assert whole(warm) == data["a"]
        assert whole(client.open(path("b"))) == data["b"]
        # And one more than may be is told so.
        said: m.Answer = m.Done()
        for _ in range(2 * SPARE):
            said = silent.come()
            if not isinstance(said, m.Welcome):
                break
        assert isinstance(said, m.Failed) and said.kind == "TooManyOpen"
        assert whole(client.open(path("c"))) == data["c"]
    finally:
        silent.go()
    while descriptors(node.pid) > had + 12:  # extents of b and c among them
        assert client.stat(path("a")).size == 3 * MIB
    assert isinstance(silent.come(), m.Welcome)
    silent.go()


def test_who_begins_no_session_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    data = world.put("a", 10)
    node = world.node()
    client, silent = world.client(), Crowd(world)
    assert isinstance(silent.come(), m.Welcome)
    asked = client.open(path("a"))  # on a connection that has joined the session
    monkeypatch.setattr(connection, "MOST_UNBEGUN_SECONDS", 0.0)
    room = bytearray(MOST_PACKET_BYTES)
    for said in (b"", b"nonsense", m.encode(m.Join(77))):
        channel = connected(silent.socket_file, 30)
        if said:
            channel.send(said)
        with pytest.raises(Ended):
            while True:  # what was said is answered
                channel.receive(room)
        channel.close()
    assert node.server.clients == 2
    assert isinstance(silent.ask(m.Flush()), m.Done)
    assert whole(asked) == whole(client.open(path("a"))) == data
    silent.go()


#: Opens, reads and closes with 64 threads until its standard input ends, and counts.
_FLOOD = """
import json, sys, threading
from headrace_mounts.connect import connect
from headrace_namespace.errors import NotFound
from headrace_namespace.freshness import CHECK
from headrace_namespace.path import NamespacePath
service, ended, lock = connect(sys.argv[1]), threading.Event(), threading.Lock()
counted = {"kind": type(service).__name__, "right": 0, "wrong": 0, "missing": 0}
def count(what):
    with lock:
        counted[what] += 1
def flood(number):
    while not ended.is_set():
        number = (number * 7 + 1) % 300
        opened = service.open(NamespacePath.parse(f"/data/o{number}"), CHECK)
        right = opened.read_at(0, 100) == b"%07d" % number
        opened.close()
        count("right" if right else "wrong")
        try:
            service.open(NamespacePath.parse("/data/missing"), CHECK)
        except NotFound:
            count("missing")
threads = [threading.Thread(target=flood, args=(n,)) for n in range(64)]
for thread in threads: thread.start()
print("flooding", flush=True)
sys.stdin.read()
ended.set()
for thread in threads: thread.join()
print(json.dumps(counted))
"""


@pytest.mark.parametrize("processes", [1, 8])
def test_a_flood_of_opens_shuts_nobody_out(world: World, processes: int) -> None:
    for number in range(300):
        (world.data / f"o{number}").write_bytes(b"%07d" % number)
    node = world.node_process()
    client = world.client()
    client.stat(path("o0"))
    before = private_bytes(node.pid)
    floods = [
        subprocess.Popen(
            [sys.executable, "-c", _FLOOD, str(world.file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    answers = 100
    try:
        for flood in floods:
            assert flood.stdout is not None
            assert flood.stdout.readline() == "flooding\n"
        for number in range(answers):
            assert whole(client.open(path(f"o{number}"), CHECK)) == b"%07d" % number
    finally:
        told = [json.loads(flood.communicate()[0]) for flood in floods]
    assert {each["kind"] for each in told} == {"NodeService"}
    assert not sum(each["wrong"] for each in told)
    assert all(each["right"] and each["missing"] for each in told)
    opened = sum(each["right"] + each["missing"] for each in told)
    print(f"{opened} opens of {processes} floods beside {answers} of a client that asks in turn")
    # In turn: for each answer to one, at most one to each thread of the flood. What the floods did
    # before it asked, and what they closed, is counted too.
    assert opened <= 4 * answers * 64 * processes
    assert private_bytes(node.pid) - before < 64 * MIB
    assert client.status().tiers["memory"].used <= 64 * MIB


def test_one_client_that_closes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_HANDLES", 1000)
    data = world.put("a", 10)
    node = world.node()
    client, other = world.client(), world.client()
    kept = [client.open(path("a"), CHECK) for _ in range(1000)]
    with pytest.raises(TooManyOpen, match="has 1000 objects open at the node"):
        client.open(path("a"), CHECK)
    assert whole(kept[-1]) == whole(other.open(path("a"))) == data
    kept.pop().close()
    assert whole(client.open(path("a"), CHECK)) == data  # the close went with it
    assert node.server.clients == 2


def test_a_stuck_store_leaves_threads_to_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.put("a", 10)
    (world.root / "stuck").mkdir()
    (world.root / "stuck/b").write_bytes(b"b")
    text = world.file.read_text()
    world.file.write_text('[[mount]]\npath = "/stuck"\nurl = "stuck"\n' + text)
    node = world.node()
    go_on, waiting = threading.Event(), threading.Semaphore(0)
    opened_by = LocalService.open

    def stall(service: LocalService, asked: NamespacePath, fresh: Freshness | None) -> OpenObject:
        if asked.parent.name == "stuck":
            waiting.release()
            assert go_on.wait(60)
        return opened_by(service, asked, fresh)

    monkeypatch.setattr(LocalService, "open", stall)
    stuck, right = NamespacePath.parse("/stuck/b"), list[bool]()
    clients = [world.client() for _ in range(6)]

    def ask(client: NodeService) -> None:
        right.append(whole(client.open(stuck)) == b"b")

    askers = [threading.Thread(target=ask, args=(each,)) for each in clients for _ in range(20)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(store_turns.MOST_OF_A_STORE):
            assert waiting.acquire(timeout=30)
        for client in (world.client(), world.client()):  # new ones: the six have all their turns
            assert whole(client.open(path("a"))) == data
        assert not waiting.acquire(blocking=False)
    finally:
        go_on.set()
        for asker in askers:
            asker.join(60)
    assert len(right) == 120 and all(right)
    assert whole(clients[1].open(stuck)) == b"b"
    assert node.server.clients == 8
