"""A reader that is cancelled, times out or dies never spoils the fill that others wait for: they
get the right bytes, by the same fetch, and nothing of him remains."""

from __future__ import annotations

import asyncio
import ctypes
import random
import threading
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import connect, disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.errors import StoreTimeout
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath
from tests.conftest import Bucket
from tests.effort import EFFORT
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.races.blocks import BLOCK_BYTES, body, version_in
from tests.races.crowd import OtherProcess, Race, tell_all
from tests.races.gate import Gate, gated
from tests.races.ledger import Ledger

PATIENCE = 60.0
SIZE = 4 * PAGE
OBJECT = body(7, SIZE // BLOCK_BYTES)


class Killed(BaseException):
    """What ends a thread from outside."""


class Reader(threading.Thread):
    """Reads an object once; `data` has the bytes, or None where he was ended before.

    He stays until `leave`: another thread that took his number would be ended in his place. What
    he waits on are bare locks: those cannot be left broken by ending him.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        super().__init__()
        self._read = read
        self._begun, *self._leaving = (allocate_lock() for _ in range(3))
        for lock in (self._begun, *self._leaving):
            lock.acquire()
        self.data: bytes | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._begun.release()
            try:
                self.data = self._read()
            except Exception as error:
                self.error = error
            self._leaving[0].acquire()
        except Killed:
            pass
        self._leaving[1].acquire()

    def end(self) -> None:
        """Raise `Killed` in him, between two steps of his; once at most."""
        assert self.ident is not None and self._begun.acquire(timeout=PATIENCE)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self.ident), ctypes.py_object(Killed)
        )

    def leave(self) -> None:
        """Return when he has read, or was ended."""
        for lock in self._leaving:
            lock.release()
        self.join(PATIENCE)
        assert not self.is_alive() and self.error is None


class Stall:
    """Reads of a store in memory that stand still until `go_on`."""

    def __init__(self, lake: MemoryBackend) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

        def stall(version: ObjectVersion, start: int) -> None:
            self.reached.set()
            assert self.go_on.wait(PATIENCE)

        lake.before_read = stall


def nothing_remains(rig: Rig) -> None:
    """No claim, no fill, and after `drop` no memory."""
    rig.flights.wait_for_all()
    assert not rig.flights._by_page  # pyright: ignore[reportPrivateUsage]
    rig.settle()
    extents = rig.memory._extents  # pyright: ignore[reportPrivateUsage]
    assert [extent for extent in extents if extent.filling] == []
    for extent in tuple(extents):
        rig.memory.evict(extent)
    assert rig.memory.usage().used == 0


# A thread that is starting bears the number of who starts it (Python 3.11), and may be ended in his
# stead; what it was to do, another does.
_ENDED_AT_ITS_START = pytest.mark.filterwarnings(
    "ignore:.*Offload._serve:pytest.PytestUnraisableExceptionWarning"
)


@_ENDED_AT_ITS_START
def test_threads_that_are_ended_in_a_fill_spoil_nothing(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("o", OBJECT)
    stall = Stall(lake)
    readers = [Reader(lambda: whole(rig.service.open(path("/lake/o")))) for _ in range(24)]
    for reader in readers:
        reader.start()
    assert stall.reached.wait(PATIENCE)
    for reader in readers[::2]:
        reader.end()
    late = [Reader(lambda: whole(rig.service.open(path("/lake/o")))) for _ in range(8)]
    for reader in late:
        reader.start()
    stall.go_on.set()
    for reader in readers + late:
        reader.leave()
    assert all(reader.data == OBJECT for reader in readers[1::2] + late)
    assert all(reader.data in (None, OBJECT) for reader in readers)
    assert any(reader.data is None for reader in readers)  # else nobody was ended
    assert lake.asked["read"] == 1  # one range, fetched once
    nothing_remains(rig)


@_ENDED_AT_ITS_START
@pytest.mark.timeout(180 + 20 * EFFORT)
def test_threads_that_are_ended_anywhere_spoil_nothing(rig: Rig, lake: MemoryBackend) -> None:
    """Between any two steps of an open and a read, on many threads at once."""
    ended = fetched = 0
    for number in range(60 * EFFORT):
        name = f"o{number % 12}"
        lake.set(name, OBJECT)
        before = lake.asked["read"]

        def read(name: str = name) -> bytes:
            opened = rig.service.open(path(f"/lake/{name}"))
            data = whole(opened)
            opened.close()
            return data

        victims = [Reader(read) for _ in range(6)]
        others = [Reader(read) for _ in range(6)]
        for victim, other in zip(victims, others, strict=True):
            victim.start()
            other.start()
            if random.random() < 0.7:
                victim.end()
        for reader in victims + others:
            reader.leave()
        assert all(other.data == OBJECT for other in others)
        assert all(victim.data in (None, OBJECT) for victim in victims)
        ended += sum(victim.data is None for victim in victims)
        fetched += lake.asked["read"] - before
    assert ended  # else nothing was tried
    assert fetched == 60 * EFFORT  # each version once, whoever was ended
    nothing_remains(rig)


def test_who_waits_no_longer_leaves_the_fetch_to_the_others(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("o", OBJECT)
    stall = Stall(lake)

    async def impatient() -> None:
        async with asyncio.timeout(0):
            await asyncio.to_thread(lambda: whole(rig.service.open(path("/lake/o"))))

    async def all_of_them() -> None:
        patient = [
            asyncio.create_task(asyncio.to_thread(lambda: whole(rig.service.open(path("/lake/o")))))
            for _ in range(3)
        ]
        assert await asyncio.to_thread(stall.reached.wait, PATIENCE)
        with pytest.raises(TimeoutError):
            await impatient()
        stall.go_on.set()
        assert await asyncio.gather(*patient) == [OBJECT] * 3

    asyncio.run(all_of_them())
    assert lake.asked["read"] == 1
    nothing_remains(rig)


# Over a real store, held midway.

MIB = 1 << 20
BLOCKS = 3 * MIB // BLOCK_BYTES


@pytest.fixture
def gate(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("LAKE_KEY", bucket.access_key)
    monkeypatch.setenv("LAKE_SECRET", bucket.secret_key)
    bucket.put("object", body(0, BLOCKS))
    disconnect_all()
    with gated(bucket.endpoint) as gate:
        yield gate
    disconnect_all()


def configuration(root: Path, bucket: Bucket, gate: Gate, **more: object) -> dict[str, Any]:
    options = {"key_env": "LAKE_KEY", "secret_env": "LAKE_SECRET", **more}
    return {
        "mount": [
            {
                "path": "/s3",
                "url": f"s3://{bucket.name}",
                "options": {**options, "endpoint_url": gate.endpoint},
            }
        ],
        "cache": {
            "folder": str(root / "cache"),
            "memory": "16MiB",
            "ssd": "64MiB",
            "key_file": str(root / "keys" / "ssd.key"),
            "state_folder": str(root / "state"),
        },
    }


def test_tasks_that_are_cancelled_in_a_fetch(tmp_path: Path, bucket: Bucket, gate: Gate) -> None:
    tree: Any = HeadraceFileSystem(config=configuration(tmp_path, bucket, gate), asynchronous=True)

    async def read() -> int:
        return version_in(await tree._cat_file("/s3/object"))

    async def main() -> None:
        gate.hold()
        tasks = [asyncio.create_task(read()) for _ in range(8)]
        await asyncio.to_thread(gate.await_held)
        for task in tasks[::2]:
            task.cancel()
        gate.release()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert done[1::2] == [0] * 4
        assert all(isinstance(each, asyncio.CancelledError) for each in done[::2])
        assert await read() == 0

    asyncio.run(main())
    assert gate.reads() == 1


@pytest.mark.timeout(600)  # five processes start and end, on a busy machine
def test_a_process_that_is_killed_in_a_fetch(tmp_path: Path, bucket: Bucket, gate: Gate) -> None:
    Ledger(tmp_path / "blocks")
    config = configuration(tmp_path, bucket, gate)
    race = Race(config, "/s3/object", "/s3/none", str(tmp_path), ways_of_table=())
    processes = [OtherProcess(race) for _ in range(3)]
    gate.hold()
    tell_all(processes, "start", 4)
    gate.await_held(3)  # each is in the midst of the fetch
    victim, *others = processes
    victim.kill()
    victim.popen.wait(PATIENCE)
    late = OtherProcess(race)
    late.tell("start", 4)
    late.answer()
    gate.release()
    total = tell_all([*others, late], "join")
    assert (total.right, total.wrong) == (12, [])
    asked = gate.reads()
    # Each process asks for each byte at most once, and not for what another has sealed by then: in
    # as many requests as that takes.
    lengths = [BLOCKS * BLOCK_BYTES if length is None else length for length in gate.ranges]
    assert BLOCKS * BLOCK_BYTES <= sum(lengths) <= 4 * BLOCKS * BLOCK_BYTES
    # All that the others have sealed can be had, and whatever the dead one left is no obstacle.
    tell_all([*others, late], "flush")
    service = connect(config)
    opened = service.open(NamespacePath("/s3/object"))
    assert version_in(opened.read_at(0, opened.version.size)) == 0
    assert gate.reads() == asked
    for process in processes[1:]:
        process.end()
    late.end()
    victim.end()


def test_a_fetch_that_times_out_is_made_again_for_all_who_wait(
    tmp_path: Path, bucket: Bucket, gate: Gate
) -> None:
    service = connect(configuration(tmp_path, bucket, gate, read_timeout=1))

    def read() -> bytes:
        opened = service.open(NamespacePath("/s3/object"))
        return opened.read_at(0, opened.version.size)

    gate.hold()
    readers = [Reader(read) for _ in range(12)]
    for reader in readers:
        reader.start()
    gate.await_held()
    gate.await_reads(2)  # the first was given up, and is asked for again
    gate.release()
    for reader in readers:
        reader.leave()
        assert reader.data is not None
        assert version_in(reader.data) == 0
    assert gate.reads() == 2 or gate.reads() == 3  # once more where the machine is that slow


def test_a_store_that_stays_silent_fails_all_who_wait_and_is_asked_anew_later(
    tmp_path: Path, bucket: Bucket, gate: Gate
) -> None:
    config = configuration(tmp_path, bucket, gate, read_timeout=1, max_attempts=1)
    service = connect(config)

    def read() -> bytes:
        opened = service.open(NamespacePath("/s3/object"))
        return opened.read_at(0, opened.version.size)

    def fail() -> bytes:
        with pytest.raises(StoreTimeout):
            read()
        return b"failed"

    gate.hold()
    readers = [Reader(fail) for _ in range(12)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.leave()
        assert reader.data == b"failed"
    gate.release()
    assert version_in(read()) == 0
