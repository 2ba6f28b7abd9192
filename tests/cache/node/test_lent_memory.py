"""Memory that the node wants back while a client holds views of it."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_cache.backing import create_backing
from headrace_cache.node.daemon import Node
from headrace_cache.remote import lent_mapping, lent_memory
from headrace_cache.remote.lent_mapping import LentMapping
from headrace_cache.remote.lent_memory import LentMemory
from headrace_cache.remote.node_service import NodeService
from tests.cache.node.conftest import MIB, World, end, path, whole


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called back is copied at once."""
    monkeypatch.setattr(lent_memory, "PATIENCE_SECONDS", 0.0)


def call_back(node: Node) -> None:
    """All that is lent, as where room is needed."""
    for session in node.server.sessions():
        for number in tuple(session.extents):
            session.call_back(number)


def until(holds: Callable[[], bool]) -> None:
    """The client's thread is at it."""
    while not holds():
        threading.Event().wait(0.001)


def memory_of(client: NodeService) -> LentMemory:
    connection = client._connection  # pyright: ignore[reportPrivateUsage]
    assert connection is not None
    return connection._lent  # pyright: ignore[reportPrivateUsage]


def test_views_keep_their_bytes_and_the_node_has_its_memory_back(world: World) -> None:
    world.write_config(memory="16MiB")
    data = {name: world.put(name, 4 * MIB) for name in ("a", "b", "c", "d", "e", "f")}
    node = world.node()
    client, other = world.client(), world.client()
    opened = client.open(path("a"))
    views = [opened.view(0, MIB), opened.view(MIB + 5, 2 * MIB)]
    assert all(isinstance(view, memoryview) for view in views)
    call_back(node)
    until(lambda: not node.facts().lent_bytes)
    for name, content in data.items():  # more than the tier holds
        assert whole(other.open(path(name))) == content
    assert views == [data["a"][:MIB], data["a"][MIB + 5 : 2 * MIB]]
    assert whole(opened) == whole(client.open(path("a"))) == data["a"]
    held = memory_of(client)
    assert 2 * MIB <= held.copied_bytes <= 4 * MIB + 4096
    views.clear()
    call_back(node)
    until(lambda: not held.copied_bytes)
    assert whole(opened) == data["a"]


def test_a_page_that_comes_after_the_copy_is_not_taken_for_one_that_is_in_it(world: World) -> None:
    world.write_config(memory="512MiB")  # so that several pages share an extent
    data = world.put("a", 8 * MIB)
    node = world.node()
    client, other = world.client(), world.client()
    opened, others = client.open(path("a")), other.open(path("a"))

    def page(number: int) -> slice:
        return slice(number * MIB, (number + 1) * MIB)

    def alike(number: int) -> bool:
        place = page(number)
        return opened.read_at(place.start, place.stop) == data[place]

    view = opened.view(0, MIB)
    assert others.read_at(6 * MIB, 6 * MIB + 9) == data[6 * MIB : 6 * MIB + 9]
    call_back(node)
    until(lambda: memory_of(client).copied_bytes > 0)
    assert memory_of(client).copied_bytes < 8 * MIB
    assert others.read_at(4 * MIB, 4 * MIB + 9) == data[4 * MIB : 4 * MIB + 9]
    assert alike(6) and alike(4) and alike(2) and alike(0)
    assert view == data[page(0)]


_HOLDER = """
import hashlib, sys
from headrace_cache.remote import lent_memory
from headrace_mounts.connect import connect
from headrace_namespace.path import NamespacePath
lent_memory.PATIENCE_SECONDS = 0.0
view = connect(sys.argv[1]).open(NamespacePath("/data/a")).view(0, 3 << 20)
print(type(view).__name__, flush=True)
sys.stdin.readline()
print(hashlib.sha256(view).hexdigest(), flush=True)
"""


def extents_of(process: int) -> list[str]:
    """What a process has mapped, or has a descriptor of, of the memory of nodes; that is larger
    than a bulletin."""
    found: list[str] = []
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        start, stop = (int(each, 16) for each in line.split()[0].split("-"))
        if "headrace-extent" in line and stop - start >= MIB:
            found.append(line)
    for each in Path(f"/proc/{process}/fd").iterdir():
        if "headrace-extent" in os.readlink(each) and each.stat().st_size >= MIB:
            found.append(str(each))
    return found


def test_another_process_keeps_nothing_of_what_it_gave_back(world: World) -> None:
    data = world.put("a", 3 * MIB)
    node = world.node()
    command = [sys.executable, "-c", _HOLDER, str(world.file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "memoryview\n"
        assert len(extents_of(holder.pid)) == 1
        call_back(node)
        until(lambda: not node.facts().lent_bytes)
        assert extents_of(holder.pid) == []
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        assert holder.stdout.readline().strip() == hashlib.sha256(data).hexdigest()
        end(holder)


def test_more_than_a_process_would_cache_by_itself_is_not_copied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.put("a", 3 * MIB)
    node, client = world.node(), world.client()
    monkeypatch.setattr(memory_of(client), "_most_copied_bytes", 2 * MIB)
    view = client.open(path("a")).view(0, 3 * MIB)
    asked = threading.Event()

    def unmap(extent: LentMapping) -> None:
        asked.set()

    monkeypatch.setattr(LentMapping, "unmap", unmap)
    call_back(node)
    assert asked.wait(30)
    assert node.facts().lent_bytes >= 3 * MIB and memory_of(client).copied_bytes == 0
    assert view == data


class Kernel:
    """The system's calls, but for one."""

    def __init__(self, name: str, instead: Callable[[], object]) -> None:
        self._real = lent_mapping._C  # pyright: ignore[reportPrivateUsage]
        self._name = name
        self._instead = instead

    def __getattr__(self, name: str) -> object:
        if name != self._name:
            return getattr(self._real, name)

        def instead(*given: int | None) -> object:
            return self._instead()

        return instead


def test_what_comes_while_it_is_copied_is_not_seen_in_the_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    presence = 3 * MIB
    shared = create_backing(presence + 4096, shared=True)
    lent = LentMapping(shared.descriptor, presence)
    seen: list[bool] = []

    def bring(page: int) -> None:
        shared.mapping[page * MIB : (page + 1) * MIB] = bytes([page + 1]) * MIB
        shared.mapping[presence + page] = 1

    def another_comes() -> int:
        bring(1)
        seen.append(lent.pages_there(1, 1))
        return 0

    bring(0)
    assert lent.pages_there(0, 0) and not lent.pages_there(0, 1)
    monkeypatch.setattr(lent_mapping, "_C", Kernel("mprotect", another_comes))
    lent.replace()
    assert seen == [False] and not lent.pages_there(1, 1)
    assert lent.mapping[:MIB] == b"\1" * MIB
    shared.close()
    assert lent.mapping[:MIB] == b"\1" * MIB
    assert lent.unmap()


def test_memory_that_cannot_be_copied_stays_lent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = world.put("a", 3 * MIB)
    node, client = world.node(), world.client()
    opened = client.open(path("a"))
    view = opened.view(0, 3 * MIB)
    tried = threading.Event()

    def full() -> int | None:
        ctypes.set_errno(errno.ENOMEM)
        tried.set()
        return ctypes.c_void_p(-1).value

    monkeypatch.setattr(lent_mapping, "_C", Kernel("mremap", full))
    call_back(node)
    assert tried.wait(30)
    until(lambda: not memory_of(client).copied_bytes)
    assert node.facts().lent_bytes >= 3 * MIB
    assert view == whole(opened) == data
    monkeypatch.undo()
    monkeypatch.setattr(lent_memory, "PATIENCE_SECONDS", 0.0)
    call_back(node)
    until(lambda: not node.facts().lent_bytes)
    assert view == whole(opened) == data


def test_memory_that_could_be_cut_short_is_not_mapped() -> None:
    backing = create_backing(4096)
    shared = create_backing(4096, shared=True)
    try:
        with pytest.raises(OSError, match="could still be changed"):
            LentMapping(os.memfd_create("x"), -1)
        shared.mapping[:3] = b"abc"
        lent = LentMapping(shared.descriptor, -1)
        assert lent.mapping[:3] == b"abc"
        assert memoryview(lent.mapping).readonly
        assert lent.unmap()
    finally:
        backing.close()
        shared.close()


def test_no_read_is_wrong_while_memory_is_called_back_all_the_time(world: World) -> None:
    size = 8 * MIB
    world.write_config(memory="512MiB")
    data = world.put("a", size)
    node = world.node()
    client, other = world.client(), world.client()
    ended = threading.Event()
    wrong: list[str] = []

    def read(service: NodeService, seed: int) -> None:
        chance = random.Random(seed)
        held: list[tuple[int, memoryview | bytes]] = []
        while not ended.is_set():
            opened = service.open(path("a"))
            for _ in range(20):
                start = chance.randrange(size - 100_000)
                if opened.read_at(start, start + 9) != data[start : start + 9]:
                    wrong.append(f"read at {start}")
                held.append((start, opened.view(start, start + 70_000)))
            for start, view in held:
                if view != data[start : start + 70_000]:
                    wrong.append(f"view at {start}")
            del held[: len(held) // 2]
            opened.close()

    threads = [
        threading.Thread(target=read, args=(service, seed))
        for seed, service in enumerate((client, client, other))
    ]
    for thread in threads:
        thread.start()
    chance = random.Random(4711)
    for _ in range(150):
        call_back(node)
        if chance.random() < 0.3:
            client.drop(path("a"))
    ended.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
