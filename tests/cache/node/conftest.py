"""A node over a folder, in this process or in one of its own, and its clients."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from headrace_cache.node.daemon import Node
from headrace_cache.opening import open_service
from headrace_cache.remote.connection import NodeConnection
from headrace_cache.remote.leases import Leases
from headrace_cache.remote.node_service import NodeService
from headrace_cache.service import OpenObject
from headrace_cache.wire import messages as m
from headrace_cache.wire.values import raw
from headrace_mounts import connect
from headrace_mounts.connect import open_node
from headrace_mounts.settings import load_settings
from headrace_namespace.path import NamespacePath
from tests.conftest import Bucket
from tests.fakes.clock import ManualClock

MIB = 1 << 20

_NODE = """
import signal, sys, threading
from headrace_mounts.connect import open_node
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
node = open_node(sys.argv[1])
print("ready", flush=True)
while not ended.wait(1.0): pass
node.close()
"""


class World:
    """A configuration, and what runs by it."""

    def __init__(self, root: Path, ends: ExitStack) -> None:
        self.root = root
        self.data = root / "data"
        self.data.mkdir()
        self.policy = root / "policy.toml"
        self.policy.write_text("version = 1\n")
        self.file = root / "headrace.toml"
        self.write_config()
        self._ends = ends

    def write_config(self, memory: str = "64MiB", freshness: str = "check") -> None:
        self.file.write_text(
            f'[[mount]]\npath = "/data"\nurl = "data"\nfreshness = "{freshness}"\n'
            f'[cache]\nfolder = "cache"\nkey_file = "key"\nstate_folder = "state"\n'
            f'memory = "{memory}"\nssd = "128MiB"\n[policy]\nfile = "policy.toml"\n'
        )

    def put(self, name: str, size: int) -> bytes:
        data = os.urandom(size)
        (self.data / name).parent.mkdir(parents=True, exist_ok=True)
        (self.data / name).write_bytes(data)
        return data

    def node(self) -> Node:
        """A node in this process."""
        return self._ends.enter_context(closing(open_node(self.file)))

    def node_process(self, before: str = "") -> subprocess.Popen[str]:
        """A node in a process of its own, ready to serve; `before` is Python that it runs first."""
        process = subprocess.Popen(
            [sys.executable, "-c", before + _NODE, str(self.file)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ends.callback(end, process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def client(self) -> NodeService:
        """Another process would have another session: so has this."""
        settings = load_settings(self.file)

        own = functools.partial(
            open_service, settings.mounts, settings.cache, settings.policy, settings.context
        )
        client = NodeService(
            settings.node.socket,
            "1",
            settings.node_fingerprint,
            own,
            settings.context.clock,
            most_copied_bytes=settings.cache.memory_bytes,
        )
        return self._ends.enter_context(closing(client))


#: Longer than links on the way are trusted, and than a policy goes unlooked at.
A_WHILE = 1.5


class Job:
    """A client that reads again and again, by a clock that goes on when it is told to."""

    def __init__(self, world: World, clock: ManualClock) -> None:
        self._clock = clock
        self.node: Node = world.node()
        self.client: NodeService = world.client()
        connection = self.client._connection  # pyright: ignore[reportPrivateUsage]
        assert connection is not None
        self.connection: NodeConnection = connection
        connection.leases = Leases(connection.bulletin.numbers, clock.monotonic)
        # A node that begins keeps its policy, and reads what is kept with its next look.
        self.wait()
        self.client.explain(path("a"))

    def wait(self, seconds: float = A_WHILE) -> None:
        """Time passes, and the node lives."""
        self._clock.sleep(seconds)
        self.node.server._bulletin.beat()  # pyright: ignore[reportPrivateUsage]

    def read(self, name: str) -> bytes:
        return opened(self.client, name)

    def messages(self, names: Sequence[str]) -> int:
        """How many messages it takes to read these."""
        before = self.node.server.answered
        for name in names:
            self.read(name)
        return self.node.server.answered - before

    def standing(self) -> int:
        """How many objects may be opened without a call now."""
        now = self._clock.monotonic()
        leases = self.connection.leases._leases  # pyright: ignore[reportPrivateUsage]
        return sum(each.until > now for each in leases.values())

    def handle(self, name: str) -> int:
        """A handle at the node, kept as an open that stands would be."""
        return self.connection.open(raw(f"/data/{name}"), None, []).asked.handle

    def renewed(self, name: str, *handles: int) -> list[float]:
        """What the node says of these handles where `name` is opened."""
        kept = [m.Closed(handle, 0, 0, kept=True) for handle in handles]
        return self.connection.open(raw(f"/data/{name}"), None, [], kept).renewed


def end(process: subprocess.Popen[str]) -> None:
    """Let it end in order, if it lives."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.wait(30)
    if process.stdout is not None:
        process.stdout.close()


def path(name: str) -> NamespacePath:
    return NamespacePath.parse(f"/data/{name}")


def whole(opened: OpenObject) -> bytes:
    return opened.read_at(0, opened.version.size)


def opened(client: NodeService, name: str) -> bytes:
    """What an open and a read give."""
    one = client.open(path(name))
    try:
        return whole(one)
    finally:
        one.close()


def on_s3(
    world: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, freshness: str = "check"
) -> None:
    """The world's mount is the bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.secret_key)
    world.write_config(freshness=freshness)
    text = world.file.read_text().replace('url = "data"', f'url = "s3://{bucket.name}"')
    options = f'[mount.options]\nendpoint_url = "{bucket.endpoint}"\nregion = "us-east-1"\n[cache]'
    world.file.write_text(text.replace("[cache]", options, 1))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as ends:
        yield World(tmp_path, ends)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """That of the nodes of this process."""
    clock = ManualClock(time.time())
    by_it = functools.partial(load_settings, clock=clock)
    monkeypatch.setattr(connect, "load_settings", by_it)
    return clock


@pytest.fixture
def job(world: World, clock: ManualClock) -> Job:
    return Job(world, clock)
