"""What the cache holds of an object: warmed, dropped, pinned, and gone when it is old."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from headrace_cache.limits import PolicySource
from headrace_cache.service import HeldExtent
from headrace_namespace.errors import NotFound, PolicyDenied, StoreFull
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier

RULES = """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
[[rule]]
name = "closed"
match.path = ["/lake/closed/**"]
apply.persistence = "deny"
"""
A = path("/lake/a")


@pytest.fixture
def ssd() -> DictTier:
    return DictTier(clock=ManualClock())


@pytest.fixture
def held(lake: MemoryBackend, ssd: DictTier) -> Iterator[Rig]:
    rig = Rig({"/lake": lake}, policy=PolicySource(RULES, "policy.toml"), ssd=ssd)
    yield rig
    rig.service.close()


def another(lake: MemoryBackend, ssd: DictTier) -> Rig:
    """A process that starts now: nothing in memory, the same SSD."""
    return Rig({"/lake": lake}, ssd=ssd)


@pytest.mark.parametrize("size", [0, 1, PAGE, 3 * PAGE + 5, 40 * PAGE])
def test_what_was_warmed_is_fetched_once_and_found_by_the_next_process(
    held: Rig, lake: MemoryBackend, ssd: DictTier, size: int
) -> None:
    data = os.urandom(size)
    lake.set("a", data)
    opened = held.service.open(A)
    assert opened.warm(0, size) == size
    assert opened.warm(0, size) == 0
    assert held.service.status().misses == 0  # nobody has read
    held.service.flush()
    next_one = another(lake, ssd)
    try:
        again = next_one.service.open(A)
        assert again.warm(0, size) == 0
        assert not next_one.memory.usage().used  # what is sealed was left where it is
        assert whole(again) == data
        assert next_one.service.status().bytes_fetched == 0
    finally:
        next_one.service.close()


def test_only_the_missing_part_is_fetched(held: Rig, lake: MemoryBackend, ssd: DictTier) -> None:
    lake.set("a", os.urandom(10 * PAGE))
    held.service.open(A).read_at(2 * PAGE, 4 * PAGE)
    assert held.service.open(A).warm(0, 10 * PAGE) == 8 * PAGE
    assert len(ssd.pages) == 10
    assert held.service.open(A).warm(PAGE, PAGE) == 0


def test_what_left_the_ssd_is_sealed_again_from_memory(
    held: Rig, lake: MemoryBackend, ssd: DictTier
) -> None:
    lake.set("a", os.urandom(3 * PAGE))
    opened = held.service.open(A)
    whole(opened)
    ssd.pages.clear()
    assert opened.warm(0, 3 * PAGE) == 0
    assert len(ssd.pages) == 3


def test_an_object_larger_than_memory_is_warmed_whole(lake: MemoryBackend, ssd: DictTier) -> None:
    lake.set("a", os.urandom(100 * PAGE))
    rig = Rig({"/lake": lake}, ssd=ssd, memory_bytes=16 * PAGE)
    assert rig.service.open(A).warm(0, 100 * PAGE) == 100 * PAGE
    assert len(ssd.pages) == 100
    rig.service.close()


def test_what_may_not_be_cached_is_not_fetched_for_nobody(lake: MemoryBackend) -> None:
    rules = RULES.replace('"memory-only"', '"no-cache"')
    rig = Rig({"/lake": lake}, policy=PolicySource(rules, "policy.toml"), ssd=DictTier())
    lake.set("hr/a", b"x" * PAGE)
    assert rig.service.open(path("/lake/hr/a")).warm(0, PAGE) == 0
    assert not lake.asked["read"]
    rig.service.close()


@pytest.mark.parametrize("size", [100, 3 * PAGE + 5, 100 * PAGE])
def test_drop_forgets_memory_and_ssd(lake: MemoryBackend, ssd: DictTier, size: int) -> None:
    data = os.urandom(size)
    lake.set("a", data)
    rig = Rig({"/lake": lake}, ssd=ssd)
    opened = rig.service.open(A)
    assert whole(opened) == data
    assert rig.service.drop(A) == size
    assert not ssd.pages
    assert rig.service.drop(A) == 0
    reads = lake.asked["read"]
    assert whole(opened) == data  # an open object goes on, from the store
    assert lake.asked["read"] > reads
    rig.service.close()


def test_drop_leaves_others_and_gives_memory_back(held: Rig, lake: MemoryBackend) -> None:
    for name in ("a", "b"):
        lake.set(name, name.encode() * 100)
        whole(held.service.open(path(f"/lake/{name}")))
    used = held.memory.usage()
    assert used.objects == 2
    held.service.drop(A)
    assert held.memory.usage().objects == 1
    reads = lake.asked["read"]
    assert whole(held.service.open(path("/lake/b"))) == b"b" * 100
    assert lake.asked["read"] == reads
    held.service.drop(path("/lake/b"))
    assert held.memory.usage().used == 0


def test_drop_leaves_a_view_its_bytes(held: Rig, lake: MemoryBackend) -> None:
    data = os.urandom(20 * PAGE)
    lake.set("a", data)
    opened = held.service.open(A)
    view = opened.view(0, 20 * PAGE)
    held.service.drop(A)
    assert bytes(view) == data
    assert opened.read_at(5, 9) == data[5:9]


def test_drop_of_nothing_says_so(held: Rig) -> None:
    with pytest.raises(NotFound):
        held.service.drop(A)


def test_pin_brings_the_whole_object_and_unpin_lets_go(
    held: Rig, lake: MemoryBackend, ssd: DictTier
) -> None:
    lake.set("a", os.urandom(5 * PAGE))
    assert held.service.pin(A) == 5 * PAGE
    assert len(ssd.pages) == 5
    assert held.service.why(A).pinned
    assert held.service.unpin(A) == 5 * PAGE
    assert held.service.unpin(A) == 0
    assert not held.service.why(A).pinned


def test_pin_is_refused_where_the_policy_or_the_room_forbids_it(lake: MemoryBackend) -> None:
    ssd = DictTier(limit=10 * PAGE)
    rig = Rig({"/lake": lake}, policy=PolicySource(RULES, "policy.toml"), ssd=ssd)
    lake.set("hr/a", b"x")
    lake.set("closed/a", b"x")
    lake.set("a", b"x" * 4 * PAGE)
    lake.set("b", b"x" * 4 * PAGE)
    lake.set("huge", b"x" * 6 * PAGE)
    for name in ("hr/a", "closed/a"):
        with pytest.raises(PolicyDenied):
            rig.service.pin(path(f"/lake/{name}"))
    with pytest.raises(StoreFull):
        rig.service.pin(path("/lake/huge"))
    assert rig.service.pin(A) == 4 * PAGE
    with pytest.raises(StoreFull):
        rig.service.pin(path("/lake/b"))
    assert not rig.service.why(path("/lake/b")).pinned
    rig.service.close()


def test_why_tells_where_the_bytes_are(held: Rig, lake: MemoryBackend, ssd: DictTier) -> None:
    lake.set("a", os.urandom(10 * PAGE + 7))
    opened = held.service.open(A)
    opened.read_at(0, 2 * PAGE)
    opened.read_at(9 * PAGE, 10 * PAGE + 7)
    now = held.clock.now()
    said = held.service.why(A)
    runs = [(0, 2 * PAGE), (9 * PAGE, PAGE + 7)]
    assert list(said.extents) == [
        HeldExtent(start, length, tier, now, "memory:lake")
        for tier in ("memory", "ssd")
        for start, length in runs
    ]
    assert said.version == opened.version
    assert [rule.name for rule in said.explanation.rules] == ["default"]
    lake.set("hr/a", b"x")
    whole(held.service.open(path("/lake/hr/a")))
    restricted = held.service.why(path("/lake/hr/a"))
    assert [extent.tier for extent in restricted.extents] == ["memory"]
    assert restricted.explanation.persistence == "memory-only"


def test_a_mount_with_a_ttl_forgets_what_is_older(lake: MemoryBackend) -> None:
    clock = ManualClock()
    ssd = DictTier(clock=clock)
    lake.set("a", os.urandom(20 * PAGE))
    rig = Rig({"/lake": lake}, ssd=ssd, clock=clock, ttl_seconds=60.0)
    rig.service.open(A).read_at(0, PAGE)
    clock.sleep(40)
    rig.service.open(A).read_at(5 * PAGE, 6 * PAGE)
    assert len(ssd.pages) == 2
    clock.sleep(40)  # the first page is 80 seconds old, the second 40
    rig.service.open(A)
    assert [page.index for page in ssd.pages] == [5]
    reads = lake.asked["read"]
    rig.service.open(A).read_at(5 * PAGE, 6 * PAGE)
    assert lake.asked["read"] == reads
    clock.sleep(30)  # opened from the SSD 30 seconds ago, but fetched 70 seconds ago
    rig.service.open(A).read_at(5 * PAGE, 6 * PAGE)
    assert lake.asked["read"] == reads + 1
    rig.service.close()


def test_a_mount_without_a_ttl_keeps_what_is_old(held: Rig, lake: MemoryBackend) -> None:
    lake.set("a", os.urandom(PAGE))
    whole(held.service.open(A))
    held.clock.sleep(1e9)
    whole(held.service.open(A))
    assert lake.asked["read"] == 1
