"""What a data set costs in requests: a thousand files of one folder, opened one after the other, as
counted between headrace and a real store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headrace_cache.opening import open_service
from headrace_cache.service import CacheService
from headrace_mounts.settings import load_settings
from headrace_namespace.clock import SystemClock
from headrace_namespace.path import NamespacePath
from tests.conftest import Bucket
from tests.races.gate import Gate, gated

FILES = 1000
FOLDER = NamespacePath("/s3/set")


class StillClock(SystemClock):
    """However slow the machine is: all happens within one moment."""

    def monotonic(self) -> float:
        return 1_000_000.0


@pytest.fixture
def gate(bucket: Bucket) -> Iterator[Gate]:
    def put(number: int) -> None:
        bucket.put(f"set/{number:04}.csv", b"%d\n" % number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(FILES)))
    with gated(bucket.endpoint) as gate:
        yield gate


@pytest.fixture
def service(
    gate: Gate, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CacheService]:
    monkeypatch.setenv("LAKE_KEY", bucket.access_key)
    monkeypatch.setenv("LAKE_SECRET", bucket.secret_key)
    options = {"endpoint_url": gate.endpoint, "key_env": "LAKE_KEY"}
    options["secret_env"] = "LAKE_SECRET"
    config: dict[str, Any] = {
        "mount": [{"path": "/s3", "url": f"s3://{bucket.name}", "options": options}],
        "cache": {"folder": str(tmp_path / "cache"), "memory": "64MiB", "ssd": 0},
    }
    settings = load_settings(config, clock=StillClock())
    service = open_service(settings.mounts, settings.cache, settings.policy, settings.context)
    yield service
    service.close()


def asked(gate: Gate) -> dict[str, int]:
    """What was asked for since the last look, by kind."""
    lines, gate.requests = gate.requests, []
    lists = sum("list-type=" in line for line in lines)
    heads = sum(line.startswith("HEAD ") for line in lines)
    return {"list": lists, "head": heads, "get": len(lines) - lists - heads}


def read_all(service: CacheService, paths: list[NamespacePath]) -> None:
    for path in paths:
        opened = service.open(path)
        assert opened.read_at(0, opened.version.size) == b"%d\n" % int(path.name[:4])
        opened.close()


def test_a_thousand_files_cost_one_listing(gate: Gate, service: CacheService) -> None:
    paths = sorted((entry.path for entry in service.list(FOLDER)), key=lambda path: path.text)
    assert len(paths) == FILES
    read_all(service, paths)
    # Cold: the listing, the one child by which it proves itself, and each file's bytes.
    assert asked(gate) == {"list": 1, "head": 1, "get": FILES}
    list(service.list(FOLDER))
    read_all(service, paths)
    # Warm: as before, without the bytes.
    assert asked(gate) == {"list": 1, "head": 1, "get": 0}


def test_a_second_open_without_a_listing_asks(gate: Gate, service: CacheService) -> None:
    paths = [entry.path for entry in service.list(FOLDER)]
    read_all(service, paths)
    asked(gate)
    read_all(service, paths)
    # The one that was asked when the listing proved itself is validated by it now.
    assert asked(gate) == {"list": 0, "head": FILES - 1, "get": 0}


def test_threads_that_open_at_once_cost_no_more(gate: Gate, service: CacheService) -> None:
    paths = [entry.path for entry in service.list(FOLDER)]

    def read(path: NamespacePath) -> None:
        read_all(service, [path])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, paths))
    assert asked(gate) == {"list": 1, "head": 1, "get": FILES}
