"""The freshness contract where askers, listings and overwrites cross: no answer counts as younger
than it is, and nobody is given an older version than the contract allows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from headrace_namespace.backends.protocol import Folder, ListPage
from headrace_namespace.freshness import CHECK, PINNED, Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.fakes.local_cache import Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend

FOLDER, ONE, OTHER = path("/lake/f"), path("/lake/f/one"), path("/lake/f/other")
PATIENCE = 30.0


class SlowLake(MemoryBackend):
    """Its answers are made at once, and arrive when `on_the_way` returns."""

    def __init__(self) -> None:
        super().__init__("memory:lake")
        self.on_the_way: Callable[[str], None] = lambda operation: None

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        found = super().stat(key)
        self.on_the_way("stat")
        return found

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        page = super().list_page(ref, token)
        self.on_the_way("list")
        return page


class HeldUp:
    """The first answer of one kind, held up until `arrive`."""

    def __init__(self, lake: SlowLake, operation: str) -> None:
        self.made = threading.Event()
        self._arrives = threading.Event()
        first = threading.Lock()

        def on_the_way(asked: str) -> None:
            if asked == operation and first.acquire(blocking=False):
                self.made.set()
                assert self._arrives.wait(PATIENCE)

        lake.on_the_way = on_the_way

    def arrive(self) -> None:
        self._arrives.set()


@pytest.fixture
def slow_lake() -> SlowLake:
    lake = SlowLake()
    lake.set("f/one", b"old")
    lake.set("f/other", b"old")
    return lake


@pytest.fixture
def new_rig(slow_lake: SlowLake) -> Iterator[Callable[[Freshness], Rig]]:
    rigs: list[Rig] = []

    def make(freshness: Freshness) -> Rig:
        rigs.append(Rig({"/lake": slow_lake}, freshness=freshness))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.service.close()


def test_a_listing_is_no_younger_than_it_is(
    slow_lake: SlowLake, new_rig: Callable[[Freshness], Rig]
) -> None:
    rig = new_rig(CHECK)
    list(rig.service.list(FOLDER))
    rig.service.open(ONE)  # proves the listing
    new = slow_lake.set("f/other", b"new")
    rig.clock.sleep(4)
    assert rig.service.open(OTHER).version != new  # within the edge of `check`
    rig.clock.sleep(4)
    assert whole(rig.service.open(OTHER, Freshness(7))) == b"new"  # that answer is 8 s old


def test_a_listing_stands_in_no_longer_than_the_mounts_age(
    slow_lake: SlowLake, new_rig: Callable[[Freshness], Rig]
) -> None:
    rig = new_rig(Freshness(2))
    list(rig.service.list(FOLDER))
    rig.clock.sleep(3)
    rig.service.open(ONE)  # asked, for the listing is too old; it is found as listed
    slow_lake.set("f/other", b"new")
    assert whole(rig.service.open(OTHER)) == b"new"


def test_a_folder_is_known_to_be_one_no_longer_than_the_mounts_age(
    slow_lake: SlowLake, new_rig: Callable[[Freshness], Rig]
) -> None:
    rig = new_rig(Freshness(2))
    list(rig.service.list(FOLDER))
    rig.clock.sleep(3)
    slow_lake.remove("f/one")
    slow_lake.remove("f/other")
    slow_lake.set("f", b"an object now")
    assert rig.service.stat(FOLDER).version is not None


def test_the_rest_of_an_older_listing_never_joins_a_younger_one(
    slow_lake: SlowLake, new_rig: Callable[[Freshness], Rig]
) -> None:
    rig = new_rig(CHECK)
    held_up = HeldUp(slow_lake, "list")
    older = threading.Thread(target=lambda: list(rig.service.list(FOLDER)))
    older.start()
    assert held_up.made.wait(PATIENCE)
    slow_lake.set("f/other", b"new")
    rig.clock.sleep(60)
    list(rig.service.list(FOLDER))
    held_up.arrive()
    older.join()
    rig.service.open(ONE)  # was not changed: found as either listed it
    assert whole(rig.service.open(OTHER)) == b"new"


def test_all_opens_of_a_pinned_mount_get_the_first_answer(
    slow_lake: SlowLake, new_rig: Callable[[Freshness], Rig]
) -> None:
    rig = new_rig(PINNED)
    held_up = HeldUp(slow_lake, "stat")
    versions: list[str] = []
    late = threading.Thread(target=lambda: versions.append(rig.service.open(ONE).version.tag))
    late.start()
    assert held_up.made.wait(PATIENCE)
    slow_lake.set("f/one", b"new")
    first = rig.service.open(ONE).version.tag
    held_up.arrive()
    late.join()
    assert versions == [first] == [rig.service.open(ONE).version.tag]


def test_a_late_answer_takes_no_younger_ones_place(
    slow_lake: SlowLake, new_rig: Callable[[Freshness], Rig]
) -> None:
    rig = new_rig(CHECK)
    held_up = HeldUp(slow_lake, "stat")
    late = threading.Thread(target=lambda: rig.service.open(ONE))
    late.start()
    assert held_up.made.wait(PATIENCE)
    slow_lake.set("f/one", b"new")
    rig.clock.sleep(1)
    assert whole(rig.service.open(ONE)) == b"new"
    held_up.arrive()
    late.join()
    assert whole(rig.service.open(ONE, Freshness(30))) == b"new"  # not back to the older one
