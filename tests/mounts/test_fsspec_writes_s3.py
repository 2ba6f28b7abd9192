"""Writing to a bucket of a real S3 server: conditions, uploads of many parts, folders, crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace_mounts.connect import disconnect_all
from headrace_mounts.tree_work import copy_tree, move_tree, remove_tree
from headrace_namespace.path import NamespacePath
from tests.conftest import Bucket
from tests.untyped import fsspec


@pytest.fixture
def config(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("HEADRACE_TEST_KEY", bucket.access_key)
    monkeypatch.setenv("HEADRACE_TEST_SECRET", bucket.secret_key)
    options = {
        "endpoint_url": bucket.endpoint,
        "key_env": "HEADRACE_TEST_KEY",
        "secret_env": "HEADRACE_TEST_SECRET",
        "region": "us-east-1",
    }
    (tmp_path / "silo").mkdir()
    bucket.put("other/x", b"x")
    yield {
        "mount": [
            {"path": "/lake", "url": f"s3://{bucket.name}", "options": options},
            {"path": "/other", "url": f"s3://{bucket.name}/other", "options": options},
            {"path": "/silo", "url": str(tmp_path / "silo")},
        ],
        "cache": {
            "folder": str(tmp_path / "cache"),
            "memory": "256MiB",
            "ssd": "0",
            "key_file": str(tmp_path / "key"),
        },
    }
    disconnect_all()


@pytest.fixture
def tree(config: Any) -> Any:
    return fsspec.filesystem("headrace", config=config, skip_instance_cache=True)


def path(text: str) -> NamespacePath:
    return NamespacePath.parse(text)


def stored(bucket: Bucket, key: str) -> bytes:
    data: bytes = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    return data


def uploads(bucket: Bucket) -> list[Any]:
    found: list[Any] = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return found


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, (40 << 20) + 7])
def test_what_is_written_is_there_and_warm(tree: Any, bucket: Bucket, size: int) -> None:
    data = os.urandom(size)
    with tree.open("/lake/d/a", "wb") as file:
        for start in range(0, size, 3_000_000):
            file.write(data[start : start + 3_000_000])
    assert stored(bucket, "d/a") == data
    with tree.open("/lake/d/a") as opened:
        assert opened.version == file.version == tree.info("/lake/d/a")["version"]
        assert opened.read() == data
    with tree.open("/other/../lake/d/a", max_age=0) as opened:
        assert opened.version == file.version
    assert tree.service.status().bytes_fetched == 0
    assert tree.service.status().requests["/lake"].get("read", 0) == 0
    assert uploads(bucket) == []


def test_if_version_lets_one_of_two_writers_win(tree: Any, bucket: Bucket) -> None:
    size = 10
    tree.pipe_file("/lake/a", b"old")
    version = tree.info("/lake/a")["version"]
    files = [tree.open("/lake/a", "wb", if_version=version) for _ in range(2)]
    won: list[int] = []
    lost: list[int] = []

    def end(number: int) -> None:
        try:
            files[number].close()
            won.append(number)
        except headrace.WriteConflict:
            lost.append(number)

    for number, file in enumerate(files):
        file.write(b"%d" % number * size)
    threads = [threading.Thread(target=end, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 1)
    assert stored(bucket, "a") == b"%d" % won[0] * size
    assert uploads(bucket) == []


def test_if_version_stops_a_large_write_that_comes_second(tree: Any, bucket: Bucket) -> None:
    # One after the other: this Ceph heeds no condition on the request that ends an upload, so that
    # it is checked right before it.
    tree.pipe_file("/lake/a", b"old")
    version = tree.info("/lake/a")["version"]
    first, second = (tree.open("/lake/a", "wb", if_version=version) for _ in range(2))
    first.write(b"1" * (9 << 20))
    second.write(b"2" * (9 << 20))
    first.close()
    with pytest.raises(headrace.WriteConflict):
        second.close()
    assert stored(bucket, "a") == b"1" * (9 << 20)
    assert uploads(bucket) == []


def test_exclusive_and_append_are_conditional(tree: Any, bucket: Bucket) -> None:
    with tree.open("/lake/a", "xb") as mine:
        mine.write(b"mine")
        bucket.put("a", b"theirs")
        with pytest.raises(FileExistsError):
            mine.close()
    with tree.open("/lake/a", "ab") as more:
        more.write(b" and mine")
    assert stored(bucket, "a") == b"theirs and mine"
    more = tree.open("/lake/a", "ab")
    more.write(b"lost")
    bucket.put("a", b"changed")
    with pytest.raises(headrace.WriteConflict):
        more.close()
    assert stored(bucket, "a") == b"changed"


def test_the_store_copies_what_an_append_begins_with(tree: Any, bucket: Bucket) -> None:
    old, more = os.urandom(12 << 20), os.urandom((9 << 20) + 3)
    bucket.put("a", old)
    with tree.open("/lake/a", "ab") as file:
        assert file.tell() == len(old)
        file.write(more)
    assert stored(bucket, "a") == old + more
    assert tree.service.status().bytes_fetched == 0
    assert tree.cat_file("/lake/a", start=len(old) + 5) == more[5:]


def test_a_copy_within_the_bucket_moves_no_byte_here(tree: Any, bucket: Bucket) -> None:
    data = os.urandom(9 << 20)
    bucket.put("a", data)
    tree.cp_file("/lake/a", "/lake/b")
    tree.cp_file("/lake/a", "/other/c")
    assert stored(bucket, "b") == stored(bucket, "other/c") == data
    assert tree.service.status().bytes_fetched == 0
    tree.cp_file("/lake/a", "/silo/a")
    tree.mv("/silo/a", "/lake/back")
    assert stored(bucket, "back") == data
    assert not tree.exists("/silo/a")


def test_trees_go_there_and_back(tree: Any, bucket: Bucket, tmp_path: Path) -> None:
    for number in range(40):
        bucket.put(f"d/{number % 4}/{number}", b"%d" % number)
    tree.mkdir("/lake/d/empty")
    assert copy_tree(tree.service, path("/lake/d"), path("/silo/d")).objects == 40
    assert (tmp_path / "silo" / "d" / "empty").is_dir()
    moved = move_tree(tree.service, path("/lake/d"), path("/lake/e"))
    assert (moved.objects, moved.failures) == (40, 0)
    assert not tree.exists("/lake/d")
    assert tree.isdir("/lake/e/empty")
    removed = remove_tree(tree.service, path("/lake/e"))
    assert (removed.objects, removed.failures) == (40, 0)
    assert not tree.exists("/lake/e")
    left = bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]
    assert [item["Key"] for item in left] == ["other/x"]


def test_a_listing_in_this_process_never_hides_what_it_wrote(tree: Any, bucket: Bucket) -> None:
    for number in range(5):
        bucket.put(f"d/{number}", b"old")
    for round_ in range(3):
        tree.ls("/lake/d")
        tree.cat_file("/lake/d/0")
        tree.pipe_file("/lake/d/1", b"new %d" % round_)
        assert tree.cat_file("/lake/d/1") == b"new %d" % round_
        assert tree.info("/lake/d/1")["size"] == 5
    tree.ls("/lake/d")
    tree.rm("/lake/d", recursive=True)
    assert not tree.exists("/lake/d")


def test_an_aborted_upload_leaves_no_parts(tree: Any, bucket: Bucket) -> None:
    bucket.put("a", b"old")
    with pytest.raises(RuntimeError), tree.open("/lake/a", "wb") as file:
        file.write(bytes(20 << 20))
        raise RuntimeError
    assert stored(bucket, "a") == b"old"
    assert uploads(bucket) == []


WRITES_AND_WAITS = """
import json, sys, headrace
file = headrace.open("/lake/a", "wb", config=json.loads(sys.argv[1]))
for _ in range(20):
    file.write(b"n" * (1 << 20))
file._writer.finish()
print("sent", flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_leaves_the_old_object_whole(
    tree: Any, bucket: Bucket, config: Any
) -> None:
    import json

    bucket.put("a", b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITES_AND_WAITS, json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None and writer.stdin is not None
    assert writer.stdout.readline() == b"sent\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    writer.stdin.close()
    assert tree.cat_file("/lake/a") == b"old"
    assert tree.ls("/lake", detail=False) == ["/lake/a", "/lake/other"]
    (left,) = uploads(bucket)  # docs/writing.md says how to be rid of it
    bucket.client.abort_multipart_upload(
        Bucket=bucket.name, Key=left["Key"], UploadId=left["UploadId"]
    )
    tree.pipe_file("/lake/a", b"new")
    assert stored(bucket, "a") == b"new"
