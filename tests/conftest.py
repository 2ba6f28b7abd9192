"""Fixtures that every room's tests may ask for."""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ceph import RgwServer
from tests.servers.ceph import rgw as running_rgw


def pytest_configure() -> None:
    """Let Ctrl-C reach what the tests start: a shell ignores it for all that it runs in the
    background, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True, slots=True)
class Bucket:
    """An empty bucket of its own, and the means to put objects into it."""

    endpoint: str
    name: str
    access_key: str
    secret_key: str
    #: A boto3 client; boto3 publishes no types.
    client: Any

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=self.name, Key=key)


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Services opened in tests that name no state folder keep nothing in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def rgw() -> Iterator[RgwServer]:
    """A real S3 server (Ceph's), started by the first test that asks for it."""
    if shutil.which("radosgw") is None:
        pytest.fail("radosgw is not installed: run tests/servers/install.sh")
    # Not under tmp_path: the servers' Unix sockets need a short one, and remove it themselves.
    with running_rgw(Path(tempfile.mkdtemp(prefix="headrace-rgw-"))) as server:
        yield server


@pytest.fixture(scope="session")
def s3_client(rgw: RgwServer) -> Any:
    """A boto3 client of the S3 server; making one takes 100 ms, so all tests share it."""
    # boto3 publishes no types.
    import boto3  # type: ignore[import-untyped]

    return boto3.client(  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        "s3",
        endpoint_url=rgw.endpoint,
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        region_name="us-east-1",
    )


_numbers = itertools.count(1)


@pytest.fixture
def bucket(rgw: RgwServer, s3_client: Any) -> Bucket:
    """A fresh, empty bucket; it goes when its server goes."""
    name = f"test-{next(_numbers)}"
    s3_client.create_bucket(Bucket=name)
    return Bucket(rgw.endpoint, name, rgw.access_key, rgw.secret_key, s3_client)
