"""What the node logs: one JSON object a line, of its life and its clients; never data, no
restricted name, and nothing of what a client asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest

from headrace_cache.remote.node_service import NodeService
from headrace_cache.wire import messages as m
from headrace_cache.wire.channel import MOST_PACKET_BYTES, connected
from headrace_cache.wire.values import raw
from headrace_mounts.connect import watch_node
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import HeadraceError
from tests.cache.node.conftest import World, end, path, whole

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the node is Linux's")

CANARY = "zanzibar-7f3a"
SECRET = b"the-salary-is-4711"
POLICY = """
version = 1
epoch = %d
[[rule]]
name = "hr"
match.path = ["/data/hr/**"]
apply.persistence = "memory-only"
apply.metadata = "memory-only"
apply.guarantee = "unattested"
"""


class Logged:
    """A node in a process of its own, and what it logged so far."""

    def __init__(self, world: World) -> None:
        self.file = world.root / "log"
        self._into: IO[bytes] = self.file.open("wb")
        options = ["--log-level", "debug", "--log-format", "json", "--config", str(world.file)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace", *options, "node"], stderr=self._into, text=True
        )
        self.wait_for("the node is ready")

    def lines(self) -> list[dict[str, Any]]:
        """Every line; each is one JSON object."""
        return [
            json.loads(line)
            for line in self.file.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]

    def wait_for(self, message: str) -> dict[str, Any]:
        """The fields of the last line that says so, as soon as there is one."""
        while True:
            found = [line for line in self.lines() if line["message"] == message]
            if found:
                fields: dict[str, Any] = found[-1]["fields"]
                return fields
            assert self.process.poll() is None, self.file.read_text()

    def close(self) -> None:
        end(self.process)
        self._into.close()


@pytest.fixture
def logged(world: World) -> Iterator[Logged]:
    world.policy.write_text(POLICY % 1)
    with closing(Logged(world)) as made:
        yield made


def test_its_life_is_told(world: World, logged: Logged) -> None:
    job = world.client()
    begun = logged.wait_for("a client has begun")
    assert set(begun) == {"client", "pid", "user"}
    job.mounts()
    job.close()
    ended = logged.wait_for("a client has ended")
    assert ended["client"] == begun["client"] and ended["answered"] >= 1
    world.policy.write_text(POLICY % 2)
    assert logged.wait_for("another policy is in force") == {"epoch": 2, "mended": False}
    world.policy.write_text("version = ")
    broken = "nothing is served until the policy is mended"
    while not any(line["message"].startswith(broken) for line in logged.lines()):
        pass
    world.policy.write_text(POLICY % 3)
    with closing(watch_node(world.file)) as watch:
        while watch.look().policy.epoch != 3:
            pass
    assert logged.wait_for("another policy is in force")["epoch"] in (2, 3)
    logged.close()
    messages = [line["message"] for line in logged.lines()]
    assert messages[0] == "the node begins" and messages[-1] == "the node has ended"
    assert "the node ends" in messages
    levels = {line["level"] for line in logged.lines()}
    assert levels <= {"debug", "info", "error"}  # the error is the broken policy


def test_refusals_are_told_once_a_while_and_by_our_words(world: World, logged: Logged) -> None:
    for _ in range(50):
        with closing(connected(load_settings(world.file).node.socket, 10)) as channel:
            channel.send(m.encode(m.Hello(m.PROTOCOL, CANARY, CANARY)))
            assert channel.receive(bytearray(MOST_PACKET_BYTES))[0]
    refused = logged.wait_for("refused a client")
    assert set(refused) == {"why", "pid", "user", "others"}
    assert refused["why"] == "another configuration"
    assert sum(line["message"] == "refused a client" for line in logged.lines()) < 25


def test_neither_data_nor_names_are_logged(world: World, logged: Logged) -> None:
    for name in (f"hr/{CANARY}/a", f"hr/{CANARY}/b", f"{CANARY}-open"):
        world.put(name, 1)
        (world.data / name).write_bytes(SECRET * 1000)
    job = world.client()
    restricted = path(f"hr/{CANARY}/a")
    opened = job.open(restricted)
    assert whole(opened).startswith(SECRET)
    assert list(job.list(path(f"hr/{CANARY}")))
    job.why(restricted)
    job.explain(restricted)
    job.drop(restricted)
    _write(job, f"hr/{CANARY}/new")
    # What the store says is wrong names the object too.
    (world.data / f"hr/{CANARY}/b").unlink()
    (world.data / f"hr/{CANARY}/a").write_bytes(SECRET)
    for wrong in (
        lambda: whole(opened),
        lambda: job.open(path(f"hr/{CANARY}/b")),
        lambda: job.open(path(f"hr/{CANARY}")),
        lambda: job.stat(path(f"{CANARY}/none")),
        lambda: job.pin(restricted),
    ):
        with pytest.raises(HeadraceError):
            wrong()
    _ask_nonsense(world)
    world.policy.write_text(POLICY % 2)
    logged.wait_for("another policy is in force")
    (world.root / "more").mkdir()
    _mount(world, world.root / "more")
    assert job.stat(path("hr")).path == path("hr")
    while "the mounts changed" not in logged.file.read_text():
        job.mounts()
    shutil.rmtree(world.data)
    with pytest.raises(HeadraceError):
        list(job.list(path(f"hr/{CANARY}")))
    job.close()
    logged.close()
    text = logged.file.read_text()
    assert CANARY not in text and SECRET.decode() not in text
    assert logged.wait_for("refused a client")["why"] == "nonsense"
    assert logged.wait_for("the mounts changed")["came"] == ["/more"]
    for line in text.splitlines():
        assert set(json.loads(line)) == {"time", "level", "room", "message", "fields"}


def _write(job: NodeService, name: str) -> None:
    writer = job.create(path(name))
    writer.write(memoryview(SECRET))
    writer.commit()


def _mount(world: World, folder: Path) -> None:
    mounting = ["--config", str(world.file), "mount", "/more", str(folder)]
    subprocess.run([sys.executable, "-m", "headrace", *mounting], check=True)


def _ask_nonsense(world: World) -> None:
    """Requests that make no sense, full of names and data."""
    settings = load_settings(world.file)
    room = bytearray(MOST_PACKET_BYTES)
    named = raw(f"/data/hr/{CANARY}/a")
    with closing(connected(settings.node.socket, 10)) as channel:

        def say(packet: bytes) -> None:
            channel.send(packet)
            assert isinstance(m.answer_of(channel.receive(room)[0]), m.Failed | m.Welcome)

        say(m.encode(m.Hello(m.PROTOCOL, CANARY, settings.node_fingerprint)))
        say(SECRET + CANARY.encode())
        say(m.encode(m.Stat(b"no/root/" + named, None)))
        say(m.encode(m.Stat(named, -1.0)))
        say(m.encode(m.Open(named + b"\0", None, [], [])))
        say(m.encode(m.Bring(12345, 0, 5)))
        say(m.encode(m.Hello(m.PROTOCOL, CANARY, CANARY)))
