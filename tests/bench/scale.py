"""What a known object costs, and whether a hit costs more where many are known.

    python -m tests.bench.scale [--most 1000000] [--folder DIR] [--memory-objects 1000000]

Known to the SSD tier: objects of one small page, stored by the tier's own code in batches, 1,000 to
a folder. Known to memory: objects of 4 KiB, read once through a whole service over a store that
answers at once, so that what is measured is our own work. Each cost is taken at 1,000 objects and
at many, the two taking turns in one run; objects are chosen at random among all. It is counted in
the processor's seconds, so that a neighbour on the machine takes no part in it.

10 million fill by the tier's own code at some thousands a second: half an hour and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.opening import open_ssd_tier
from headrace_cache.tiers.ssd.sealing import OVERHEAD_BYTES
from headrace_namespace.backends.protocol import Folder
from headrace_namespace.freshness import CHECK, PINNED, Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.metadata.protocol import Observation
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name
from tests.bench.fair import Figure, race, show
from tests.fakes.local_cache import Rig
from tests.fakes.memory_backend import MemoryBackend

MIB, GIB = 1 << 20, 1 << 30
FEW = 1000
BATCH = 500
#: Objects of one folder; each folder is a scope of the index.
OF_A_FOLDER = 1000
#: The tier's room: with it the index may hold some 11 million.
SSD_BYTES = 80 * GIB
#: Looked up in one turn of the race.
LOOKED_UP = 2000
ROUNDS = 15
OBJECT_BYTES = 4096
HOUSE = Path(__file__).parents[2]

AIM_INDEX_BYTES, STRETCH_INDEX_BYTES = 300, 260
AIM_RATIO, STRETCH_RATIO = 1.2, 1.05


def resident() -> int:
    """RssAnon of this process: what Python's objects take, without the tier's own memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise LookupError("RssAnon")


def verdict(figures: dict[str, Figure]) -> None:
    few, many = figures.values()
    # The least is what the work itself takes; the median has the neighbours' work in it.
    print(
        f"  many / few: {many.median / few.median:.2f} (medians), {many.least / few.least:.2f} "
        f"(least); aim {AIM_RATIO}, stretch {STRETCH_RATIO}\n"
    )


# The SSD tier.


def version(number: int) -> bytes:
    """A digest: these do not come in order."""
    return random.Random(number).randbytes(16)


def scope(number: int) -> Scope:
    folder = NamespacePath(f"/lake/part={number // OF_A_FOLDER:05}")
    return Scope(frozenset({Name(folder, NamespacePath("/lake"), frozenset())}))


def content(number: int) -> bytes:
    return number.to_bytes(8, "big") * 4


class SealedObjects:
    """A cache folder with so many objects of one page."""

    def __init__(self, root: Path, count: int) -> None:
        self.count = count
        self.root = root / f"{count}"
        self.root.mkdir()
        self.tier = self.open()

    def open(self) -> PageTier:
        return open_ssd_tier(
            folder=self.root / "cache",
            limit_bytes=SSD_BYTES,
            key_file=self.root / "key",
            page_bytes=MIB,
        )

    def fill(self) -> None:
        begun = time.perf_counter()
        for start in range(0, self.count, BATCH):
            numbers = range(start, min(self.count, start + BATCH))
            self.tier.store_each(
                [(PageId(version(n), 0), memoryview(content(n)), scope(n)) for n in numbers]
            )
            if start and start % MIB < BATCH:
                print(f"  {start:,} stored, {start / (time.perf_counter() - begun):.0f}/s")
        taken = time.perf_counter() - begun
        print(f"{self.count:,} objects stored in {taken:.0f} s, {self.count / taken:.0f}/s")

    def report(self) -> None:
        usage = self.tier.usage()
        assert usage.objects == self.count, f"the tier holds {usage.objects} objects"
        index_bytes = usage.used - usage.objects * (32 + OVERHEAD_BYTES)
        file = (self.root / "cache/index/data.mdb").stat()
        print(
            f"{self.count:,} objects: index in use {index_bytes / self.count:.0f} bytes an object "
            f"(aim {AIM_INDEX_BYTES}, stretch {STRETCH_INDEX_BYTES}), its file "
            f"{file.st_size / self.count:.0f} ({file.st_blocks * 512 / self.count:.0f} on the disk)"
        )

    def look_up(self) -> None:
        for number in self._some():
            assert self.tier.holds(PageId(version(number), 0))

    def load(self) -> None:
        target = memoryview(bytearray(32))
        for number in self._some():
            assert self.tier.load([(PageId(version(number), 0), target)]) == [True]
            assert target == content(number)

    def _some(self) -> Iterator[int]:
        return (random.randrange(self.count) for _ in range(LOOKED_UP))

    def start(self) -> None:
        """Open and close it in a process of its own, which imports nothing else."""
        words = [str(self.root), str(SSD_BYTES)]
        subprocess.run(
            [sys.executable, "-c", _START, *words], cwd=HOUSE, check=True, stdout=subprocess.DEVNULL
        )


_START = """
import sys
from pathlib import Path
from headrace_cache.tiers.ssd.opening import open_ssd_tier
root = Path(sys.argv[1])
tier = open_ssd_tier(
    folder=root / "cache", limit_bytes=int(sys.argv[2]), key_file=root / "key", page_bytes=1 << 20
)
assert tier.usage().objects
tier.close()
"""


def sealed(root: Path, most: int) -> None:
    """The SSD tier's index, look-ups, loads and start."""
    few, many = SealedObjects(root, FEW), SealedObjects(root, most)
    for objects in (few, many):
        objects.fill()
        objects.report()
    names = [f"{objects.count:,} objects" for objects in (few, many)]

    def beside(
        title: str,
        works: list[Callable[[], None]],
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        figures = race(dict(zip(names, works, strict=True)), rounds=ROUNDS, clock=clock)
        show(title, figures)
        verdict(figures)

    beside(f"SSD tier: {LOOKED_UP} look-ups", [few.look_up, many.look_up])
    beside(f"SSD tier: {LOOKED_UP} loads, one by one", [few.load, many.load])
    few.tier.close()
    many.tier.close()
    title = "SSD tier: a process that opens and closes it"
    beside(title, [few.start, many.start], time.perf_counter)


# Memory.


class Answering(MemoryBackend):
    """A store that has every object and answers at once, as a local one does."""

    @property
    def stat_is_cheap(self) -> bool:
        return True

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        return ObjectVersion(self.ref(key), "v1-1234567890-abcdef", OBJECT_BYTES, True, mtime=1.0)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        target[:] = bytes(len(target))


def name_of(number: int) -> NamespacePath:
    return NamespacePath(f"/lake/part={number // OF_A_FOLDER:05}/object-{number:08}.bin")


class KeptObjects:
    """A service that has read so many objects, all of which memory holds."""

    def __init__(self, count: int, freshness: Freshness) -> None:
        self.count = count
        self.rig = Rig(
            {"/lake": Answering("bench:lake")},
            memory_bytes=max(64 * MIB, count * 8192),
            most_extents=4096,
            freshness=freshness,
        )

    def fill(self) -> None:
        for number in range(self.count):
            self._read(number)
        used = self.rig.service.status().tiers["memory"]
        assert used.objects == self.count, f"memory holds {used.objects} objects"

    def hit(self) -> None:
        for _ in range(LOOKED_UP):
            self._read(random.randrange(self.count))

    def _read(self, number: int) -> None:
        opened = self.rig.service.open(name_of(number))
        assert len(opened.read_at(0, OBJECT_BYTES)) == OBJECT_BYTES
        opened.close()


@contextmanager
def kept(count: int, freshness: Freshness) -> Generator[KeptObjects]:
    objects = KeptObjects(count, freshness)
    try:
        before = resident()
        objects.fill()
        grown = resident() - before
        print(f"{count:,} objects of 4 KiB in memory: {grown / count:.0f} bytes an object of ours")
        yield objects
    finally:
        objects.rig.service.close()


def in_memory(most: int) -> None:
    """What memory takes for an object beside its bytes, and what a hit costs."""
    for word, freshness in (("check", CHECK), ("pinned", PINNED)):
        with kept(FEW, freshness) as few, kept(most, freshness) as many:
            works = {f"{o.count:,} objects": o.hit for o in (few, many)}
            figures = race(works, rounds=ROUNDS, clock=time.process_time)
            show(f"memory, {word}: {LOOKED_UP} opens, 4 KiB read of each", figures)
            verdict(figures)


def answers(most: int) -> None:
    """What remembering stores' answers takes, and that it is bounded."""
    metadata = MemoryMetadata()
    before = resident()
    for number in range(most):
        ref = ObjectRef("s3:lake", name_of(number).text)
        known = ObjectVersion(ref, f'"{number:032x}"', number, True, mtime=float(number))
        metadata.put(Observation(known, float(number)))
    held = sum(metadata.get(ObjectRef("s3:lake", name_of(n).text)) is not None for n in range(most))
    grown = resident() - before
    print(
        f"{most:,} answers of stores told, {held:,} remembered: {grown / MIB:.0f} MiB, "
        f"{grown / held:.0f} bytes each\n"
    )


def main(words: list[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="tests.bench.scale")
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--memory-objects", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args(words)
    works: list[Callable[[], None]] = []
    if asked.memory_objects:
        works += [partial(answers, asked.memory_objects), partial(in_memory, asked.memory_objects)]
    for work in works:
        # Each in a child: what one took and gave back would hide what the next takes.
        child = os.fork()
        if not child:
            work()
            sys.stdout.flush()
            os._exit(0)
        _, code = os.waitpid(child, 0)
        if code:
            sys.exit("a part failed")
    if asked.most:
        with tempfile.TemporaryDirectory(dir=asked.folder) as root:
            sealed(Path(root), asked.most)


if __name__ == "__main__":
    main(sys.argv[1:])
