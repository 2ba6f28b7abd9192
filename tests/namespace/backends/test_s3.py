"""The S3 backend against a real S3 server, Ceph's."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headrace_namespace.backends.protocol import BackendContext, Folder
from headrace_namespace.backends.s3.backend import S3Backend, open_s3
from headrace_namespace.clock import Clock, SystemClock
from headrace_namespace.config import table_from
from headrace_namespace.errors import (
    AccessRefused,
    ClockSkewed,
    ConfigError,
    CredentialsRefused,
    HeadraceError,
    NameTooLong,
    NotFound,
    StoreMissing,
    StoreUnavailable,
    VersionGone,
)
from tests.conformance.backend_suite import BackendSuite, Store, list_all, read, stat_object
from tests.conftest import Bucket


class Opener:
    """Opens backends for one bucket, and closes them all."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._open: list[S3Backend] = []

    def __call__(
        self,
        url: str | None = None,
        *,
        clock: Clock | None = None,
        base_folder: Path | None = None,
        **changes: Any,
    ) -> S3Backend:
        """A backend with the right options but for `changes`; None takes an option away."""
        bucket = self._bucket
        options = {"endpoint_url": bucket.endpoint, "key_env": "KEY", "secret_env": "SECRET"}
        given = {name: value for name, value in (options | changes).items() if value is not None}
        environ = {"KEY": bucket.access_key, "SECRET": bucket.secret_key, "WRONG": "wrong"}
        context = BackendContext(clock or SystemClock(), environ, str(base_folder or "/"))
        backend = open_s3(url or f"s3://{bucket.name}", table_from(given, "test"), context)
        self._open.append(backend)
        return backend

    def close(self) -> None:
        for backend in self._open:
            backend.close()


@pytest.fixture
def opened(bucket: Bucket) -> Iterator[Opener]:
    opener = Opener(bucket)
    yield opener
    opener.close()


class S3Store(Store):
    strong = True
    root_is_real = False

    def __init__(self, bucket: Bucket, opened: Opener) -> None:
        self.bucket = bucket
        # Below a prefix that itself needs quoting.
        self.backend = opened(f"s3://{bucket.name}/pre fix+%20/\u00e9/")
        self.put(".marker", b"")
        self.delete(".marker")
        self.make_folder("")

    def put(self, key: str, data: bytes) -> None:
        self.bucket.put(f"pre fix+%20/\u00e9/{key}", data)

    def delete(self, key: str) -> None:
        self.bucket.delete(f"pre fix+%20/\u00e9/{key}")

    def make_folder(self, key: str) -> None:
        self.put(f"{key}/" if key else "", b"")

    def remove_root(self) -> None:
        self.delete("")


class TestS3(BackendSuite):
    @pytest.fixture
    def store(self, bucket: Bucket, opened: Opener) -> Store:
        return S3Store(bucket, opened)


class TestVersionedS3(BackendSuite):
    """A bucket that keeps old versions: they can be had whole for as long as it does."""

    @pytest.fixture
    def store(self, bucket: Bucket, opened: Opener) -> Store:
        bucket.client.put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
        return S3Store(bucket, opened)

    def test_a_replaced_object_is_gone_for_its_old_version(self, store: Store) -> None:
        store.put("object", b"old bytes")
        version = stat_object(store.backend, "object")
        assert version.version_id is not None
        store.put("object", b"new")
        assert read(store.backend, version, 0, 9) == b"old bytes"
        assert read(store.backend, version, 4, 9) == b"bytes"
        # A listing shows no version ids: what it shows is gone when it is replaced.
        listed = dataclasses.replace(version, version_id=None)
        with pytest.raises(VersionGone):
            read(store.backend, listed, 0, 9)

    def test_a_deleted_object_is_gone(self, store: Store) -> None:
        store.put("object", b"bytes")
        version = stat_object(store.backend, "object")
        store.delete("object")
        assert store.backend.stat("object") is None
        assert read(store.backend, version, 0, 5) == b"bytes"
        unknown = dataclasses.replace(version, version_id="x" * 31)
        with pytest.raises(VersionGone):
            read(store.backend, unknown, 0, 5)


def test_keys_may_be_long(bucket: Bucket, opened: Opener) -> None:
    backend = opened()
    longest = "k" * 1000
    bucket.put(longest, b"long")
    assert read(backend, stat_object(backend, longest), 0, 4) == b"long"
    assert [child.name for child in list_all(backend)] == [longest]
    assert backend.stat("k" * 1024) is None
    for key in ("k" * 1025, "\u00e9" * 513):
        with pytest.raises(NameTooLong, match="1024"):
            backend.stat(key)


def test_keys_that_the_tree_cannot_name_are_left_out(bucket: Bucket, opened: Opener) -> None:
    backend = opened()
    for key in ("a//b", "a/./b", "a/../b", "/x", "a/good", "./y", "../z"):
        bucket.put(key, b"")
    assert [child.name for child in list_all(backend)] == ["a"]
    assert [child.name for child in list_all(backend, "a")] == ["good"]


def test_an_object_hides_the_folder_of_its_name(bucket: Bucket, opened: Opener) -> None:
    backend = opened()
    for key in ("a", "a/b", "a-", "b/c"):
        bucket.put(key, b"")
    kinds = {child.name: child.version is None for child in list_all(backend)}
    assert len(list_all(backend)) == 3
    assert kinds == {"a": False, "a-": False, "b": True}
    assert backend.list_page(backend.ref(""), None).hidden == 1


def test_an_object_hides_the_folder_of_its_name_on_a_later_page(
    bucket: Bucket, opened: Opener
) -> None:
    backend = opened()
    with ThreadPoolExecutor(8) as pool:
        keys = ["a", "a/below", "b", *(f"a!{number:04}" for number in range(1200))]

        def put(key: str) -> None:
            bucket.put(key, b"")

        list(pool.map(put, keys))
    names = [child.name for child in list_all(backend)]
    assert len(names) == len(set(names)) == 1202
    first = backend.list_page(backend.ref(""), None)
    assert first.next_token is not None
    second = backend.list_page(backend.ref(""), first.next_token)
    assert (first.hidden, second.hidden) == (0, 1)


def test_an_empty_bucket_is_an_empty_folder(bucket: Bucket, opened: Opener) -> None:
    backend = opened()
    assert backend.stat("") == Folder()
    assert list_all(backend) == []


def test_a_single_object_can_be_mounted(bucket: Bucket, opened: Opener) -> None:
    bucket.put("x/data.csv", b"1,2")
    backend = opened(f"s3://{bucket.name}/x/data.csv")
    assert read(backend, stat_object(backend, ""), 0, 3) == b"1,2"


def test_a_large_object_in_parallel(bucket: Bucket, opened: Opener) -> None:
    backend = opened()
    data = os.urandom(24 << 20)
    bucket.put("large", data)
    version = stat_object(backend, "large")
    memory = bytearray(len(data))
    step = 3 << 20

    def fill(start: int) -> None:
        backend.read_into(version, start, memoryview(memory)[start : start + step])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(0, len(data), step)))
    assert memory == data


def test_a_multipart_etag_is_a_version(bucket: Bucket, opened: Opener) -> None:
    client, name = bucket.client, bucket.name
    upload = client.create_multipart_upload(Bucket=name, Key="parts")["UploadId"]
    parts: list[dict[str, object]] = []
    for number in (1, 2):
        sent = client.upload_part(
            Bucket=name, Key="parts", UploadId=upload, PartNumber=number, Body=b"p" * (5 << 20)
        )
        parts.append({"ETag": sent["ETag"], "PartNumber": number})
    client.complete_multipart_upload(
        Bucket=name, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    backend = opened()
    version = stat_object(backend, "parts")
    assert version.tag.endswith("-2") and version.strong
    assert read(backend, version, (5 << 20) - 2, (5 << 20) + 2) == b"pppp"
    assert [child.version for child in list_all(backend)] == [version]


def test_stored_encodings_are_not_undone(bucket: Bucket, opened: Opener) -> None:
    body = b"\x1f\x8b not really gzip"
    bucket.client.put_object(Bucket=bucket.name, Key="x", Body=body, ContentEncoding="gzip")
    backend = opened()
    version = stat_object(backend, "x")
    assert read(backend, version, 0, version.size) == body


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            {"key_env": "WRONG"},
            CredentialsRefused,
            "does not know the access key .*AWS_ACCESS_KEY_ID",
        ),
        (
            {"secret_env": "WRONG"},
            CredentialsRefused,
            "secret key does not fit .*AWS_SECRET_ACCESS_KEY",
        ),
        ({"endpoint_url": "http://127.0.0.1:1"}, StoreUnavailable, "nothing listens at"),
        ({"endpoint_url": "http://no-such-host.invalid"}, StoreUnavailable, "cannot be found"),
        ({"anon": True, "key_env": None, "secret_env": None}, AccessRefused, "anonymous"),
    ],
)
def test_what_goes_wrong_is_said(
    bucket: Bucket,
    opened: Opener,
    changes: dict[str, Any],
    kind: type[HeadraceError],
    words: str,
) -> None:
    bucket.put("object", b"1")
    version = stat_object(opened(), "object")
    backend = opened(**changes)
    requests = (
        lambda: backend.stat("object"),
        lambda: backend.stat("nothing"),
        lambda: backend.list_page(backend.ref(""), None),
        lambda: backend.read_into(version, 0, memoryview(bytearray(1))),
    )
    for request in requests:
        with pytest.raises(kind, match=words) as caught:
            request()
        assert caught.value.store == backend.name
        for text in (str(caught.value), repr(caught.value), backend.name):
            assert bucket.access_key not in text and bucket.secret_key not in text


def test_a_missing_bucket_is_said(bucket: Bucket, opened: Opener) -> None:
    backend = opened("s3://no-such-bucket/prefix")
    with pytest.raises(StoreMissing, match="'no-such-bucket' does not exist"):
        backend.stat("object")
    with pytest.raises(StoreMissing, match="'no-such-bucket' does not exist"):
        backend.list_page(backend.ref(""), None)


def test_tls_where_there_is_none_is_said(bucket: Bucket, opened: Opener) -> None:
    backend = opened(endpoint_url=bucket.endpoint.replace("http:", "https:"))
    with pytest.raises(StoreUnavailable, match="http:// instead") as caught:
        backend.stat("object")
    assert not caught.value.retriable


def test_a_wrong_clock_is_said(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore import auth

    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    ahead = now + datetime.timedelta(hours=2)

    class AheadClock(SystemClock):
        def now(self) -> float:
            return super().now() + 7200

    monkeypatch.setattr(auth, "get_current_datetime", lambda: ahead)
    backend = opened(clock=AheadClock())
    with pytest.raises(ClockSkewed, match=r"is 7[12]\d\d s ahead"):
        backend.stat("object")


def test_a_credentials_file(bucket: Bucket, opened: Opener, tmp_path: Path) -> None:
    bucket.put("object", b"1")
    (tmp_path / "keys.ini").write_text(
        f"[lab]\naws_access_key_id = {bucket.access_key}\n"
        f"aws_secret_access_key = {bucket.secret_key}\n"
    )

    def backend(profile: str) -> S3Backend:
        return opened(
            base_folder=tmp_path,
            key_env=None,
            secret_env=None,
            credentials_file="keys.ini",
            profile=profile,
        )

    assert stat_object(backend("lab"), "object").size == 1
    with pytest.raises(CredentialsRefused, match="'other'"):
        backend("other").stat("object")


def test_no_credentials_hints_at_the_options(
    bucket: Bucket, opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    backend = opened(key_env=None, secret_env=None)
    with pytest.raises(CredentialsRefused, match="AWS_ACCESS_KEY_ID .*key_env with secret_env"):
        backend.stat("object")
    with pytest.raises(ConfigError, match="no-such-profile"):
        opened(key_env=None, secret_env=None, profile="no-such-profile").stat("object")


def test_the_processs_own_credentials(
    bucket: Bucket, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.secret_key)
    bucket.put("object", b"1")
    assert stat_object(opened(key_env=None, secret_env=None), "object").size == 1


def test_a_forked_child_uses_sockets_of_its_own(bucket: Bucket, opened: Opener) -> None:
    data = os.urandom(1 << 20)
    bucket.put("object", data)
    backend = opened()
    version = stat_object(backend, "object")  # leaves an idle connection
    child = os.fork()
    if child == 0:
        good = all(read(backend, version, 0, version.size) == data for _ in range(20))
        os._exit(0 if good else 1)
    assert all(read(backend, version, 0, version.size) == data for _ in range(20))
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_below_a_folder_is_said(bucket: Bucket, opened: Opener) -> None:
    bucket.put("object", b"")
    with pytest.raises(NotFound, match="nothing"):
        opened().list_page(opened().ref("folder"), None)
