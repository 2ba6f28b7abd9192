"""Cold reads from S3 beside s3fs and pyarrow, each keeping the bytes.

`python -m tests.bench.cold_s3 [MB]` starts a Ceph RGW, and reads it on loopback, and as if it were
far away (tests/servers/far_away.py): a time until the first byte and a speed for each connection,
as real buckets have. The client's CPU seconds stand beside the wall time: on two shared cores the
server takes its part of the machine.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headrace_mounts.connect import disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from tests.bench.fair import race, show
from tests.servers.ceph import RgwServer, rgw
from tests.servers.far_away import BYTES_PER_SECOND, FIRST_BYTE_SECONDS, far_away
from tests.untyped import boto3, fsspec, pa_fs

RANGE_BYTES = 8 << 20
#: As many as headrace asks for at once.
STREAMS = 16


def main(megabytes: int = 1024) -> None:
    """Print the tables."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as name,
        rgw(Path(name) / "rgw") as server,
        far_away(server.endpoint) as from_afar,
    ):
        _put(server, megabytes)
        Path(name, "keys.ini").write_text(
            f"[default]\naws_access_key_id = {server.access_key}\n"
            f"aws_secret_access_key = {server.secret_key}\n"
        )
        afar = f"{FIRST_BYTE_SECONDS * 1000:.0f} ms and {BYTES_PER_SECOND // 10**6} MB/s away"
        for where, endpoint in (("on loopback", server.endpoint), (afar, from_afar)):
            _compare(where, _contenders(server, endpoint, Path(name), megabytes << 20), megabytes)


def _put(server: RgwServer, megabytes: int) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bench")
    client.put_object(Bucket="bench", Key="large", Body=bytes(range(256)) * (megabytes << 12))


def _compare(where: str, contenders: dict[str, Callable[[], None]], megabytes: int) -> None:
    cpu: dict[str, list[float]] = {label: [] for label in contenders}

    def counted(label: str) -> Callable[[], None]:
        def run() -> None:
            before = time.process_time()
            contenders[label]()
            cpu[label].append(time.process_time() - before)

        return run

    figures = race({label: counted(label) for label in contenders}, rounds=5, before=_forget)
    show(f"{megabytes} MiB from S3, {where}, into the caller's memory", figures)
    for label, seconds in cpu.items():
        print(f"  {label}: {statistics.median(seconds) * 1024 / megabytes:.2f} CPU s per GiB")
    _forget()


def _forget() -> None:
    disconnect_all()
    HeadraceFileSystem.clear_instance_cache()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    gc.collect()


def _contenders(
    server: RgwServer, endpoint: str, folder: Path, size: int
) -> dict[str, Callable[[], None]]:
    """By name: each brings the object's bytes into memory of the caller."""
    mount = {
        "path": "/b",
        "url": "s3://bench",
        "options": {"endpoint_url": endpoint, "credentials_file": f"{folder}/keys.ini"},
    }
    config = {
        "mount": [mount],
        # An object of at most a quarter of the tier lies in one piece, for read_buffer.
        "cache": {"folder": f"{folder}/cache", "memory": 4 * size, "ssd": 0},
    }
    options: dict[str, Any] = {"key": server.access_key, "secret": server.secret_key}
    options["client_kwargs"] = {"endpoint_url": endpoint}
    arrow: Any = pa_fs.S3FileSystem(
        access_key=server.access_key,
        secret_key=server.secret_key,
        endpoint_override=endpoint,
        region="us-east-1",
    )
    sink = bytearray(size)
    starts = range(0, size, RANGE_BYTES)

    def headrace_copied() -> None:
        with fsspec.filesystem("headrace", config=config).open("/b/large") as file:
            assert file.readinto(sink) == size

    def headrace_shared() -> None:
        with fsspec.filesystem("headrace", config=config).open("/b/large") as file:
            assert len(file.read_buffer()) == size

    def s3fs_in_ranges() -> None:
        stops = [min(start + RANGE_BYTES, size) for start in starts]
        paths = ["bench/large"] * len(starts)
        parts = fsspec.filesystem("s3", **options).cat_ranges(paths, list(starts), stops)
        for start, part in zip(starts, parts, strict=True):
            sink[start : start + len(part)] = part

    def s3fs_by_handle() -> None:
        with fsspec.filesystem("s3", **options).open("bench/large") as file:
            assert file.readinto(sink) == size

    def arrow_by_handle() -> None:
        with arrow.open_input_file("bench/large") as file:
            assert file.readinto(sink) == size

    def arrow_in_ranges() -> None:
        with (
            arrow.open_input_file("bench/large") as file,
            ThreadPoolExecutor(STREAMS) as pool,
        ):
            asked = [pool.submit(file.read_at, RANGE_BYTES, start) for start in starts]
            parts: list[bytes] = [one.result() for one in asked]
        assert sum(map(len, parts)) == size

    return {
        "headrace, read_buffer": headrace_shared,
        "headrace, readinto": headrace_copied,
        "s3fs, cat_ranges": s3fs_in_ranges,
        "s3fs, readinto": s3fs_by_handle,
        "pyarrow, readinto": arrow_by_handle,
        "pyarrow, 16 threads": arrow_in_ranges,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
