"""Pinned pages stay under pressure, within their half, and ages are what the clock said."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.protocol import HeldPage, PageTier
from headrace_cache.tiers.ssd.limits import limits_of
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import loaded, random_page, scope_of, stored, version
from tests.fakes.clock import ManualClock


@pytest.fixture
def world(tmp_path: Path) -> SsdWorld:
    return SsdWorld(tmp_path, 32 * MIB)


def put(tier: PageTier, number: int, pages: int = 1, length: int = MIB) -> None:
    for index in range(pages):
        page = PageId(version(number), index)
        stored(tier, page, random_page(page, length))


def has(tier: PageTier, number: int, pages: int = 1, length: int = MIB) -> bool:
    names = [PageId(version(number), index) for index in range(pages)]
    return all(loaded(tier, page, length) == random_page(page, length) for page in names)


def pressure(tier: PageTier, world: SsdWorld, first: int, count: int = 100) -> None:
    for number in range(first, first + count):
        put(tier, number)
    assert has(tier, first + count - 1)
    assert world.bytes_on_disk() <= world.limit_bytes


def test_pinned_pages_survive_any_pressure(world: SsdWorld) -> None:
    tier = world.open()
    put(tier, 0, 4)
    put(tier, 1, 4)
    assert tier.pin(version(0))
    for first in (100, 300):
        pressure(tier, world, first)
        assert tier.pinned(version(0))
        assert [page.index for page in tier.inspect(version(0))] == [0, 1, 2, 3]
    assert has(tier, 0, 4) and not has(tier, 1, 4)
    tier.close()
    tier = world.open()
    pressure(tier, world, 500)
    assert has(tier, 0, 4)
    assert tier.unpin(version(0))
    pressure(tier, world, 700, 200)
    assert not has(tier, 0, 4)
    tier.close()


def test_what_is_stored_after_the_pin_is_kept_too(world: SsdWorld) -> None:
    tier = world.open()
    assert tier.pin(version(0))
    put(tier, 0, 4)
    pressure(tier, world, 100)
    assert has(tier, 0, 4)
    tier.close()


def test_pins_get_half_of_the_segments_and_no_more(world: SsdWorld) -> None:
    tier = world.open()
    limits = limits_of(world.limit_bytes, MIB)
    assert limits.pinned_segments * limits.segment_bytes <= world.limit_bytes // 2
    answers: list[bool] = []
    for number in range(12):
        put(tier, number, 2)  # a segment each
        answers.append(tier.pin(version(number)))
    assert answers == [True] * limits.pinned_segments + [False] * (12 - limits.pinned_segments)
    assert [tier.pinned(version(number)) for number in range(12)] == answers
    pressure(tier, world, 100)
    assert [has(tier, number, 2) for number in range(12)] == answers
    assert tier.unpin(version(0))
    put(tier, 11, 2)
    assert tier.pin(version(11))
    tier.close()


def test_pins_that_outgrow_their_half_never_stop_the_tier(world: SsdWorld) -> None:
    tier = world.open()
    for number in range(100):
        assert tier.pin(version(number))  # nothing of them is held yet
    pressure(tier, world, 0)
    pressure(tier, world, 500)
    assert tier.usage().used <= world.limit_bytes
    tier.close()


def test_tiny_pinned_objects_do_not_fill_the_index(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 16 * MIB)
    tier = world.open()
    limits = limits_of(world.limit_bytes, MIB)
    pins = 0
    for number in range(3000):
        put(tier, number, length=200)
        pins += tier.pin(version(number))
    assert 0 < pins <= limits.pinned_objects
    for number in range(10_000, 12_000):
        put(tier, number, length=200)
        assert has(tier, number, length=200)
    assert has(tier, 0, length=200)
    tier.close()


def test_a_purged_pin_keeps_no_segment(world: SsdWorld) -> None:
    tier = world.open()
    page = PageId(version(0), 0)
    stored(tier, page, random_page(page, MIB), scope_of("/lake/hr"))
    put(tier, 1, 3)
    assert tier.pin(version(0)) and tier.pin(version(1))
    assert tier.purge(lambda scope: scope == scope_of("/lake/hr")) is not None
    assert not tier.pinned(version(0)) and tier.pinned(version(1))
    pressure(tier, world, 100)
    assert has(tier, 1, 3)
    tier.close()


def test_pages_expire_by_the_time_they_were_stored(world: SsdWorld) -> None:
    clock = ManualClock(1_700_000_000.75)
    tier = world.open(clock)
    for index in range(3):
        page = PageId(version(0), index)
        stored(tier, page, random_page(page, 1000))
        clock.sleep(60)
    assert tier.inspect(version(0)) == [
        HeldPage(index, 1000, 1_700_000_000.0 + 60 * index) for index in range(3)
    ]
    assert tier.expire(version(0), 1_700_000_060.0) == 1000
    assert [page.index for page in tier.inspect(version(0))] == [1, 2]
    assert tier.expire(version(0), clock.now()) == 2000
    assert tier.usage().objects == 0
    tier.close()


def test_an_object_of_many_pages_expires_whole(world: SsdWorld) -> None:
    """More than one transaction takes."""
    clock = ManualClock(1000.0)
    tier = world.open(clock)
    pages = [PageId(version(0), index) for index in range(2500)]
    for start in range(0, 2500, 500):
        batch = pages[start : start + 500]
        tier.store([(page, memoryview(b"x" * 10)) for page in batch], scope_of("/lake/open"))
        clock.sleep(1 if start == 1000 else 0)
    assert len(tier.inspect(version(0))) == 2500
    assert tier.expire(version(0), 1001.0) == 15_000
    assert [page.index for page in tier.inspect(version(0))] == list(range(1500, 2500))
    tier.close()


@pytest.mark.parametrize("now", [-3600.0, 2.0**32 + 60])
def test_a_clock_before_1970_or_after_2106_keeps_the_tier_in_use(
    world: SsdWorld, now: float
) -> None:
    clock = ManualClock()
    clock.set_forward = now - clock.time
    tier = world.open(clock)
    page = PageId(version(0), 0)
    stored(tier, page, random_page(page, 1000))
    assert loaded(tier, page, 1000) == random_page(page, 1000)
    assert tier.inspect(version(0))[0].stored_at in (0.0, 2.0**32 - 1)
    tier.close()
