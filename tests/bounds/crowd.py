"""A process whose 64 threads fill a cache at once, and which looks at every bound at every step.

    python -m tests.bounds.crowd CONFIG SEED READS alone|shared

It reads the objects of the tree `/data` in random order and prints as JSON the most that each
thing ever was. The looks are taken where the thing grows, not now and then: memory when it is
charged, the SSD's folder at each write to it (by a process that is `alone`) and within each
transaction, of which there is one at a time over all processes, queues when something is put in
line.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace_cache import opening
from headrace_cache.reading.single_flight import Flight, Flights
from headrace_cache.service import CacheService
from headrace_cache.tiers.memory import Extent, MemoryTier
from headrace_cache.tiers.ssd import segments
from headrace_mounts.settings import load_settings
from headrace_namespace import offload
from headrace_namespace import opening as namespace_opening
from headrace_namespace.entry import Entry
from headrace_namespace.metadata.lmdb_env import SharedEnvironment
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath

THREADS = 64
#: What a reader asks for at once; his own memory, which no bound of ours covers.
READ_BYTES = 64 << 10
#: Of a large object a reader reads so many bytes, from anywhere.
STRETCH_BYTES = 4 << 20


class Most:
    """The highest value seen of each thing."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self._lock = threading.Lock()

    def see(self, name: str, value: int) -> None:
        with self._lock:
            self.values[name] = max(self.values.get(name, 0), value)


MOST = Most()
#: Never undone: the process ends.
patch = pytest.MonkeyPatch()


def on_disk(folder: Path) -> int:
    """What the folder and all in it take on the disk, in blocks as the kernel counts them."""
    taken = os.stat(folder).st_blocks
    for place, _, names in os.walk(folder):
        taken += os.stat(place).st_blocks
        for name in names:
            try:
                taken += os.stat(os.path.join(place, name)).st_blocks
            except FileNotFoundError:
                continue
    return taken * 512


class WatchedTier(MemoryTier):
    def allocate(self, key: Hashable, size: int, *, noted: bool = False) -> Extent | None:
        extent = super().allocate(key, size, noted=noted)
        MOST.see("extents", len(self._extents))
        MOST.see("extents allowed", self._most_extents)
        MOST.see("descriptors", len(os.listdir("/proc/self/fd")))
        return extent

    def charge(self, extent: Extent, count: int) -> bool:
        charged = super().charge(extent, count)
        MOST.see("memory", self._used)
        # What is charged is all there is: nothing holds more than it was charged for.
        MOST.see("memory held", sum(each.bytes_held for each in self._extents))
        return charged


class WatchedFlights(Flights):
    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def claim(
        self, version: bytes, groups: Sequence[Sequence[int]], mount: Mount | None = None
    ) -> tuple[list[Flight], list[Flight]]:
        new, others = super().claim(version, groups, mount)
        with self._lock:
            self._count += len(new)
        MOST.see("flights", self._count)
        return new, others

    def land(self, flight: Flight, error: BaseException | None = None) -> None:
        with self._lock:
            self._count -= 1
        super().land(flight, error)


class WatchedOffload(offload.Offload):
    def submit(self, work: Callable[[], object]) -> None:
        super().submit(work)
        MOST.see("in line", self.waiting)


class WatchedDisk:
    """The `os` that the segment files see."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwrite(self, descriptor: int, data: memoryview, start: int) -> int:
        written = os.pwrite(descriptor, data, start)
        MOST.see("disk", on_disk(self._folder))
        return written


def watch_disk(folder: Path, *, alone: bool) -> None:
    """Look at the folder within each transaction; while no other process may let one file go and
    make another between two looks, at each write too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if alone:
        patch.setattr(segments, "os", WatchedDisk(folder))
    real = SharedEnvironment.write

    @contextmanager
    def write(self: SharedEnvironment) -> Generator[Any]:
        with real(self) as transaction:
            yield transaction
            MOST.see("disk", on_disk(folder))

    patch.setattr(SharedEnvironment, "write", write)


def watched_service(config: str, *, alone: bool) -> CacheService:
    settings = load_settings(config)
    patch.setattr(opening, "MemoryTier", WatchedTier)
    patch.setattr(opening, "Flights", WatchedFlights)
    for room in (opening, namespace_opening):
        patch.setattr(room, "Offload", WatchedOffload)
    if settings.cache.ssd_bytes:
        watch_disk(settings.cache.folder, alone=alone)
    return opening.open_service(settings.mounts, settings.cache, settings.policy, settings.context)


def read(service: CacheService, entry: Entry, chance: random.Random) -> None:
    """Some of an object, in order; now and then as a view that is held for a while."""
    opened = service.open(entry.path)
    size = opened.version.size
    start = 0 if size <= STRETCH_BYTES else chance.randrange(size - STRETCH_BYTES)
    if size <= STRETCH_BYTES and chance.random() < 0.1:
        view = opened.view(0, size)
        assert len(view) == size
        return
    target = memoryview(bytearray(READ_BYTES))
    for begin in range(start, min(size, start + STRETCH_BYTES), READ_BYTES):
        assert opened.read_into(begin, target) == min(READ_BYTES, size - begin)
    opened.close()


def fill(service: CacheService, seed: int, reads: int) -> list[BaseException]:
    """64 threads at once; what went wrong."""
    entries = list(service.list(NamespacePath.parse("/data")))
    wrong: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def work(number: int) -> None:
        chance = random.Random(seed * THREADS + number)
        together.wait()
        try:
            for _ in range(reads):
                read(service, chance.choice(entries), chance)
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def peak() -> int:
    """The most memory that this process ever had mapped, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise LookupError("VmHWM")


def main() -> None:
    config, seed, reads, alone = sys.argv[1:]
    service = watched_service(config, alone=alone == "alone")
    wrong = fill(service, int(seed), int(reads))
    service.flush()
    status = service.status()
    service.close()
    answer = dict(MOST.values)
    answer["peak"] = peak()
    answer["misses"] = status.misses
    answer["bytes fetched"] = status.bytes_fetched
    json.dump(answer, sys.stdout)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
