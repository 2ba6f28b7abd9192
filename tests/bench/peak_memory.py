"""How much memory a process takes beside its memory tier, at the worst moment.

    python -m tests.bench.peak_memory [--case NAME]... [--gib 8] [--files 1200] [--folder DIR]

Each case runs in a process of its own that does nothing but read. The kernel's own mark, VmHWM, is
the answer: all memory that the process ever had mapped, the tier's included. What is above the
tier's limit is what headrace, Python and what both import cost: the constant that docs/limits.md
states. A thread looks at the parts (RssAnon, RssShmem) a hundred times a second; a peak of theirs
between two looks is missed, one of VmHWM is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headrace_cache.service import CacheService
from headrace_mounts.connect import connect
from headrace_namespace.path import NamespacePath

MIB, GIB = 1 << 20, 1 << 30
MEMORY_BYTES = 256 * MIB
#: What the house promises beside its tiers (docs/limits.md), and what it would like to.
AIM_BYTES, STRETCH_BYTES = 256 * MIB, 128 * MIB

READ_BYTES = 8 * MIB
THREADS = 64
RANDOM_BYTES = 8 << 10
FILE_BYTES = 2 * GIB
READS_OF_EACH = 400
HOUSE = Path(__file__).parents[2]


# The child.


def status() -> dict[str, int]:
    """The figures of /proc/self/status that are sizes, in bytes."""
    found: dict[str, int] = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value[:-3]) << 10
    return found


class Watch:
    """The highest RssAnon and RssShmem seen, and of the tier's own count, until `close`."""

    def __init__(self, service: CacheService) -> None:
        self.most: dict[str, int] = {"RssAnon": 0, "RssShmem": 0, "used": 0, "descriptors": 0}
        self._service = service
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.01):
            now = status()
            now["used"] = self._service.status().tiers["memory"].used
            now["descriptors"] = len(os.listdir("/proc/self/fd"))
            for name, most in self.most.items():
                self.most[name] = max(most, now[name])


def read_through(service: CacheService, name: str, size: int) -> None:
    """The whole object, in order, into the same few bytes."""
    target = memoryview(bytearray(READ_BYTES))
    opened = service.open(NamespacePath.parse(name))
    for start in range(0, size, READ_BYTES):
        opened.read_into(start, target)
    opened.close()


def read_randomly(service: CacheService, files: int) -> None:
    """64 threads, each reading 8 KiB at a time anywhere in any of the files."""

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(READS_OF_EACH):
            opened = service.open(NamespacePath.parse(f"/data/f{chance.randrange(files)}"))
            start = chance.randrange(FILE_BYTES - RANDOM_BYTES)
            assert len(opened.read_at(start, start + RANDOM_BYTES)) == RANDOM_BYTES
            opened.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def child(config_file: str, what: str, amount: int) -> None:
    """Read as told, and print what it took as JSON."""
    service = connect(config_file)
    opened = status()
    watch = Watch(service)
    if what == "random":
        read_randomly(service, amount)
    else:
        read_through(service, what, amount)
    service.flush()
    watch.close()
    answer = dict(watch.most)
    answer["opened"] = opened["VmHWM"]
    answer["VmHWM"] = status()["VmHWM"]
    answer["limit"] = service.status().tiers["memory"].limit
    json.dump(answer, sys.stdout)


# The parent, which imports what it needs but holds no data.


def measured(
    folder: Path,
    mount: Mapping[str, object],
    ssd: str | int,
    what: str,
    amount: int,
    environ: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """What one child took; its cache is fresh."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        lines = ["[[mount]]", *(f"{key} = {json.dumps(value)}" for key, value in mount.items())]
        lines += ["[cache]", f'folder = "{own}/cache"', f'key_file = "{own}/key"']
        lines += [f'state_folder = "{own}/state"', f"memory = {MEMORY_BYTES}"]
        lines += [f"ssd = {json.dumps(ssd)}"]
        config = Path(own, "headrace.toml")
        config.write_text("\n".join(lines) + "\n")
        words = [sys.executable, "-m", "tests.bench.peak_memory"]
        done = subprocess.run(
            [*words, "--child", str(config), what, str(amount)],
            cwd=HOUSE,
            env={**os.environ, **(environ or {})},
            stdout=subprocess.PIPE,
            check=True,
        )
    took: dict[str, int] = json.loads(done.stdout)
    return took


def sparse_files(folder: Path, count: int, size: int) -> None:
    """Files that have a size and no bytes."""
    for number in range(count):
        with open(folder / f"f{number}", "wb") as file:
            file.truncate(size)


def noise(file: Path, size: int) -> None:
    """A file that cannot be compressed, of which no two pages are alike."""
    block = bytearray(os.urandom(8 * MIB))
    with open(file, "wb") as target:
        for number in range(size // len(block)):
            for page in range(0, len(block), MIB):
                block[page : page + 16] = (number * len(block) + page).to_bytes(16, "big")
            target.write(block)


def cold(folder: Path, gib: int) -> dict[str, int]:
    return _whole_file(folder, gib * GIB, 0)


def cold_ssd(folder: Path, gib: int) -> dict[str, int]:
    return _whole_file(folder, gib * GIB, f"{3 * gib}GiB")


def _whole_file(folder: Path, size: int, ssd: str | int) -> dict[str, int]:
    with tempfile.TemporaryDirectory(dir=folder) as data:
        noise(Path(data, "large"), size)
        return measured(folder, {"path": "/data", "url": data}, ssd, "/data/large", size)


def cold_s3(folder: Path, gib: int) -> dict[str, int]:
    from tests.servers.ceph import rgw
    from tests.untyped import boto3

    size = min(gib, 2) * GIB
    with ExitStack() as stack:
        own = stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-"))
        server = stack.enter_context(rgw(Path(own, "rgw")))
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="bench")
        client.put_object(Bucket="bench", Key="large", Body=bytes(range(256)) * (size >> 8))
        environ = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": "us-east-1",
        }
        mount = {"path": "/b", "url": "s3://bench"}
        return measured(folder, mount, 0, "/b/large", size, environ)


def random_reads(folder: Path, files: int) -> dict[str, int]:
    return _random(folder, files, 0)


def random_reads_ssd(folder: Path, files: int) -> dict[str, int]:
    return _random(folder, files, "20GiB")


def _random(folder: Path, files: int, ssd: str | int) -> dict[str, int]:
    with tempfile.TemporaryDirectory(dir=folder) as data:
        sparse_files(Path(data), files, FILE_BYTES)
        return measured(folder, {"path": "/data", "url": data}, ssd, "random", files)


def main(words: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="tests.bench.peak_memory")
    parser.add_argument("--gib", type=int, default=8)
    parser.add_argument("--files", type=int, default=1200)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--case", action="append")
    asked = parser.parse_args(words)
    cases: dict[str, Callable[[Path], dict[str, int]]] = {
        "cold": lambda folder: cold(folder, asked.gib),
        "cold-ssd": lambda folder: cold_ssd(folder, asked.gib),
        "cold-s3": lambda folder: cold_s3(folder, asked.gib),
        "random": lambda folder: random_reads(folder, asked.files),
        "random-ssd": lambda folder: random_reads_ssd(folder, asked.files),
    }
    table = Table(title="peak memory, MiB", title_justify="left")
    for heading in ("case", "VmHWM", "tier", "above", "RssAnon", "RssShmem", "at open", "files"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    missed: list[str] = []
    for name in asked.case or cases:
        with tempfile.TemporaryDirectory(dir=asked.folder) as own:
            took = cases[name](Path(own))
        above = took["VmHWM"] - took["limit"]
        shown = (took["VmHWM"], took["limit"], above, took["RssAnon"], took["RssShmem"])
        figures = [f"{figure / MIB:.0f}" for figure in (*shown, took["opened"])]
        table.add_row(name, *figures, str(took["descriptors"]))
        assert took["used"] <= took["limit"], f"{name}: the tier went over its limit"
        if above > AIM_BYTES:
            missed.append(name)
    Console().print(table)
    print(f"aim {AIM_BYTES // MIB} MiB above the tier, stretch {STRETCH_BYTES // MIB}")
    if missed:
        sys.exit(f"missed by {', '.join(missed)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(sys.argv[1:])
