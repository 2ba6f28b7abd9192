"""Cold reads from S3 beside s3fs and pyarrow, each keeping the bytes; and listings.

`python -m tests.bench.cold_s3 [MB]` starts a Ceph RGW on loopback. The client's CPU seconds stand
beside the wall time: on two shared cores the server takes its part of the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headrace_mounts.connect import disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from tests.bench.fair import race, show
from tests.servers.ceph import RgwServer, rgw
from tests.untyped import boto3, fsspec, pa_fs

KEYS = 20_000


def bucket_with(server: RgwServer, megabytes: int) -> Any:
    """A client, and in the bucket `bench` one large object and a folder of many small ones."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bench")
    client.put_object(Bucket="bench", Key="large", Body=bytes(range(256)) * (megabytes << 12))

    def put(number: int) -> None:
        client.put_object(Bucket="bench", Key=f"many/{number:06}", Body=b"x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(KEYS)))
    return client


def main(megabytes: int = 512) -> None:
    """Print the tables."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as name,
        rgw(Path(name) / "rgw") as server,
    ):
        bucket_with(server, megabytes)
        mount = {
            "path": "/b",
            "url": "s3://bench",
            "options": {"endpoint_url": server.endpoint, "credentials_file": f"{name}/keys.ini"},
        }
        Path(name, "keys.ini").write_text(
            f"[default]\naws_access_key_id = {server.access_key}\n"
            f"aws_secret_access_key = {server.secret_key}\n"
        )
        config = {"mount": [mount], "cache": {"folder": f"{name}/cache", "ssd": 0}}
        options: dict[str, Any] = {"key": server.access_key, "secret": server.secret_key}
        options["client_kwargs"] = {"endpoint_url": server.endpoint}
        arrow: Any = pa_fs.S3FileSystem(
            access_key=server.access_key,
            secret_key=server.secret_key,
            endpoint_override=server.endpoint,
            region="us-east-1",
        )
        cpu: dict[str, float] = {}

        def counted(label: str, work: Any) -> Any:
            def run() -> None:
                before = time.process_time()
                work()
                cpu[label] = time.process_time() - before

            return run

        def forget() -> None:
            disconnect_all()
            HeadraceFileSystem.clear_instance_cache()
            fsspec.get_filesystem_class("s3").clear_instance_cache()

        def by_headrace() -> None:
            fs = fsspec.filesystem("headrace", config=config)
            with fs.open("/b/large") as file:
                file.readinto(sink)

        def by_s3fs() -> None:
            fs = fsspec.filesystem("s3", **options)
            ranges = range(0, len(sink), 8 << 20)
            parts = fs.cat_ranges(
                ["bench/large"] * len(ranges),
                list(ranges),
                [min(start + (8 << 20), len(sink)) for start in ranges],
            )
            for start, part in zip(ranges, parts, strict=True):
                sink[start : start + len(part)] = part

        def by_arrow() -> None:
            with arrow.open_input_file("bench/large") as file:
                file.readinto(sink)

        sink = bytearray(megabytes << 20)
        figures = race(
            {
                "headrace, cold": counted("headrace, cold", by_headrace),
                "s3fs, 8 MiB ranges": counted("s3fs, 8 MiB ranges", by_s3fs),
                "pyarrow": counted("pyarrow", by_arrow),
            },
            rounds=5,
            before=forget,
        )
        show(f"{megabytes} MiB from S3 into the caller's memory, 8 MiB ranges", figures)
        for label, seconds in cpu.items():
            print(f"  {label}: {seconds * 1024 / megabytes:.2f} CPU s per GiB (last round)")

        def list_all(fs: Any, path: str) -> None:
            assert len(fs.ls(path, detail=True)) == KEYS

        show(
            f"list {KEYS} keys with size and version",
            race(
                {
                    "headrace": lambda: list_all(
                        fsspec.filesystem("headrace", config=config), "/b/many"
                    ),
                    "s3fs": lambda: list_all(fsspec.filesystem("s3", **options), "bench/many"),
                },
                rounds=5,
                before=forget,
            ),
        )
        forget()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 512)
