"""Reading through a node beside a cache of one's own and a local file, all of it warm.

`python -m tests.bench.node [MB]`. Opens, random reads of 4 KiB and one long read in one process;
then 1, 2 and 8 processes at once, each reading the whole object again and again, with the node's
CPU time: where it lends memory, no byte passes through it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headrace_cache.service import CacheService
from headrace_mounts.connect import connect, disconnect_all
from headrace_namespace.path import NamespacePath
from tests.bench.fair import race, show

OPENS, READS = 500, 20_000
SECONDS = 3.0
OBJECT = NamespacePath("/data/object")


def config(root: Path, name: str) -> Path:
    """A configuration of its own for each, so that one has a node and the other has none."""
    file = root / f"{name}.toml"
    file.write_text(
        f'[[mount]]\npath = "/data"\nurl = "data"\n[cache]\nfolder = "{name}/cache"\n'
        f'key_file = "{name}/key"\nstate_folder = "{name}/state"\nmemory = "2GiB"\nssd = "0"\n'
    )
    (root / name).mkdir()
    return file


def main(megabytes: int = 256) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        root = Path(name)
        (root / "data").mkdir()
        file = root / "data/object"
        with file.open("wb") as target:
            for _ in range(megabytes):
                target.write(os.urandom(1 << 20))
        with_node, alone = config(root, "node"), config(root, "alone")
        command = [sys.executable, "-m", "headrace", "--config", str(with_node), "node"]
        node = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert node.stderr is not None
            assert "serving" in node.stderr.readline()
            _in_one_process(file, connect(with_node), connect(alone))
            disconnect_all()
            for processes in (1, 2, 8):
                _at_once(processes, with_node, node.pid)
        finally:
            node.terminate()
            node.wait(30)
            assert node.stderr is not None
            node.stderr.close()


def _in_one_process(file: Path, node: CacheService, own: CacheService) -> None:
    size = file.stat().st_size
    places = [random.randrange(size - 4096) for _ in range(READS)]
    local = os.open(file, os.O_RDONLY)
    opened = {"node": node.open(OBJECT), "embedded": own.open(OBJECT)}
    for each in opened.values():
        each.read_at(0, size)

    def opens(service: CacheService) -> None:
        for _ in range(OPENS):
            service.open(OBJECT).close()

    def local_opens() -> None:
        for _ in range(OPENS):
            os.close(os.open(file, os.O_RDONLY))

    def reads(name: str) -> None:
        handle = opened[name]
        for place in places:
            handle.read_at(place, place + 4096)

    def local_reads() -> None:
        for place in places:
            os.pread(local, 4096, place)

    title = f"{OPENS} opens"
    show(
        title,
        race(
            {
                "local": local_opens,
                "embedded": lambda: opens(own),
                "node": lambda: opens(node),
            }
        ),
    )
    show(
        f"{READS} reads of 4 KiB",
        race(
            {
                "local": local_reads,
                "embedded": lambda: reads("embedded"),
                "node": lambda: reads("node"),
            }
        ),
    )
    show(
        f"one read of {size >> 20} MiB",
        race(
            {
                "local": lambda: len(os.pread(local, size, 0)),
                "embedded": lambda: len(opened["embedded"].read_at(0, size)),
                "node": lambda: len(opened["node"].read_at(0, size)),
            }
        ),
    )
    os.close(local)
    for each in opened.values():
        each.close()


_READER = """
import json, sys, time
from headrace_mounts.connect import connect
from headrace_namespace.path import NamespacePath
opened = connect(sys.argv[1]).open(NamespacePath("/data/object"))
size, target = opened.version.size, bytearray(8 << 20)
opened.read_into(0, memoryview(target))
sys.stdin.readline()
count, end = 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    for start in range(0, size, len(target)):
        count += opened.read_into(start, memoryview(target))
print(json.dumps(count))
"""


def _at_once(processes: int, config_file: Path, node: int) -> None:
    command = [sys.executable, "-c", _READER, str(config_file), str(SECONDS)]
    readers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    time.sleep(2.0)  # they open; nothing is measured yet
    before, begun = _cpu_seconds(node), time.perf_counter()
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    total = sum(json.loads(reader.communicate()[0]) for reader in readers) / 2**30
    taken = time.perf_counter() - begun
    cpu = _cpu_seconds(node) - before
    print(
        f"{processes} processes: {total / taken:.1f} GiB/s together; the node: "
        f"{cpu / total:.4f} CPU s per GiB"
    )


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
