"""A node that other hosts reach, on loopback and a free port, and its clients."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace_cache.node.daemon import Node
from headrace_cache.remote.http_service import HttpNodeService
from headrace_mounts.settings import load_remote
from headrace_namespace.clock import SystemClock
from tests.cache.node.conftest import World, end
from tests.cache.node.http.certificates import Authority

PLAIN = "tls = false\nauthentication = false\n"
TOKEN = "a-token-of-32-characters-or-more"

_NODE = """
import signal, sys, threading
from headrace_mounts.connect import open_node
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
node = open_node(sys.argv[1])
print("ready", node.door.port, flush=True)
while not ended.wait(1.0): pass
node.close()
"""


@dataclass(frozen=True)
class Answer:
    """What a plain HTTP client sees."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpWorld(World):
    """A configuration with a [node.http], and what runs by it."""

    def __init__(self, root: Path, ends: ExitStack) -> None:
        super().__init__(root, ends)
        self.ends = ends
        self.serve(PLAIN)
        self.port = 0
        self.running: Node | None = None

    def serve(self, door: str, clients: str = "", port: int = 0) -> None:
        """Write the configuration of the door."""
        self.write_config()
        with self.file.open("a") as file:
            file.write(f'[node.http]\nlisten = "127.0.0.1:{port}"\n{door}{clients}')

    def node(self) -> Node:
        node = super().node()
        assert node.door is not None
        self.port = node.door.port
        self.running = node
        return node

    def node_process(self, before: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", before + _NODE, str(self.file)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ends.callback(end, process)
        assert process.stdout is not None
        word, port = process.stdout.readline().split()
        assert word == "ready"
        self.port = int(port)
        return process

    def remote(self, given: Mapping[str, object] | None = None) -> HttpNodeService:
        """A client of another host."""
        options = {"tls": False} if given is None else given
        address = load_remote(f"localhost:{self.port}", options, {})
        service = HttpNodeService(address, "1", SystemClock())
        return self.ends.enter_context(closing(service))

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """One request of any HTTP client."""
        connection: http.client.HTTPConnection
        if tls is None:
            connection = http.client.HTTPConnection("localhost", self.port, timeout=30)
        else:
            connection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=30, context=tls
            )
        with closing(connection):
            connection.request(method, target, body, dict(headers or {}))
            with closing(connection.getresponse()) as response:
                return Answer(response.status, dict(response.headers), response.read())

    def raw(self) -> socket.socket:
        """A connection that says what it likes."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return self.ends.enter_context(made)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[HttpWorld]:
    with ExitStack() as ends:
        yield HttpWorld(tmp_path, ends)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who issues certificates that are trusted."""
    return Authority(tmp_path_factory.mktemp("authority"), "the right one")


@pytest.fixture(scope="session")
def impostor(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who issues certificates that are not."""
    return Authority(tmp_path_factory.mktemp("impostor"), "another")
