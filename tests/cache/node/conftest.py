"""A node over a folder, in this process or in one of its own, and its clients."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from headrace_cache.node.daemon import Node
from headrace_cache.opening import open_service
from headrace_cache.remote.node_service import NodeService
from headrace_cache.service import OpenObject
from headrace_mounts.connect import open_node
from headrace_mounts.settings import load_settings
from headrace_namespace.path import NamespacePath

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


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as ends:
        yield World(tmp_path, ends)
