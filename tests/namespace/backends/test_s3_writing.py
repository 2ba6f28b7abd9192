"""Writing to a real S3 server, Ceph's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pytest

from headrace_namespace.backends.protocol import Folder, There
from headrace_namespace.backends.s3 import multipart, writing
from headrace_namespace.backends.s3.multipart import copy_ranges, part_bytes
from headrace_namespace.errors import (
    AccessRefused,
    IsFolder,
    NameTooLong,
    StoreFull,
    StoreMissing,
    VersionGone,
)
from tests.conformance.backend_suite import list_all, read, stat_object
from tests.conformance.backend_write_suite import BackendWriteSuite
from tests.conformance.writable_store import WritableStore, content, put, send
from tests.conftest import Bucket
from tests.namespace.backends.test_s3 import Opener, S3Store


@pytest.fixture
def opened(bucket: Bucket) -> Iterator[Opener]:
    opener = Opener(bucket)
    yield opener
    opener.close()


class WritableS3(S3Store, WritableStore):
    # Ceph ignores conditions where an upload is completed.
    atomic_uploads = False
    renames = False
    folders_are_objects = True

    def unfinished(self) -> list[str]:
        listed = self.bucket.client.list_multipart_uploads(Bucket=self.bucket.name)
        return [upload["Key"] for upload in listed.get("Uploads", [])]


class TestS3Writes(BackendWriteSuite):
    @pytest.fixture
    def store(self, bucket: Bucket, opened: Opener) -> WritableStore:
        return WritableS3(bucket, opened)


class TestVersionedS3Writes(BackendWriteSuite):
    """Ceph keeps no condition in a bucket that keeps versions, so that ours are looks before."""

    @pytest.fixture
    def store(self, bucket: Bucket, opened: Opener) -> WritableStore:
        bucket.client.put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
        store = WritableS3(bucket, opened)
        store.atomic = False
        return store

    def test_a_source_that_was_replaced_is_gone(self, store: WritableStore) -> None:
        """An old version can still be copied, and copied back."""
        backend = store.backend
        old = put(backend, "source", b"old bytes")
        assert old.version_id is not None
        new = put(backend, "source", b"new")
        backend.copy(old, backend.ref("copy"), There.NOTHING)
        assert content(backend, "copy") == b"old bytes"
        backend.copy(old, backend.ref("source"), new)
        assert content(backend, "source") == b"old bytes"
        with pytest.raises(VersionGone):
            backend.copy(
                dataclasses.replace(old, version_id="x" * 31), backend.ref("c"), There.ANYTHING
            )

    def test_a_base_that_was_replaced_is_gone(self, store: WritableStore) -> None:
        pytest.skip("an old version can still be had here")


def test_part_sizes_reach_far_within_the_number_of_parts() -> None:
    sizes = [part_bytes(index) for index in range(multipart.MOST_PARTS)]
    assert sizes[0] == sizes[999] == 8 << 20 and sizes[1000] == 16 << 20
    assert sizes[2000] == 32 << 20 and sizes[3000] == sizes[-1] == 64 << 20
    assert sum(sizes) >> 30 == 492


@pytest.mark.parametrize("size", [8 << 20, 256 << 20, (256 << 20) + 1, 5 << 30, 5 << 40])
def test_copies_are_made_of_parts_that_s3_takes(size: int) -> None:
    ranges = copy_ranges(size)
    assert ranges[0][0] == 0 and ranges[-1][1] == size and len(ranges) <= 2000
    assert all(stop == start for (_, stop), (start, _) in zip(ranges, ranges[1:], strict=False))
    assert all(5 << 20 <= stop - start <= 5 << 30 for start, stop in ranges)


def test_an_object_of_too_many_parts_says_so(opened: Opener) -> None:
    backend = opened()
    upload = backend.begin_upload(backend.ref("large"), There.ANYTHING)
    with pytest.raises(StoreFull, match="492 GiB"):
        upload.put_part(10_000, memoryview(b"x"))
    upload.abort()


def test_a_large_copy_is_made_of_parts(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    monkeypatch.setattr("headrace_namespace.backends.s3.backend.MOST_COPIED", 6 << 20)
    monkeypatch.setattr(multipart, "COPY_BYTES", 8 << 20)
    backend = opened()
    data = os.urandom(13 << 20)
    source = put(backend, "source", data)
    made = backend.copy(source, backend.ref("copy"), There.NOTHING)
    assert made == stat_object(backend, "copy") and made.tag.endswith("-2")
    assert content(backend, "copy") == data
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name)


def test_many_parts_make_one_object(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = opened()
    upload = backend.begin_upload(backend.ref("large"), There.NOTHING)
    data = os.urandom((16 << 20) + 7)
    made = upload.commit(send(upload, data))
    assert upload.commit(3) == made  # its answer might have been lost
    assert made == stat_object(backend, "large") and made.strong
    assert content(backend, "large") == data


def test_other_writers_are_seen(opened: Opener, bucket: Bucket) -> None:
    backend = opened()
    made = put(backend, "object", b"ours")
    assert bucket.client.get_object(Bucket=bucket.name, Key="object")["Body"].read() == b"ours"
    assert bucket.client.head_object(Bucket=bucket.name, Key="object")["ETag"] == f'"{made.tag}"'
    assert made.mtime is not None and made.strong


def test_a_marker_made_by_others_is_an_empty_folder(opened: Opener, bucket: Bucket) -> None:
    backend = opened()
    bucket.put("folder/", b"")
    assert backend.stat("folder") == Folder() and list_all(backend, "folder") == []
    backend.remove_folder("folder")
    backend.make_folder("folder")
    assert bucket.client.head_object(Bucket=bucket.name, Key="folder/")["ContentLength"] == 0


def test_the_prefix_of_a_mount_can_be_made(opened: Opener, bucket: Bucket) -> None:
    backend = opened(f"s3://{bucket.name}/not/yet")
    backend.make_folder("")
    assert backend.stat("") == Folder()
    with pytest.raises(AccessRefused):
        backend.remove_folder("")


def test_the_bucket_itself_is_not_written(opened: Opener) -> None:
    backend = opened()
    with pytest.raises(IsFolder):
        put(backend, "", b"1")
    assert isinstance(backend.delete([""])[""], IsFolder)
    with pytest.raises(NameTooLong):
        put(backend, "k" * 1025, b"1")
    assert isinstance(backend.delete(["k" * 1025])["k" * 1025], NameTooLong)


def test_an_identity_that_may_not_write_is_told_what_it_needs(
    bucket: Bucket, opened: Opener
) -> None:
    bucket.client.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    bucket.client.put_object(Bucket=bucket.name, Key="object", Body=b"1", ACL="public-read")
    anonymous = opened(anon=True, key_env=None, secret_env=None)
    assert content(anonymous, "object") == b"1"
    with pytest.raises(AccessRefused, match="anonymous"):
        put(anonymous, "object", b"2")
    assert content(anonymous, "object") == b"1"


def test_a_missing_bucket_is_said(opened: Opener) -> None:
    backend = opened("s3://no-such-bucket/prefix")
    with pytest.raises(StoreMissing):
        put(backend, "object", b"1")
    with pytest.raises(StoreMissing):
        backend.delete(["object"])
    with pytest.raises(StoreMissing):
        backend.begin_upload(backend.ref("x"), There.ANYTHING).put_part(0, memoryview(b"1"))


def test_the_spelling_of_a_condition_that_worked_is_kept(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ceph compares If-Match only without quotes: found out once, not with each write."""
    backend = opened()
    version = put(backend, "object", b"1")
    sent: list[dict[str, Any]] = []
    ask = backend._client.ask  # pyright: ignore[reportPrivateUsage]

    def asked(method: str, *rest: Any, **more: Any) -> Any:
        if method == "PUT":
            sent.append(rest[2])
        return ask(method, *rest, **more)

    monkeypatch.setattr(backend._client, "ask", asked)  # pyright: ignore[reportPrivateUsage]
    version = put(backend, "object", b"2", version)
    first = len(sent)
    version = put(backend, "object", b"3", version)
    assert len(sent) == first + 1
    assert sent[-1]["If-Match"].strip('"') == stat_tag(b"2")
    assert read(backend, version, 0, 1) == b"3"
    assert writing.MOST_COPIED == 5 << 30


def stat_tag(data: bytes) -> str:
    import hashlib

    return hashlib.md5(data, usedforsecurity=False).hexdigest()
