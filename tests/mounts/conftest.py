"""A tree of two writable local folders and one that is not, of which a part is memory-only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import disconnect_all
from tests.untyped import fsspec

POLICY = """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
"""


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    folder = tmp_path / "silo"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path: Path, silo: Path) -> Iterator[dict[str, object]]:
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "other").mkdir()
    yield {
        "mount": [
            {"path": "/lake", "url": str(silo)},
            {"path": "/other", "url": str(tmp_path / "other")},
            {"path": "/fixed", "url": str(silo), "read_only": True},
        ],
        "cache": {
            "folder": str(tmp_path / "cache"),
            "memory": "64MiB",
            "ssd": "0",
            "key_file": str(tmp_path / "keys" / "key"),
        },
        "policy": {"file": str(tmp_path / "policy.toml")},
    }
    disconnect_all()


@pytest.fixture
def tree(config: dict[str, object]) -> Any:
    return fsspec.filesystem("headrace", config=config, skip_instance_cache=True)
