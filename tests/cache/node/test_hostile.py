"""What a client of the node can do to it, and with what it was lent: nothing but read."""

from __future__ import annotations

import fcntl
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import MOST_PACKET_BYTES, Channel, Ended, Peer, connected
from headrace_cache.wire.values import raw
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import StoreAnswerWrong
from tests.cache.node.conftest import MIB, World, path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the node is Linux's")


class Stranger:
    """A client that says what it likes."""

    def __init__(self, world: World) -> None:
        self.settings = load_settings(world.file)
        self.channel = connected(self.settings.node.socket, 10)
        self.room = bytearray(MOST_PACKET_BYTES)

    def ask(self, request: m.Request) -> tuple[m.Answer, list[int]]:
        return self.say(m.encode(request))

    def say(self, packet: bytes, *beside: int) -> tuple[m.Answer, list[int]]:
        """What it answers; calls to give back come in between, and are not heeded."""
        self.channel.send(packet, beside)
        while True:
            answered, descriptors = self.channel.receive(self.room)
            answer = m.answer_of(answered)
            if not isinstance(answer, m.CallBack):
                return answer, descriptors

    def hello(self) -> None:
        asked = m.Hello(m.PROTOCOL, "1", self.settings.node_fingerprint)
        welcome, descriptors = self.ask(asked)
        assert isinstance(welcome, m.Welcome)
        for descriptor in descriptors:
            os.close(descriptor)


@pytest.fixture
def stranger(world: World) -> Iterator[Stranger]:
    world.put("a", 6 * MIB)
    world.node()
    stranger = Stranger(world)
    yield stranger
    stranger.channel.close()


@pytest.fixture
def lent(stranger: Stranger) -> Iterator[int]:
    """A descriptor that the node handed over."""
    stranger.hello()
    opened, _ = stranger.ask(m.Open(raw("/data/a"), None, [], []))
    assert isinstance(opened, m.Opened)
    brought, (descriptor,) = stranger.ask(m.Bring(opened.asked.handle, 0, 6 * MIB))
    assert isinstance(brought, m.Brought) and brought.loans[0].new
    yield descriptor
    os.close(descriptor)


def write(descriptor: int) -> None:
    os.pwrite(descriptor, b"x", 0)


def shrink(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)


def grow(descriptor: int) -> None:
    os.ftruncate(descriptor, 100 * MIB)


def punch(descriptor: int) -> None:
    os.posix_fallocate(descriptor, 0, 200 * MIB)


def map_for_writing(descriptor: int) -> None:
    mmap.mmap(descriptor, 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def seal(descriptor: int) -> None:
    fcntl.fcntl(descriptor, 1024 + 9, 0x0008)


@pytest.mark.parametrize("attack", [write, shrink, grow, punch, map_for_writing, seal])
@pytest.mark.parametrize("reopened", [False, True])
def test_what_is_lent_can_only_be_read(
    lent: int, attack: Callable[[int], None], reopened: bool
) -> None:
    # Opened anew through /proc, a descriptor may be written where its file may be.
    descriptor = os.open(f"/proc/self/fd/{lent}", os.O_RDWR) if reopened else os.dup(lent)
    try:
        with pytest.raises(OSError):
            attack(descriptor)
    finally:
        os.close(descriptor)
    assert os.fstat(lent).st_size == 6 * MIB + 4096  # and the page that notes which are there


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused(world: World) -> None:
    world.node()
    socket_file = load_settings(world.file).node.socket
    os.chmod(socket_file, 0o666)  # the door stands open, and still
    for folder in (socket_file.parent, *socket_file.parents):
        if folder.owner() == "root" and folder != folder.parent and "pytest" in str(folder):
            os.chmod(folder, 0o755)
    program = (
        "import os, socket, sys\n"
        "where = os.open(os.path.dirname(sys.argv[1]), os.O_PATH)\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect(f'/proc/self/fd/{where}/{os.path.basename(sys.argv[1])}')\n"
        "print(s.recv(1000))\n"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-c", program, str(socket_file)], capture_output=True, text=True
    )
    assert "AccessRefused" in said.stdout and "65534" in said.stdout, said


def test_what_makes_no_sense_is_answered_by_an_error(stranger: Stranger) -> None:
    for packet in (b"\0", b"nonsense", m.encode(m.Flush()), m.encode(m.Join(77))):
        answer, _ = stranger.say(packet)
        assert isinstance(answer, m.Failed) and answer.kind == "ConfigError"
    stranger.hello()
    for request in (
        *(m.Bring(99, 0, 10), m.ReadPast(99, 0, 10), m.Warm(99, 0, 1), m.ListMore(99, stop=False)),
        *(
            m.Open(raw("/data/\0"), None, [], []),
            m.Open(raw("/data/a"), -1.0, [], []),
            m.Stat(b"/data/a", 1e400),
        ),
        *(m.Open(b"/data/" + b"x" * 5000, None, [], []), m.Join(1)),
    ):
        answer, descriptors = stranger.ask(request)
        assert isinstance(answer, m.Failed | m.Found) and not descriptors, request
    assert isinstance(stranger.ask(m.Close([m.Closed(99, 0, 0)]))[0], m.Done)
    assert isinstance(stranger.ask(m.GiveBack([1, 2, 99]))[0], m.Done)
    stranger.say(m.encode(m.Stat(raw("/data/a"), None)))


def test_nobody_counts_for_all_by_what_he_says(world: World, stranger: Stranger) -> None:
    stranger.hello()
    most = (1 << 50) - 1
    for hits in (-5, 1 << 62, 1 << 63):
        answer, _ = stranger.ask(m.Close([m.Closed(1, hits, hits, kept=True)]))
        assert isinstance(answer, m.Failed)
    client = world.client()
    assert client.status().hits == 0
    for _ in range((1 << 13) // 200 + 1):
        stranger.ask(m.Close([m.Closed(1, most, most, kept=True)] * 200))
    assert 0 < client.status().bytes_served < 1 << 63
    assert 0 < client.totals().hits < 1 << 63


def test_a_range_beyond_the_object_is_cut(stranger: Stranger) -> None:
    stranger.hello()
    opened, _ = stranger.ask(m.Open(raw("/data/a"), None, [], []))
    assert isinstance(opened, m.Opened)
    for start, stop in ((-5, 1 << 62), (7 * MIB, 8 * MIB), (5, 2)):
        answer, descriptors = stranger.ask(m.Bring(opened.asked.handle, start, stop))
        assert isinstance(answer, m.Brought)
        for descriptor in descriptors:
            os.close(descriptor)
    answer, _ = stranger.ask(m.ReadPast(opened.asked.handle, 6 * MIB - 5, 1 << 62))
    assert isinstance(answer, m.Bytes) and len(answer.data) == 5


def test_another_protocol_is_told_who_must_be_upgraded(stranger: Stranger) -> None:
    for protocol, who in ((m.PROTOCOL + 1, "node"), (m.PROTOCOL - 1, "client")):
        failed, _ = stranger.ask(m.Hello(protocol, "9", stranger.settings.node_fingerprint))
        assert isinstance(failed, m.Failed) and failed.hint == raw(f"upgrade the {who}")


def test_a_packet_that_is_too_long_ends_the_connection(stranger: Stranger) -> None:
    stranger.hello()
    with pytest.raises((Ended, StoreAnswerWrong)):
        stranger.channel.socket.send(b"x" * (MOST_PACKET_BYTES + 1))
        stranger.channel.receive(stranger.room)


def test_descriptors_that_a_client_sends_are_closed(world: World, stranger: Stranger) -> None:
    stranger.hello()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        stranger.channel.send(m.encode(m.Flush()), [0, 1, 2])
        stranger.channel.receive(stranger.room)
    assert len(os.listdir("/proc/self/fd")) < before + 10  # of the thirty


def test_a_client_that_dies_gives_everything_back(world: World) -> None:
    world.put("a", 6 * MIB)
    node = world.node()
    stranger = Stranger(world)
    stranger.hello()
    opened, _ = stranger.ask(m.Open(raw("/data/a"), None, [], []))
    assert isinstance(opened, m.Opened)
    _, (descriptor,) = stranger.ask(m.Bring(opened.asked.handle, 0, 6 * MIB))
    store = node._service.store()  # pyright: ignore[reportPrivateUsage]
    assert store.loans.bytes_held == 6 * MIB + 4096
    stranger.channel.close()
    client = world.client()  # asked after the end was seen, or before: then it is waited for
    while node.server.clients > 1:
        client.stat(path("a"))
    while store.loans.bytes_held:
        client.stat(path("a"))
    os.close(descriptor)


def test_a_client_that_gives_nothing_back_costs_others_the_cache_and_nothing_more(
    world: World,
) -> None:
    world.write_config(memory="16MiB")
    names = [f"o{number}" for number in range(8)]
    data = {name: world.put(name, 3 * MIB) for name in names}
    node = world.node()
    stranger = Stranger(world)
    stranger.hello()
    kept: list[int] = []
    for name in names:
        opened, _ = stranger.ask(m.Open(raw(f"/data/{name}"), None, [], []))
        assert isinstance(opened, m.Opened)
        _, descriptors = stranger.ask(m.Bring(opened.asked.handle, 0, 3 * MIB))
        kept += descriptors
    client = world.client()
    for name in names:
        opened_too = client.open(path(name))
        assert opened_too.read_at(0, 3 * MIB) == data[name]
    used = client.status().tiers["memory"]
    assert used.used <= used.limit
    assert node.server.clients == 2
    for descriptor in kept:
        os.close(descriptor)
    stranger.channel.close()


def test_looking_at_what_is_not_filled_takes_no_memory_that_is_not_charged(
    world: World, stranger: Stranger
) -> None:
    stranger.hello()
    opened, _ = stranger.ask(m.Open(raw("/data/a"), None, [], []))
    assert isinstance(opened, m.Opened)
    _, (descriptor,) = stranger.ask(m.Bring(opened.asked.handle, 0, 10))
    mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    assert len(mapping[:]) == 6 * MIB + 4096  # touches all of it
    used = world.client().status().tiers["memory"].used
    assert used >= os.fstat(descriptor).st_blocks * 512
    mapping.close()
    os.close(descriptor)


def test_an_arena_with_denied_bytes_is_not_lent_any_more(world: World) -> None:
    world.put("secret", 1000)
    world.put("free", 1000)
    world.put("later", 1000)
    node = world.node()
    first = world.client()
    for name in ("secret", "free"):
        first.open(path(name)).read_at(0, 1000)
    world.policy.write_text(
        'version = 1\nepoch = 2\n[[rule]]\nname = "no"\nmatch.path = ["/data/secret"]\n'
        'apply.persistence = "deny"\n'
    )
    reader = node._service.reader()  # pyright: ignore[reportPrivateUsage]
    reader.gate._watch.look()  # pyright: ignore[reportPrivateUsage]
    secret = (world.data / "secret").read_bytes()
    stranger = Stranger(world)
    stranger.hello()
    for name in ("free", "later"):
        opened, _ = stranger.ask(m.Open(raw(f"/data/{name}"), None, [], []))
        assert isinstance(opened, m.Opened)
        _, descriptors = stranger.ask(m.Bring(opened.asked.handle, 0, 1000))
        for descriptor in descriptors:
            mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
            assert secret not in mapping[:]
            mapping.close()
            os.close(descriptor)
    stranger.channel.close()


def test_a_client_that_is_called_back_gives_back(world: World) -> None:
    world.write_config(memory="16MiB")
    names = [f"o{number}" for number in range(20)]
    data = {name: world.put(name, 3 * MIB) for name in names}
    world.node()
    client = world.client()
    opened = {name: client.open(path(name)) for name in names}
    for _ in range(2):
        for name in names:
            assert opened[name].read_at(0, 3 * MIB) == data[name]
    used = client.status().tiers["memory"]
    assert 0 < used.used <= used.limit


def test_channels_know_their_peer(world: World) -> None:
    world.node()
    channel: Channel = connected(load_settings(world.file).node.socket, 10)
    assert channel.peer() == Peer(
        os.getpid(), os.geteuid(), frozenset((os.getegid(), *os.getgroups()))
    )
    channel.close()


def test_memory_in_place_of_a_packet_is_not_read_from_a_client(stranger: Stranger) -> None:
    """Only the node answers so; what a client hands over could be cut short under its reader."""
    stranger.hello()
    memory = os.memfd_create("mine")
    try:
        os.write(memory, m.encode(m.Stat(b"/data/a", None)))
        answer, _ = stranger.say(b"\xc1", memory)
    finally:
        os.close(memory)
    assert isinstance(answer, m.Failed) and answer.kind == "ConfigError"
