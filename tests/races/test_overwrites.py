"""Objects that are overwritten all the time: no read mixes two versions, and none is staler than
docs/freshness.md says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.metadata.listings import VALID_SECONDS
from tests.conftest import Bucket
from tests.effort import EFFORT
from tests.races.blocks import BLOCK_BYTES, body
from tests.races.ledger import Ledger
from tests.races.overwrite_reader import Job
from tests.races.overwriting import OverwriteLoop
from tests.races.tally import Tally

ROUNDS = 30 * EFFORT
#: Three pages, the last a short one, in a multiple of three blocks.
BLOCKS = 4800
SIZE = BLOCKS * BLOCK_BYTES
AGE_SECONDS = 0.5
#: Old versions that a bucket keeps: more than are replaced during one read.
KEPT_VERSIONS = 100


def config(root: Path, mount: Mapping[str, object], freshness: object) -> Any:
    """Each contract is a configuration of its own, over one cache folder."""
    return {
        "mount": [{"path": "/m", "freshness": freshness, **mount}],
        "cache": {
            "folder": str(root / "cache"),
            "memory": "24MiB",
            "ssd": "64MiB",
            "key_file": str(root / "keys" / "ssd.key"),
            "state_folder": str(root / "state"),
        },
    }


def loop(root: Path, mount: Mapping[str, object], without: Sequence[str] = ()) -> OverwriteLoop:
    """Readers under every contract; all have read version 0 when the loop begins."""
    ledger_file = root / "ledger"

    def job(freshness: object, **contract: Any) -> Job:
        given = config(root, mount, freshness)
        return Job(given, "/m/d/object", SIZE, str(ledger_file), **contract)

    apart = {
        "check": job("check", threads=3),
        "age": job(f"{AGE_SECONDS}s", age_seconds=AGE_SECONDS),
        "pinned": job("pinned", pinned=True, threads=1),
    }
    listing = {
        "listed": job("check", listing=True, age_seconds=VALID_SECONDS),
        "asked": job("check", listing=True, max_age=0),
    }
    for name in without:
        del apart[name]
    return OverwriteLoop(Ledger(ledger_file), [apart, listing, {"other check": job("check")}])


def verdict(tallies: Mapping[str, Tally]) -> None:
    for name, tally in tallies.items():
        print(f"  {name}: {tally.right} right, {tally.gone} gone, {len(tally.wrong)} wrong")
    assert {name: tally.wrong[:5] for name, tally in tallies.items() if tally.wrong} == {}
    assert all(tally.right for tally in tallies.values())


# Local files, by all the ways in which programs replace them.


def overwritten(file: Path) -> list[Callable[[int], None]]:
    first = os.stat(file)
    times = (first.st_atime_ns, first.st_mtime_ns)

    def truncate_and_write(version: int) -> None:
        data = body(version, BLOCKS)
        with file.open("wb", buffering=0) as opened:
            opened.write(data)

    def write_in_place(version: int) -> None:
        data = body(version, BLOCKS)
        with file.open("r+b", buffering=0) as opened:
            opened.write(data)

    def write_and_rename(version: int) -> None:
        fresh = file.with_suffix(".new")
        fresh.write_bytes(body(version, BLOCKS))
        os.replace(fresh, file)

    def set_the_time_back(version: int) -> None:
        write_in_place(version)
        os.utime(file, ns=times)

    def rename_with_the_same_time(version: int) -> None:
        fresh = file.with_suffix(".new")
        fresh.write_bytes(body(version, BLOCKS))
        os.utime(fresh, ns=times)
        os.replace(fresh, file)

    return [
        truncate_and_write,
        write_in_place,
        write_and_rename,
        set_the_time_back,
        rename_with_the_same_time,
    ]


@pytest.mark.timeout(540 + 60 * EFFORT)
def test_a_local_file_overwritten_all_the_time(tmp_path: Path) -> None:
    file = tmp_path / "store" / "d" / "object"
    file.parent.mkdir(parents=True)
    file.write_bytes(body(0, BLOCKS))
    mount = {"url": str(tmp_path / "store")}
    verdict(loop(tmp_path, mount).run(ROUNDS, overwritten(file)))


@pytest.mark.timeout(540 + 60 * EFFORT)
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_is_switched_all_the_time(tmp_path: Path, what: str) -> None:
    store = tmp_path / "store"
    store.mkdir()
    link = store / "d"
    if what == "file":
        link.mkdir()
        link /= "object"

    def switch(version: int) -> None:
        target = tmp_path / f"target-{version % 4}"
        target.mkdir(exist_ok=True)
        file = target / "object"
        file.write_bytes(body(version, BLOCKS))
        fresh = tmp_path / "fresh"
        fresh.symlink_to(file if what == "file" else target)
        os.replace(fresh, link)

    switch(0)
    # Without `pinned`: that pins each object, and a link leads to another.
    links = loop(tmp_path, {"url": str(store)}, without=("pinned",))
    verdict(links.run(ROUNDS, [switch]))


# S3, with and without versions.


def mount_of(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, object]:
    monkeypatch.setenv("LAKE_KEY", bucket.access_key)
    monkeypatch.setenv("LAKE_SECRET", bucket.secret_key)
    options = {"key_env": "LAKE_KEY", "secret_env": "LAKE_SECRET"}
    return {
        "url": f"s3://{bucket.name}",
        "options": {**options, "endpoint_url": bucket.endpoint},
    }


def through_headrace(root: Path, mount: Mapping[str, object]) -> Callable[[int], None]:
    tree = HeadraceFileSystem(config=config(root, mount, "check"))
    return lambda version: tree.pipe_file("/m/d/object", body(version, BLOCKS))


@pytest.mark.timeout(540 + 60 * EFFORT)
def test_an_object_of_s3_overwritten_all_the_time(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = mount_of(bucket, monkeypatch)
    bucket.put("d/object", body(0, BLOCKS))

    def put(version: int) -> None:
        bucket.put("d/object", body(version, BLOCKS))

    writes = [put, put, through_headrace(tmp_path, mount)]
    verdict(loop(tmp_path, mount).run(ROUNDS, writes))
    disconnect_all()


@pytest.mark.timeout(540 + 60 * EFFORT)
def test_an_object_of_s3_with_versions_overwritten_all_the_time(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = mount_of(bucket, monkeypatch)
    bucket.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    kept: list[str] = []

    def put(version: int) -> None:
        data = body(version, BLOCKS)
        made = bucket.client.put_object(Bucket=bucket.name, Key="d/object", Body=data)
        kept.append(made["VersionId"])
        if len(kept) > KEPT_VERSIONS:
            bucket.client.delete_object(Bucket=bucket.name, Key="d/object", VersionId=kept.pop(0))

    put(0)
    tallies = loop(tmp_path, mount).run(ROUNDS, [put])
    verdict(tallies)
    # An open that asked the store knows the versionId: what it pinned can be read to its end.
    assert tallies["other check"].gone == tallies["check"].gone == 0
