"""A bucket with versions: an open that asked the store knows the versionId, and reads to its end
whatever is put in the object's place; one that a listing validated does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from headrace_cache.reading.single_flight import Flight
from headrace_namespace.backends.protocol import Folder
from headrace_namespace.errors import VersionGone
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from tests.fakes.local_cache import Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend

PATIENCE = 30.0
ASKED = Freshness(0)


class VersionedLake(MemoryBackend):
    """Keeps what was replaced, for those who know its versionId: `stat` tells it, a listing not."""

    def __init__(self) -> None:
        super().__init__("memory:lake")
        self.first_read = threading.Event()
        self.go_on = threading.Event()
        self._kept: dict[str, bytes] = {}

    def put_version(self, key: str, data: bytes) -> None:
        self._kept[self.set(key, data).tag] = data

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        found = super().stat(key)
        return replace(found, version_id=found.tag) if isinstance(found, ObjectVersion) else found

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        if version.version_id is None:
            self.first_read.set()
            assert self.go_on.wait(PATIENCE)
            super().read_into(version, start, target)
        else:
            target[:] = self._kept[version.version_id][start : start + len(target)]


@pytest.fixture
def lake() -> VersionedLake:
    return VersionedLake()


@pytest.fixture
def rig(lake: VersionedLake) -> Iterator[Rig]:
    rig = Rig({"/lake": lake})
    yield rig
    rig.service.close()


def test_who_knows_the_version_id_does_not_fail_with_who_does_not(
    rig: Rig, lake: VersionedLake
) -> None:
    for name in ("one", "other"):
        lake.put_version(f"f/{name}", b"old")
    list(rig.service.list(path("/lake/f")))
    rig.service.open(path("/lake/f/one"))  # proves the listing
    listed = rig.service.open(path("/lake/f/other"))
    asked = rig.service.open(path("/lake/f/other"), ASKED)
    lake.put_version("f/other", b"new")
    both_wait, claim = threading.Event(), rig.flights.claim
    claims: list[tuple[list[Flight], list[Flight]]] = []

    def noted_claim(
        version: bytes, groups: Sequence[Sequence[int]], mount: Mount | None = None
    ) -> tuple[list[Flight], list[Flight]]:
        claims.append(claim(version, groups, mount))
        if len(claims) == 2:
            both_wait.set()
        return claims[-1]

    rig.flights.claim = noted_claim  # type: ignore[method-assign]
    outcomes: list[object] = []

    def read_listed() -> None:
        try:
            outcomes.append(whole(listed))
        except VersionGone as error:
            outcomes.append(type(error))

    answers: list[bytes] = []
    first = threading.Thread(target=read_listed)
    second = threading.Thread(target=lambda: answers.append(whole(asked)))
    first.start()
    assert lake.first_read.wait(PATIENCE)
    second.start()
    assert both_wait.wait(PATIENCE)
    lake.go_on.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert outcomes == [VersionGone]
    assert answers == [b"old"]
