"""Listing one large folder of a bucket beside s3fs, obstore and boto3.

`python -m tests.bench.listing [KEYS]` starts a Ceph RGW on loopback. Each contender begins cold, a
new client every time, and gives what it found as a list. RGW's own time is in all of them, so the
client's CPU seconds stand beside the wall time.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

from headrace_mounts.connect import connect, disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.path import NamespacePath
from tests.bench.fair import race, show
from tests.servers.ceph import RgwServer, rgw
from tests.untyped import boto3, fsspec

# Its types are partial. Not in `untyped.py`: of all the tests, only this one needs it.
obstore: Any = import_module("obstore")

KEYS = 100_000
BUCKET, FOLDER = "bench", "many"
ROUNDS = 5
#: RGW answers a put within a millisecond or two; more threads only wait for its two cores.
PUTTING_THREADS = 16


def boto3_client(server: RgwServer) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )


def obstore_client(server: RgwServer) -> Any:
    return obstore.store.S3Store(
        BUCKET,
        endpoint=server.endpoint,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def fill(server: RgwServer, keys: int) -> None:
    """Put that many small objects into one folder; obstore signs fastest."""
    boto3_client(server).create_bucket(Bucket=BUCKET)
    store = obstore_client(server)

    def put(number: int) -> None:
        obstore.put(store, f"{FOLDER}/part-{number:06}.parquet", b"x", use_multipart=False)

    with ThreadPoolExecutor(PUTTING_THREADS) as pool:
        list(pool.map(put, range(keys)))


def contenders(server: RgwServer, folder: Path) -> dict[str, Callable[[], list[Any]]]:
    """Each lists the folder with names, sizes, times and versions, by a client of its own."""
    keys = folder / "keys.ini"
    keys.write_text(
        f"[default]\naws_access_key_id = {server.access_key}\n"
        f"aws_secret_access_key = {server.secret_key}\n"
    )
    mount = {
        "path": "/b",
        "url": f"s3://{BUCKET}",
        "options": {"endpoint_url": server.endpoint, "credentials_file": str(keys)},
    }
    config = {"mount": [mount], "cache": {"folder": str(folder / "cache"), "ssd": 0}}
    s3fs_options = {
        "key": server.access_key,
        "secret": server.secret_key,
        "client_kwargs": {"endpoint_url": server.endpoint},
    }

    def by_headrace() -> list[Any]:
        found: list[Any] = fsspec.filesystem("headrace", config=config).ls(f"/b/{FOLDER}")
        return found

    def by_headrace_service() -> list[Any]:
        return list(connect(config).list(NamespacePath(f"/b/{FOLDER}")))

    def by_s3fs() -> list[Any]:
        found: list[Any] = fsspec.filesystem("s3", **s3fs_options).ls(
            f"{BUCKET}/{FOLDER}", detail=True
        )
        return found

    def by_obstore() -> list[Any]:
        found: list[Any] = obstore.list_with_delimiter(obstore_client(server), FOLDER)["objects"]
        return found

    def by_boto3() -> list[Any]:
        pages = boto3_client(server).get_paginator("list_objects_v2")
        asked = {"Bucket": BUCKET, "Prefix": f"{FOLDER}/", "Delimiter": "/"}
        return [entry for page in pages.paginate(**asked) for entry in page["Contents"]]

    return {
        "headrace, fsspec ls": by_headrace,
        "headrace, service.list (headrace ls)": by_headrace_service,
        "s3fs ls": by_s3fs,
        "obstore list_with_delimiter": by_obstore,
        "boto3 paginator": by_boto3,
    }


def forget() -> None:
    """Close and drop every client that is kept."""
    disconnect_all()
    HeadraceFileSystem.clear_instance_cache()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def compare(server: RgwServer, folder: Path, keys: int) -> None:
    """Print who takes how long, on the wall and of the processors."""
    cpu: dict[str, list[float]] = {}

    def counted(label: str, work: Callable[[], list[Any]]) -> Callable[[], None]:
        def run() -> None:
            before = time.process_time()
            assert len(work()) == keys
            cpu.setdefault(label, []).append(time.process_time() - before)

        return run

    work = {label: counted(label, each) for label, each in contenders(server, folder).items()}
    show(f"list {keys} keys", race(work, rounds=ROUNDS, before=forget))
    print("CPU seconds of the client: median, least, most, ratio")
    first = statistics.median(next(iter(cpu[label][1:] for label in work)))
    for label in work:
        taken = cpu[label][1:]  # the first round does not count
        median = statistics.median(taken)
        print(
            f"  {label:40} {median:7.3f} {min(taken):7.3f} {max(taken):7.3f} {median / first:6.2f}"
        )
    forget()


def main(keys: int = KEYS) -> None:
    """Fill a bucket and compare."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as name,
        rgw(Path(name) / "rgw") as server,
    ):
        fill(server, keys)
        compare(server, Path(name), keys)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else KEYS)
