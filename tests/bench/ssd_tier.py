"""How fast the sealed SSD tier is beside a plain file, and what its index costs.

    python -m tests.bench.ssd_tier [FOLDER]

Pages are incompressible and the page cache is warm: this measures our own work, not the disk.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.opening import open_ssd_tier
from headrace_cache.tiers.ssd.sealing import OVERHEAD_BYTES
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name

MIB, GIB = 1 << 20, 1 << 30
PAGES = 256
BATCH = 16
SMALL = 100_000
FOLDER = Scope(frozenset({Name(NamespacePath("/lake"), NamespacePath("/lake"), frozenset())}))


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def version(number: int) -> bytes:
    return number.to_bytes(16, "big")


def opened(root: Path, name: str) -> PageTier:
    return open_ssd_tier(
        folder=root / name, limit_bytes=4 * GIB, key_file=root / f"{name}.key", page_bytes=MIB
    )


def streaming(root: Path) -> None:
    source = memoryview(mmap.mmap(-1, PAGES * MIB))
    for number in range(PAGES):
        source[number * MIB : (number + 1) * MIB] = os.urandom(MIB)
    target = memoryview(mmap.mmap(-1, PAGES * MIB))
    target[:] = source  # touched once, so that no run pays for fresh memory
    pages = [PageId(version(1), number) for number in range(PAGES)]
    batches = [pages[first : first + BATCH] for first in range(0, PAGES, BATCH)]

    def piece(memory: memoryview, page: PageId) -> memoryview:
        return memory[page.index * MIB : (page.index + 1) * MIB]

    def write(plain: int) -> None:
        for page in pages:
            os.pwrite(plain, piece(source, page), page.index * MIB)

    def read(plain: int) -> None:
        for page in pages:
            os.preadv(plain, [piece(target, page)], page.index * MIB)

    def store(tier: PageTier) -> None:
        for batch in batches:
            tier.store([(page, piece(source, page)) for page in batch], FOLDER)

    def load(tier: PageTier) -> None:
        for batch in batches:
            assert all(tier.load([(page, piece(target, page)) for page in batch]))

    rates: dict[str, list[float]] = {}
    for turn in range(3):
        plain = os.open(root / f"plain-{turn}", os.O_RDWR | os.O_CREAT)
        tier = opened(root, f"stream-{turn}")
        for name, work in (
            ("plain write, a new file", partial(write, plain)),
            ("tier store", partial(store, tier)),
            ("plain read", partial(read, plain)),
            ("tier load", partial(load, tier)),
        ):
            rates.setdefault(name, []).append(PAGES * MIB / GIB / seconds(work))
        assert target == source
        os.close(plain)
        tier.close()
    for name, measured in rates.items():
        print(f"{name:42} {max(measured):8.2f} GiB/s")


def index(root: Path) -> None:
    tier = opened(root, "index")
    data = memoryview(os.urandom(4096))
    target = memoryview(bytearray(4096))
    stored = 0

    def store(first: int, stop: int) -> None:
        for start in range(first, stop, 500):
            numbers = range(start, min(stop, start + 500))
            tier.store([(PageId(version(number), 0), data) for number in numbers], FOLDER)

    def load_singly(names: list[PageId]) -> None:
        for name in names:
            assert tier.load([(name, target)]) == [True]

    def load_at_once(names: list[PageId]) -> None:
        assert all(tier.load([(name, target) for name in names]))

    def look(names: list[PageId]) -> None:
        for name in names:
            assert tier.holds(name)

    for count in (1000, SMALL):
        took = seconds(partial(store, stored, count))
        print(f"{count:7} objects of 4 KiB: store {(count - stored) / took:16.0f} objects/s")
        stored = count
        usage = tier.usage()
        index_bytes = usage.used - count * (4096 + OVERHEAD_BYTES)
        print(f"{'':8}index in use {index_bytes / usage.objects:23.0f} bytes/object")
        names = [PageId(version(number * 7919 % count), 0) for number in range(1000)]
        for label, work in (
            ("look-up (holds)", look),
            ("load, one by one", load_singly),
            ("load, 1000 at once", load_at_once),
        ):
            print(f"{'':8}{label:20} {seconds(partial(work, names)) * 1000:15.1f} us/page")
    file_bytes = (root / "index" / "index" / "data.mdb").stat().st_size
    print(f"{'':8}index file {file_bytes / SMALL:25.0f} bytes/object")
    tier.close()


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as root:
        streaming(Path(root))
        index(Path(root))


if __name__ == "__main__":
    main()
