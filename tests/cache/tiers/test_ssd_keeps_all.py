"""A tier that is far from full keeps everything that it was given."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.limits import limits_of
from headrace_cache.tiers.ssd.sealing import OVERHEAD_BYTES
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import FOLDER, loaded, random_page, version


def store_batch(tier: PageTier, pages: Sequence[PageId], length: int) -> None:
    tier.store([(page, memoryview(random_page(page, length))) for page in pages], FOLDER)


def missing(tier: PageTier, pages: Sequence[PageId], length: int) -> list[PageId]:
    return [page for page in pages if loaded(tier, page, length) != random_page(page, length)]


@pytest.mark.parametrize("batch", [60, 13, 7, 1])
def test_half_a_tier_of_large_pages_is_held(tmp_path: Path, batch: int) -> None:
    world = SsdWorld(tmp_path, 128 * MIB)
    tier = world.open()
    pages = [PageId(version(number // 5), number % 5) for number in range(60)]
    for start in range(0, 60, batch):
        store_batch(tier, pages[start : start + batch], MIB)
        assert world.bytes_on_disk() <= world.limit_bytes
    assert missing(tier, pages, MIB) == []
    tier.close()
    tier = world.open()
    assert missing(tier, pages, MIB) == []
    tier.close()


def test_a_batch_larger_than_the_tier_leaves_its_end(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 32 * MIB)
    tier = world.open()
    pages = [PageId(version(number), 0) for number in range(80)]
    store_batch(tier, pages, MIB)
    assert world.bytes_on_disk() <= world.limit_bytes
    assert missing(tier, pages[-20:], MIB) == []
    tier.close()


def test_a_segment_that_is_filled_to_the_byte_is_held(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 32 * MIB)
    segment_bytes = limits_of(world.limit_bytes, MIB).segment_bytes
    length = segment_bytes // 3 - OVERHEAD_BYTES
    assert segment_bytes == 3 * (length + OVERHEAD_BYTES)
    tier = world.open()
    pages = [PageId(version(number), 0) for number in range(24)]
    store_batch(tier, pages, length)
    assert [path.stat().st_size for path in world.segments()] == [segment_bytes] * 8
    assert missing(tier, pages, length) == []
    tier.close()


def test_more_small_pages_than_a_segment_lists_are_held(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 128 * MIB)
    count = 3 * limits_of(world.limit_bytes, MIB).segment_pages + 1
    tier = world.open()
    pages = [PageId(version(number), 0) for number in range(count)]
    store_batch(tier, pages, 500)
    assert len(world.segments()) == 4
    assert missing(tier, pages, 500) == []
    tier.close()


@pytest.mark.parametrize("limit_bytes", [24 * MIB, 64 * MIB, 128 * MIB])
@pytest.mark.parametrize("seed", range(4))
def test_random_batches_are_held(tmp_path: Path, limit_bytes: int, seed: int) -> None:
    """Also over closings, which leave half-empty segments to be taken over, and forgetting."""
    chance = random.Random(seed)
    world = SsdWorld(tmp_path, limit_bytes)
    tier = world.open()
    lengths: dict[PageId, int] = {}
    written = 0
    while True:
        batch = {
            PageId(version(chance.randrange(200)), chance.randrange(50)): chance.choice(
                [100, 5000, 70_000, chance.randrange(1, MIB), MIB - 1, MIB]
            )
            for _ in range(chance.choice([1, 2, 5, 20]))
        }
        batch = {page: length for page, length in batch.items() if page not in lengths}
        written += sum(batch.values())
        if written > limit_bytes * 2 // 5:
            break
        lengths |= batch
        data = {page: random_page(page, length) for page, length in batch.items()}
        tier.store([(page, memoryview(data[page])) for page in batch], FOLDER)
        if chance.random() < 0.2 and lengths:
            gone = chance.choice(list(lengths)).version
            taken = [page for page in lengths if page.version == gone]
            assert tier.forget(gone) == sum(lengths.pop(page) for page in taken)
        if chance.random() < 0.2:
            tier.close()
            tier = world.open()
        assert world.bytes_on_disk() <= limit_bytes
        assert all(tier.holds(page) for page in lengths)
    assert [page for page in lengths if missing(tier, [page], lengths[page])] == []
    tier.close()


@pytest.mark.parametrize("batch", [1, 4])
def test_many_threads_lose_nothing_to_one_another(tmp_path: Path, batch: int) -> None:
    world = SsdWorld(tmp_path, 64 * MIB)
    tier = world.open()
    pages = [PageId(version(number // 3), number % 3) for number in range(32)]
    start = threading.Barrier(8)

    def work(number: int) -> None:
        own = pages[number::8]
        start.wait()
        for first in range(0, len(own), batch):
            store_batch(tier, own[first : first + batch], MIB)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing(tier, pages, MIB) == []
    assert world.bytes_on_disk() <= world.limit_bytes
    tier.close()
