"""Reading an object back from the sealed SSD tier after a restart, beside a plain file.

    python -m tests.bench.ssd_restart [MB] [FOLDER]

The same incompressible bytes lie in a plain file and, sealed, in the tier, on one disk. Each round
is a new process, and the kernel has dropped both from its cache before. What is timed is the open
and the reads into memory that the caller has used before; the processor's seconds stand beside it.

A cache in memory must touch new memory before it can give anything, which a plain file need not:
the contender "through a memfd" reads the plain file into a new memfd and copies it from there, in
one thread. It is what this costs at the least, without sealing.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.fair import Figure, show

MIB = 1 << 20
READ_BYTES = 8 * MIB
ROUNDS = 5
#: What `show` names and what `child` does: who reads, in reads of how many bytes (None: in one).
CONTENDERS = {
    "plain file, 8 MiB reads": ("plain", READ_BYTES),
    "plain file, one read": ("plain", None),
    "plain file, through a memfd": ("memfd", READ_BYTES),
    "headrace, 8 MiB reads": ("headrace", READ_BYTES),
    "headrace, one read": ("headrace", None),
}


def config_of(root: Path, megabytes: int) -> dict[str, Any]:
    """The object's mount, and a cache of which memory and SSD hold it whole."""
    return {
        "mount": [{"path": "/lake", "url": str(root / "lake")}],
        "cache": {
            "folder": str(root / "cache"),
            "key_file": str(root / "key"),
            "state_folder": str(root / "state"),
            "memory": 5 * megabytes * MIB,
            "ssd": 3 * megabytes * MIB,
        },
    }


def prepare(root: Path, megabytes: int) -> None:
    """Make the file, and read it once through headrace, which seals it."""
    (root / "lake").mkdir()
    with open(root / "lake/object", "wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(MIB))
    shutil.copyfile(root / "lake/object", root / "plain")
    child(root, "headrace", None)


def forget(root: Path) -> None:
    """Let the kernel drop what it holds of every file here."""
    for folder, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)  # what is still to be written cannot be dropped
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def child(root: Path, kind: str, read_bytes: int | None) -> dict[str, float]:
    """What a new process measured."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.ssd_restart", "--child", str(root), kind]
        + ([] if read_bytes is None else [str(read_bytes)]),
        stdout=subprocess.PIPE,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def measure(root: Path, kind: str, read_bytes: int | None) -> dict[str, float]:
    """In the child: open and read it all; seconds, the processor's, and MiB from the store."""
    size = (root / "plain").stat().st_size
    target = memoryview(mmap.mmap(-1, size))
    for start in range(0, size, MIB):
        target[start : start + MIB] = bytes(MIB)
    step = size if read_bytes is None else read_bytes
    opened, fetched = headrace(root, size // MIB) if kind == "headrace" else plain(root, kind)
    start_at, cpu_at = time.perf_counter(), time.process_time()
    with opened() as file:
        for start in range(0, size, step):
            part = target[start : start + step]
            while len(part):
                part = part[file.readinto(part) :]
    seconds, cpu = time.perf_counter() - start_at, time.process_time() - cpu_at
    with (
        open(root / "plain", "rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as right,
    ):
        assert memoryview(right) == target
    return {"seconds": seconds, "cpu": cpu, "fetched": fetched() / MIB}


def plain(root: Path, kind: str) -> tuple[Callable[[], Any], Callable[[], int]]:
    opened = io.FileIO if kind == "plain" else ThroughMemfd
    return lambda: opened(root / "plain"), lambda: 0


class ThroughMemfd(io.FileIO):
    """A file whose bytes are put into shared memory first, and copied from there."""

    def readinto(self, buffer: Any, /) -> int:
        """As the file's."""
        start, scratch = self.tell(), memoryview(bytearray(MIB))
        if start == 0:
            self._memory = os.memfd_create("bench")
        for at in range(start, start + len(buffer), MIB):
            count = super().readinto(scratch)
            os.pwrite(self._memory, scratch[:count], at)
        return os.preadv(self._memory, [buffer], start)


def headrace(root: Path, megabytes: int) -> tuple[Callable[[], Any], Callable[[], int]]:
    from headrace_mounts.fsspec_fs import HeadraceFileSystem

    tree: Any = HeadraceFileSystem(config=config_of(root, megabytes))
    return (
        lambda: tree.open("/lake/object"),
        lambda: int(tree.service.status().bytes_fetched),
    )


def main(megabytes: int = 1024, folder: str | None = None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=folder) as name:
        root = Path(name)
        prepare(root, megabytes)
        found: dict[str, list[dict[str, float]]] = {label: [] for label in CONTENDERS}
        for _ in range(ROUNDS):
            for label in random.sample(list(CONTENDERS), len(CONTENDERS)):
                forget(root)
                found[label].append(child(root, *CONTENDERS[label]))
        figures: dict[str, Figure] = {}
        for label, rounds in found.items():
            seconds = [one["seconds"] for one in rounds]
            figures[label] = Figure(statistics.median(seconds), min(seconds), max(seconds))
        show(f"{megabytes} MiB into the caller's memory, the kernel's cache dropped", figures)
        for label, rounds in found.items():
            cpu = statistics.median(one["cpu"] for one in rounds) * 1024 / megabytes
            fetched = max(one["fetched"] for one in rounds)
            print(f"  {label}: {cpu:.2f} CPU s per GiB, at most {fetched:.0f} MiB from the store")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--child"]:
        read_bytes = int(given[3]) if len(given) > 3 else None
        print(json.dumps(measure(Path(given[1]), given[2], read_bytes)))
    else:
        main(int(given[0]) if given else 1024, given[1] if len(given) > 1 else None)
