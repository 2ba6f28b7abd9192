"""How long a start takes with many small objects: after an orderly end, and after a kill.

    python -m tests.crash.start_up [OBJECTS] [FOLDER]

Each start is a fresh process; it is measured from opening the tier to its first page, without
Python's own start. The CPU time beside it is what remains of it on a busy machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headrace_cache.extents.page import PageId
from tests.cache.tiers.ssd_world import HOUSE, MIB, SsdWorld
from tests.conformance.page_tier_suite import FOLDER, loaded

OBJECTS = 100_000
LENGTH = 2000
BATCH = 512


def page(number: int) -> PageId:
    return PageId(number.to_bytes(16, "big"), 0)


def content(number: int) -> bytes:
    return number.to_bytes(8, "big") * (LENGTH // 8)


def fill(world: SsdWorld, objects: int) -> None:
    tier = world.open()
    for first in range(0, objects, BATCH):
        numbers = range(first, min(first + BATCH, objects))
        tier.store([(page(n), memoryview(content(n))) for n in numbers], FOLDER)
    tier.close()


def start(world: SsdWorld, number: int, end: str) -> None:
    """In the fresh process: print seconds and CPU seconds to the first page, and end as told."""
    begun, cpu = time.perf_counter(), time.process_time()
    tier = world.open()
    assert loaded(tier, page(number), LENGTH) == content(number)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    begun = time.perf_counter()
    if end == "close":
        tier.close()
    print(f"{seconds:.3f} {cpu:.3f} {time.perf_counter() - begun:.3f}", flush=True)
    if end == "kill":
        os.kill(os.getpid(), 9)


def measured(world: SsdWorld, objects: int, end: str) -> str:
    command = [sys.executable, "-m", "tests.crash.start_up", "start", str(world.root)]
    done = subprocess.run(
        [*command, str(objects - 1), end], cwd=HOUSE, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


def main() -> None:
    if sys.argv[1:2] == ["start"]:
        start(SsdWorld(Path(sys.argv[2]), 4096 * MIB), int(sys.argv[3]), sys.argv[4])
        return
    objects = int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as root:
        world = SsdWorld(Path(root), 4096 * MIB)
        fill(world, objects)
        index = (world.folder / "index" / "data.mdb").stat().st_size
        print(f"{objects} objects, an index of {index / MIB:.1f} MiB")
        print("seconds to the first page, of these CPU, and to close")
        for number in range(3):
            print(f"after an orderly end, {number}: {measured(world, objects, 'close')}")
        measured(world, objects, "kill")
        for number in range(3):
            print(f"after a kill, {number}: {measured(world, objects, 'kill')}")


if __name__ == "__main__":
    main()
