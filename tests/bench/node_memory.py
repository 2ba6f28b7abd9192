"""What a node takes of memory beside its tiers, with many objects known and after hours of use.

    python -m tests.bench.node_memory [--objects 100000] [--minutes 1] [--clients 2] [--folder DIR]

First clients open and read every object of a folder of small files once, while the node's memory is
looked at; then, for so many minutes, clients come and go, each of which opens, reads, overwrites,
drops, mounts and unmounts. The memory tier is memfds, which the kernel counts as RssShmem, whether
or not the node alone uses them; what is above the tiers is RssAnon (Python, tables, threads) and
RssFile (programs and libraries, and of the SSD tier's index the pages that were looked at: these
the kernel takes back when others need memory). The tier's own tables of small objects lie in
RssAnon, and are charged to the tier (`ROW_BYTES` each): they are taken off.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headrace_cache.extents.arena import ROW_BYTES
from headrace_cache.service import CacheService
from headrace_mounts.connect import connect
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import HeadraceError, NotFound
from headrace_namespace.mount_declarations import read_written_mount
from headrace_namespace.path import NamespacePath
from tests.bench.peak_memory import AIM_BYTES, STRETCH_BYTES

MIB = 1 << 20
HOUSE = Path(__file__).parents[2]
OF_A_FOLDER = 1000
#: What one client of the churn does before it ends.
TURNS = 400
SIZES = ("RssAnon", "RssFile", "RssShmem", "VmHWM")


def name_of(number: int) -> str:
    """The object's name in the tree's folder."""
    return f"{number // OF_A_FOLDER:04}/{number:07}"


def content_of(number: int) -> bytes:
    """What is in it, so that a reader knows whether it is right."""
    return f"object {number}\n".encode() * 8


def make_objects(folder: Path, count: int) -> None:
    """Small files, 1,000 to a folder."""
    for number in range(count):
        if number % OF_A_FOLDER == 0:
            (folder / name_of(number)).parent.mkdir()
        with open(folder / name_of(number), "wb", buffering=0) as file:
            file.write(content_of(number))


# The clients.


def path_of(number: int) -> NamespacePath:
    return NamespacePath.parse(f"/data/{name_of(number)}")


def read_all(service: CacheService, start: int, stop: int) -> None:
    """Each object once."""
    for number in range(start, stop):
        opened = service.open(path_of(number))
        assert opened.read_at(0, opened.version.size) == content_of(number), number
        opened.close()


def churn(service: CacheService, config: str, seed: int, count: int) -> None:
    """All that clients do, in any order; then this one ends, what it has open left open."""
    chance = random.Random(seed)
    context = load_settings(config).context
    kept: list[object] = []
    for turn in range(TURNS):
        number = chance.randrange(count)
        what = chance.random()
        if what < 0.1:
            writer = service.create(path_of(number))
            writer.write(memoryview(content_of(number)))
            writer.commit()
        elif what < 0.15:
            service.drop(path_of(number))
        elif what < 0.2:
            assert sum(1 for _ in service.list(path_of(number).parent)) >= OF_A_FOLDER // 2
        elif what < 0.22:
            place = f"/mounted-{seed}-{turn}"
            written = {"path": place, "url": f"data/{number // OF_A_FOLDER:04}"}
            mount = read_written_mount(written, "mount", context)
            service.add_mount(mount)
            with suppress(NotFound):  # the node sees it within a second
                service.open(NamespacePath.parse(f"{place}/{number:07}")).close()
            service.remove_mount(NamespacePath.parse(place))
        elif what < 0.25:
            with suppress(NotFound):
                service.open(NamespacePath.parse(f"/data/none-{seed}-{turn}"))
        else:
            with suppress(HeadraceError):  # another overwrites it just now
                opened = service.open(path_of(number))
                assert opened.read_at(0, opened.version.size) == content_of(number), number
                kept.append(opened)


def client(words: list[str]) -> None:
    config, what, first, second = words
    service = connect(config)
    assert type(service).__name__ == "NodeService", "there is no node"
    if what == "read":
        read_all(service, int(first), int(second))
    else:
        churn(service, config, int(first), int(second))


def begun(*words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.bench.node_memory", "--client", *map(str, words)]
    return subprocess.Popen(command, cwd=HOUSE)


def ended(clients: list[subprocess.Popen[bytes]]) -> None:
    codes = [process.wait() for process in clients]
    if any(codes):
        sys.exit(f"a client ended with {codes}")


# The node, and the looks at it.


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What the node takes at one moment, in bytes, and its descriptors."""

    what: str
    sizes: dict[str, int]
    fds: int
    used: int
    #: What the memory tier counts for its own tables.
    tables: int

    @property
    def above(self) -> int:
        """What is above the tiers."""
        return self.sizes["RssAnon"] + self.sizes["RssFile"] - self.tables


def look(what: str, node: int, service: CacheService) -> Look:
    sizes: dict[str, int] = dict.fromkeys(SIZES, 0)
    for line in Path(f"/proc/{node}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in sizes:
            sizes[name] = int(value.removesuffix(" kB")) << 10
    fds = len(os.listdir(f"/proc/{node}/fd"))
    tier = service.status().tiers["memory"]
    seen = Look(what, sizes, fds, tier.used, tier.objects * ROW_BYTES)
    print(json.dumps({"above": seen.above, **dataclasses.asdict(seen)}), flush=True)
    return seen


@contextmanager
def running_node(config: Path) -> Generator[int]:
    command = [sys.executable, "-m", "headrace", "--config", str(config), "node"]
    node = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HOUSE)
    assert node.stderr is not None
    try:
        assert "serving" in node.stderr.readline()
        yield node.pid
    finally:
        node.terminate()
        node.wait(60)
        node.stderr.close()


def measured(root: Path, objects: int, minutes: float, clients: int) -> list[Look]:
    (root / "data").mkdir()
    make_objects(root / "data", objects)
    config = root / "headrace.toml"
    config.write_text(
        '[[mount]]\npath = "/data"\nurl = "data"\n[cache]\nfolder = "cache"\nkey_file = "key"\n'
        'state_folder = "state"\nmemory = "256MiB"\nssd = "2GiB"\n'
    )
    with running_node(config) as node:
        service = connect(config)
        looks = [look("at start", node, service)]
        step = max(1, min(objects, 100_000))
        for start in range(0, objects, step):
            stop = min(objects, start + step)
            part = -(-(stop - start) // clients)
            ended(
                [
                    begun(config, "read", first, min(stop, first + part))
                    for first in range(start, stop, part)
                ]
            )
            looks.append(look(f"{stop:,} objects", node, service))
        until, seed = time.monotonic() + 60 * minutes, 0
        told = time.monotonic()
        while time.monotonic() < until:
            ended([begun(config, "churn", seed + number, objects) for number in range(clients)])
            seed += clients
            if time.monotonic() - told >= 60 or time.monotonic() >= until:
                told = time.monotonic()
                looks.append(look(f"{seed} clients", node, service))
    return looks


def main(words: list[str]) -> None:
    """Print the table; fails where the node takes more than the house promises."""
    parser = argparse.ArgumentParser(prog="tests.bench.node_memory")
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", dir=asked.folder) as root:
        looks = measured(Path(root), asked.objects, asked.minutes, asked.clients)
    table = Table(title="the node's memory, MiB", title_justify="left")
    for heading in ("after", "above", *SIZES, "tables", "tier", "fds"):
        table.add_column(heading, justify="left" if heading == "after" else "right")
    for seen in looks:
        figures = (seen.above, *seen.sizes.values(), seen.tables, seen.used)
        table.add_row(seen.what, *(f"{figure / MIB:.0f}" for figure in figures), str(seen.fds))
    Console().print(table)
    print(f"aim {AIM_BYTES // MIB} MiB above the tiers, stretch {STRETCH_BYTES // MIB}")
    if max(seen.above for seen in looks) > AIM_BYTES:
        sys.exit("missed")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        client(sys.argv[2:])
    else:
        main(sys.argv[1:])
