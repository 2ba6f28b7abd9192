"""Several users at one node: whom it serves, and what each may read. Real users, as the kernel
tells them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace_cache.tiers.ssd.opening import open_ssd_tier
from headrace_mounts.settings import load_settings
from tests.cache.node.conftest import MIB, World, end

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

ANN, BOB, STRANGER = 54001, 54002, 54003
STAFF, HR = 54100, 54101
POLICY = f"""
version = 1
[[rule]]
name = "hr"
match.path = ["/data/hr/**"]
apply.groups = ["{HR}"]
"""

_CLIENT = """
import fcntl, json, mmap, os, sys
from pathlib import Path
from headrace_cache.backing import map_for_reading
from headrace_cache.remote.connection import NodeConnection, NodeGone
from headrace_cache.remote.hold import entered_hold
from headrace_cache.remote.node_object import NodeObject
from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import MOST_PACKET_BYTES, connected
from headrace_cache.wire.values import error_of
from headrace_namespace.clock import SystemClock
from headrace_namespace.errors import HeadraceError
where, fingerprint, user, groups = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
os.setgroups([int(each) for each in groups.split(",")])
os.setgid(int(groups.split(",")[0]))
os.setuid(user)
try:
    node = NodeConnection(Path(where), "1", fingerprint, 0)
except (NodeGone, HeadraceError) as error:
    node, refused = None, f"{type(error).__name__}: {error}"
def home(path):
    raise NotImplementedError
opened = {}
def attacks(lent):
    yield "write", lambda: os.pwrite(lent, b"x", 0)
    yield "cut short", lambda: os.ftruncate(lent, 10)
    yield "grow", lambda: os.ftruncate(lent, 1 << 30)
    yield "map for writing", lambda: mmap.mmap(lent, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    yield "open anew", lambda: os.open(f"/proc/self/fd/{lent}", os.O_RDWR)
    yield "open anew and cut short", lambda: os.truncate(f"/proc/self/fd/{lent}", 10)
    yield "make it everybody's", lambda: os.chmod(f"/proc/self/fd/{lent}", 0o777)
    yield "seal", lambda: fcntl.fcntl(lent, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
def works(attack):
    try:
        attack()
    except OSError:
        return False
    return True
def do(what, *args):
    if node is None:
        return refused
    try:
        if what == "read":
            name = os.fsencode(args[0])
            if args[0] not in opened:
                told = node.open(name, None, [])
                opened[args[0]] = NodeObject(home, entered_hold(node, told.edition, told.asked))
            one = opened[args[0]]
            return one.read_at(0, one.version.size).decode("latin-1")
        if what == "size":
            return node.ask(m.Stat(os.fsencode(args[0]), None), m.Found).entry.version.size
        if what == "session":
            return node._session
        if what == "maps":
            return b"".join(e.mapping[:] for e in node._lent._extents.values()).decode("latin-1")
        if what == "attack":
            room, other = bytearray(MOST_PACKET_BYTES), connected(Path(where), 5)
            other.send(m.encode(m.Hello(m.PROTOCOL, "1", fingerprint)))
            for each in other.receive(room)[1]:
                os.close(each)
            other.send(m.encode(m.Open(os.fsencode(args[0]), None, [], [])))
            told, _ = m.answer_of(other.receive(room)[0]), None
            other.send(m.encode(m.Bring(told.asked.handle, 0, 1 << 20)))
            (lent,) = other.receive(room)[1]
            return [name for name, attack in attacks(lent) if works(attack)]
        if what == "join":
            room, other = bytearray(MOST_PACKET_BYTES), connected(Path(where), 5)
            other.send(m.encode(m.Join(args[0])))
            answer = m.answer_of(other.receive(room)[0])
            return type(answer).__name__
    except HeadraceError as error:
        return f"{type(error).__name__}: {error}"
for line in sys.stdin:
    print(json.dumps(do(*json.loads(line))), flush=True)
"""


class Somebody:
    """A process of a user's, which does what it is told."""

    def __init__(self, world: World, user: int, *groups: int) -> None:
        loaded = load_settings(world.file)
        given = ",".join(map(str, groups))
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _CLIENT, str(loaded.node.socket)),
                *(loaded.node_fingerprint, str(user), given),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *request: object) -> object:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def shared(world: World, tmp_path: Path) -> Iterator[tuple[World, ExitStack]]:
    """A node that serves some users, at a socket that all can reach."""
    world.policy.write_text(POLICY)
    (world.root / "run").mkdir()
    with world.file.open("a") as file:
        file.write(f'[node]\nsocket = "run/node.sock"\nusers = ["{ANN}"]\ngroups = ["{STAFF}"]\n')
    for folder in (world.root, *world.root.parents):
        if folder.owner() == "root" and folder != folder.parent and "pytest" in str(folder):
            os.chmod(folder, 0o755)
    with ExitStack() as ends:
        yield world, ends


def somebody(shared: tuple[World, ExitStack], user: int, *groups: int) -> Somebody:
    made = Somebody(shared[0], user, *groups)
    shared[1].callback(made.close)
    return made


def test_each_reads_what_the_policy_lets_him(shared: tuple[World, ExitStack]) -> None:
    world = shared[0]
    world.put("hr/pay", 100)
    (world.data / "hr/pay").write_bytes(b"secret salaries" * 10)
    (world.data / "open").write_bytes(b"for all" * 10)
    world.node()
    ann = somebody(shared, ANN, HR)
    bob, stranger = somebody(shared, BOB, STAFF), somebody(shared, STRANGER, STRANGER)
    for _ in range(2):
        assert ann("read", "/data/hr/pay") == "secret salaries" * 10
        assert "PolicyDenied: /data/hr/pay is for groups" in str(bob("read", "/data/hr/pay"))
        assert f"user {BOB}" in str(bob("read", "/data/hr/pay"))
    assert bob("read", "/data/open") == ann("read", "/data/open") == "for all" * 10
    assert bob("size", "/data/hr/pay") == 150
    assert f"this node does not serve user {STRANGER}" in str(stranger("read", "/data/open"))


def test_no_arena_shows_what_its_borrower_may_not_read(shared: tuple[World, ExitStack]) -> None:
    world = shared[0]
    for number in range(20):
        world.put(f"hr/{number}", 1)
        (world.data / f"hr/{number}").write_bytes(b"SECRET" * 50)
        (world.data / f"{number}").write_bytes(b"public" * 50)
    world.node()
    ann, bob = somebody(shared, ANN, HR), somebody(shared, BOB, STAFF)
    for number in range(20):  # one after the other, so that they would lie side by side
        assert ann("read", f"/data/hr/{number}") == "SECRET" * 50
        assert bob("read", f"/data/{number}") == "public" * 50
        assert ann("read", f"/data/{number}") == "public" * 50
    assert "SECRET" in str(ann("maps"))
    assert "public" in str(bob("maps")) and "SECRET" not in str(bob("maps"))


def test_a_session_is_its_users_own(shared: tuple[World, ExitStack]) -> None:
    shared[0].node()
    ann, bob = somebody(shared, ANN, HR), somebody(shared, BOB, STAFF)
    other_groups = somebody(shared, ANN, STAFF)
    session = ann("session")
    assert ann("join", session) == "Done"
    assert bob("join", session) == "Failed"
    assert other_groups("join", session) == "Failed"


def test_another_user_can_do_nothing_with_what_is_lent_but_read(
    shared: tuple[World, ExitStack],
) -> None:
    data = shared[0].put("a", 6 * MIB)
    shared[0].node()
    bob = somebody(shared, BOB, STAFF)
    assert bob("attack", "/data/a") == []
    assert bob("read", "/data/a") == data.decode("latin-1")


def test_who_is_no_longer_let_reads_no_more(shared: tuple[World, ExitStack]) -> None:
    world = shared[0]
    data = world.put("hr/big", 2 * MIB).decode("latin-1")
    world.policy.write_text("version = 1\n")
    world.node()
    ann, bob = somebody(shared, ANN, HR), somebody(shared, BOB, STAFF)
    assert ann("read", "/data/hr/big") == bob("read", "/data/hr/big") == data
    world.policy.write_text(POLICY)
    while not str(bob("read", "/data/hr/big")).startswith("PolicyDenied"):
        pass  # the node looks within a second
    assert ann("read", "/data/hr/big") == data
    assert str(bob("read", "/data/hr/big")).startswith("PolicyDenied")


def test_names_that_the_system_does_not_know_are_told_of(
    shared: tuple[World, ExitStack], caplog: pytest.LogCaptureFixture
) -> None:
    world = shared[0]
    text = world.file.read_text()
    world.file.write_text(text.replace(f'["{ANN}"]', f'["{ANN}", "root", "nosuchuser"]'))
    world.file.write_text(world.file.read_text().replace(f'["{STAFF}"]', '["root", "nosuchgroup"]'))
    world.node()
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2
    assert "user nosuchuser" in warned[0] and "group nosuchgroup" in warned[1]


def job(world: World, user: int, group: int) -> subprocess.CompletedProcess[str]:
    """`headrace cat` of somebody's, who has no node of his own."""
    # Root reads first, by a cache elsewhere: he alone may load what Python has not loaded yet.
    roots = world.root / "roots.toml"
    roots.write_text(
        '[[mount]]\npath = "/data"\nurl = "data"\n[cache]\nfolder = "roots/cache"\n'
        'key_file = "roots/key"\nstate_folder = "roots/state"\nmemory = "64MiB"\nssd = "128MiB"\n'
    )
    program = (
        "import os, sys\n"
        "import headrace_cache.remote.node_service, headrace_mounts.connect as connect\n"
        "release = connect.release()\n"
        "connect.release = lambda: release\n"
        "from headrace.cli.program import run\n"
        "user, group = map(int, sys.argv[1:3])\n"
        "run(['--config', sys.argv[3], 'cat', '/data/open'])\n"
        "os.setgroups([]); os.setgid(group); os.setuid(user)\n"
        "sys.exit(run(sys.argv[4:]))"
    )
    words = (str(roots), "--config", str(world.file), "cat", "/data/open")
    return subprocess.run(
        [sys.executable, "-c", program, str(user), str(group), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(world.root / "nowhere")},
    )


def test_without_the_node_another_user_reads_by_himself(shared: tuple[World, ExitStack]) -> None:
    world = shared[0]
    (world.data / "open").write_bytes(b"for all")
    node = world.node_process()
    done = job(world, STRANGER, STRANGER)
    assert (done.returncode, done.stdout) == (0, "for all" * 2), done.stderr
    refused, closed = done.stderr.strip().splitlines()
    assert f"this node does not serve user {STRANGER}" in refused
    assert "are another user's: this process has no SSD tier" in closed
    end(node)
    done = job(world, BOB, STAFF)
    assert (done.returncode, done.stdout) == (0, "for all" * 2), done.stderr
    (closed,) = done.stderr.strip().splitlines()
    assert "are another user's" in closed


def test_an_ssd_folder_of_another_user_is_off_and_nobodys_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only its folder: what the state folder keeps can be had."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != folder.parent and "pytest" in str(folder):
            os.chmod(folder, 0o755)
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "own").mkdir()
    os.chown(tmp_path / "own", BOB, BOB)
    os.seteuid(BOB)
    try:
        tier = open_ssd_tier(
            folder=tmp_path / "cache",
            limit_bytes=128 * MIB,
            key_file=tmp_path / "own/key",
            page_bytes=MIB,
        )
        assert tier.purge(lambda _: True) is None
    finally:
        os.seteuid(0)
    (warned,) = caplog.records
    assert "is off" in warned.getMessage()
