"""fsspec's own suite for file systems, over a folder, by a node of another host, and over a bucket
of a real S3 server.

No exception is made: all of its tests run as they are. An S3 mount keeps an empty folder by a
marker, as the suite expects of a file system with folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace_mounts.connect import disconnect_all, open_node
from tests.conftest import Bucket
from tests.untyped import fsspec

if TYPE_CHECKING:
    # fsspec publishes no types.
    class AbstractFixtures: ...

    class AbstractCopyTests: ...

    class AbstractGetTests: ...

    class AbstractOpenTests: ...

    class AbstractPipeTests: ...

    class AbstractPutTests: ...

else:
    from fsspec.tests.abstract import (
        AbstractCopyTests,
        AbstractFixtures,
        AbstractGetTests,
        AbstractOpenTests,
        AbstractPipeTests,
        AbstractPutTests,
    )


def cache(tmp_path: Path) -> dict[str, str]:
    return {
        "folder": str(tmp_path / "cache"),
        "memory": "64MiB",
        "ssd": "0",
        "key_file": str(tmp_path / "key"),
    }


class OverAFolder(AbstractFixtures):
    """A mount of a folder of this machine."""

    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[Any]:
        (tmp_path / "silo").mkdir()
        mount = {"path": "/lake", "url": str(tmp_path / "silo")}
        config = {"mount": [mount], "cache": cache(tmp_path)}
        yield fsspec.filesystem("headrace", config=config, skip_instance_cache=True)
        disconnect_all()

    @pytest.fixture
    def fs_path(self) -> str:
        return "/lake"


class OverHttp(AbstractFixtures):
    """A mount of a folder of another host, whose node is asked."""

    @pytest.fixture
    def fs(self, tmp_path: Path) -> Iterator[Any]:
        (tmp_path / "silo").mkdir()
        config = {
            "mount": [{"path": "/lake", "url": str(tmp_path / "silo")}],
            "cache": cache(tmp_path) | {"state_folder": str(tmp_path / "state")},
            "node": {"http": {"listen": "127.0.0.1:0", "tls": False, "authentication": False}},
        }
        with closing(open_node(config)) as node:
            assert node.door is not None
            url = f"headrace://127.0.0.1:{node.door.port}/lake"
            yield fsspec.core.url_to_fs(url, tls=False, skip_instance_cache=True)[0]
            disconnect_all()

    @pytest.fixture
    def fs_path(self) -> str:
        return "/lake"


class OverABucket(AbstractFixtures):
    """A mount of a prefix of a bucket."""

    @pytest.fixture
    def fs(self, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        monkeypatch.setenv("HEADRACE_TEST_KEY", bucket.access_key)
        monkeypatch.setenv("HEADRACE_TEST_SECRET", bucket.secret_key)
        options = {
            "endpoint_url": bucket.endpoint,
            "key_env": "HEADRACE_TEST_KEY",
            "secret_env": "HEADRACE_TEST_SECRET",
            "region": "us-east-1",
        }
        mount = {"path": "/lake", "url": f"s3://{bucket.name}/some/prefix", "options": options}
        config = {"mount": [mount], "cache": cache(tmp_path)}
        bucket.put("some/prefix/.keep", b"")
        yield fsspec.filesystem("headrace", config=config, skip_instance_cache=True)
        disconnect_all()

    @pytest.fixture
    def fs_path(self) -> str:
        return "/lake"


class TestCopyOverAFolder(OverAFolder, AbstractCopyTests):
    pass


class TestGetOverAFolder(OverAFolder, AbstractGetTests):
    pass


class TestPutOverAFolder(OverAFolder, AbstractPutTests):
    pass


class TestOpenOverAFolder(OverAFolder, AbstractOpenTests):
    pass


class TestPipeOverAFolder(OverAFolder, AbstractPipeTests):
    pass


class TestCopyOverHttp(OverHttp, AbstractCopyTests):
    pass


class TestGetOverHttp(OverHttp, AbstractGetTests):
    pass


class TestPutOverHttp(OverHttp, AbstractPutTests):
    pass


class TestOpenOverHttp(OverHttp, AbstractOpenTests):
    pass


class TestPipeOverHttp(OverHttp, AbstractPipeTests):
    pass


class TestCopyOverABucket(OverABucket, AbstractCopyTests):
    pass


class TestGetOverABucket(OverABucket, AbstractGetTests):
    pass


class TestPutOverABucket(OverABucket, AbstractPutTests):
    pass


class TestOpenOverABucket(OverABucket, AbstractOpenTests):
    pass


class TestPipeOverABucket(OverABucket, AbstractPipeTests):
    pass
