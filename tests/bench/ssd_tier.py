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
from pathlib import Path

from headrace_cache.page import PageId
from headrace_cache.tiers.fork_aware import ForkAwareTier
from headrace_cache.tiers.ssd import open_ssd_tier

MIB, GIB = 1 << 20, 1 << 30
PAGES = 256
BATCH = 16
SMALL = 100_000


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def version(number: int) -> bytes:
    return number.to_bytes(16, "big")


def opened(root: Path, name: str) -> ForkAwareTier:
    return open_ssd_tier(
        folder=root / name, limit_bytes=4 * GIB, key_file=root / f"{name}.key", page_bytes=MIB
    )


def streaming(root: Path) -> None:
    source = memoryview(mmap.mmap(-1, PAGES * MIB))
    for number in range(PAGES):
        source[number * MIB : (number + 1) * MIB] = os.urandom(MIB)
    target = memoryview(mmap.mmap(-1, PAGES * MIB))
    target[:] = source  # touched once, so that no run pays for fresh memory
    pieces = [slice(number * MIB, (number + 1) * MIB) for number in range(PAGES)]
    rows: dict[str, list[float]] = {
        "plain write, a new file": [],
        "tier store": [],
        "plain read": [],
        "tier load": [],
    }
    for turn in range(3):
        plain = os.open(root / f"plain-{turn}", os.O_RDWR | os.O_CREAT)
        tier = opened(root, f"stream-{turn}")
        pages = [PageId(version(1), number) for number in range(PAGES)]

        def write(plain: int = plain) -> None:
            for piece in pieces:
                os.pwrite(plain, source[piece], piece.start)

        def read(plain: int = plain) -> None:
            for piece in pieces:
                os.preadv(plain, [target[piece]], piece.start)

        def store(tier: ForkAwareTier = tier, pages: list[PageId] = pages) -> None:
            for first in range(0, PAGES, BATCH):
                tier.store([(page, source[pieces[page.index]]) for page in pages[first:][:BATCH]])

        def load(tier: ForkAwareTier = tier, pages: list[PageId] = pages) -> None:
            for first in range(0, PAGES, BATCH):
                wanted = [(page, target[pieces[page.index]]) for page in pages[first:][:BATCH]]
                assert all(tier.load(wanted))

        for name, work in zip(rows, (write, store, read, load), strict=True):
            rows[name].append(PAGES * MIB / GIB / seconds(work))
        assert target == source
        os.close(plain)
        tier.close()
    for name, rates in rows.items():
        print(f"{name:42} {max(rates):8.2f} GiB/s")


def index(root: Path) -> None:
    tier = opened(root, "index")
    data = os.urandom(4096)
    stored = 0
    for count in (1000, SMALL):
        took = 0.0
        first = stored
        for start in range(first, count, 500):
            batch = [
                (PageId(version(number), 0), memoryview(data))
                for number in range(start, min(count, start + 500))
            ]
            took += seconds(lambda batch=batch: tier.store(batch))  # type: ignore[misc]
        stored = count
        usage = tier.usage()
        sealed = count * (4096 + 64)
        print(f"{count:7} objects of 4 KiB: store {(count - first) / took:16.0f} objects/s")
        print(f"{'':8}index in use {(usage.used - sealed) / usage.objects:23.0f} bytes/object")
        step = max(1, count // 1000)
        names = [PageId(version(number * step * 7919 % count), 0) for number in range(1000)]
        target = memoryview(bytearray(4096))
        single = seconds(lambda names=names: [tier.load([(n, target)]) for n in names] and None)  # type: ignore[misc]
        batch_load = seconds(lambda names=names: tier.load([(n, target) for n in names]) and None)  # type: ignore[misc]
        look = seconds(lambda names=names: [tier.holds(n) for n in names] and None)  # type: ignore[misc]
        print(f"{'':8}look-up (holds) {look * 1000:20.1f} microseconds")
        print(f"{'':8}load, one by one {single * 1000:19.1f} microseconds")
        print(f"{'':8}load, a batch of 1000 {batch_load * 1000:14.1f} microseconds a page")
    file_bytes = (root / "index" / "index" / "data.mdb").stat().st_size
    print(f"{'':8}index file {file_bytes / SMALL:25.0f} bytes/object")
    tier.close()


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as root:
        streaming(Path(root))
        index(Path(root))


if __name__ == "__main__":
    main()
