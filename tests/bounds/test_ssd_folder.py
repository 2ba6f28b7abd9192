"""The SSD's bound is one for all processes that share a folder, and counts what the disk gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.segments import SegmentReader
from headrace_cache.tiers.ssd.tables import Tables
from headrace_namespace.metadata.lmdb_env import acquire, release
from tests.bounds.crowd import on_disk
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import loaded, random_page, stored, version

LARGE, SMALL = 96 * MIB, 24 * MIB


def pages(first: int, stop: int) -> list[PageId]:
    return [PageId(version(number), 0) for number in range(first, stop)]


def store_each(tier: PageTier, names: list[PageId], length: int) -> None:
    for name in names:
        stored(tier, name, random_page(name, length))


def unlinked_bytes(folder: Path) -> int:
    """What the disk keeps for descriptors of this process whose files have no name any more."""
    kept = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            if name.startswith(str(folder)) and name.endswith(" (deleted)"):
                kept += os.stat(f"/proc/self/fd/{descriptor}").st_blocks * 512
        except OSError:
            continue
    return kept


def test_a_lowered_limit_holds_before_the_first_byte_is_served(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, LARGE)
    tier = world.open()
    store_each(tier, pages(0, 100), MIB)
    tier.close()
    assert on_disk(world.folder) > SMALL
    world = SsdWorld(tmp_path, SMALL)
    tier = world.open()
    assert on_disk(world.folder) <= SMALL
    assert tier.usage().used <= tier.usage().limit == SMALL
    assert any(loaded(tier, page, MIB) for page in pages(80, 100)), "all was thrown away"
    store_each(tier, pages(100, 140), MIB)
    assert on_disk(world.folder) <= SMALL
    tier.close()


def test_files_that_end_within_a_block_count_the_whole_block(tmp_path: Path) -> None:
    """Each opening and closing may leave a segment that ends anywhere."""
    world = SsdWorld(tmp_path, SMALL)
    for number in range(8):
        tier = world.open()
        # More than half of a segment, so that the next opening does not take it over.
        store_each(tier, pages(2 * number, 2 * number + 2), 700_001)
        tier.close()
    taken = sum(file.stat().st_blocks * 512 for file in world.segments())
    environment = acquire(world.folder / "index", 1 << 20)
    tables = Tables(environment)
    with environment.read() as transaction:
        assert tables.totals(transaction).reserved == taken
    release(environment)


def test_what_was_evicted_is_the_disks_again_though_another_has_it_open(tmp_path: Path) -> None:
    """Its unlinked files were invisible to `du` and kept up to 4 GiB in each idle process."""
    world = SsdWorld(tmp_path, SMALL)
    reader, writer = world.open(), world.open()
    store_each(writer, pages(0, 8), MIB)
    assert all(loaded(reader, page, MIB) for page in pages(0, 8))  # opens their segments
    store_each(writer, pages(100, 140), MIB)
    assert not any(reader.holds(page) for page in pages(0, 8))
    assert unlinked_bytes(world.folder) == 0
    reader.close()
    writer.close()


def test_a_page_evicted_while_it_is_read_is_a_plain_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = SsdWorld(tmp_path, SMALL)
    reader, writer = world.open(), world.open()
    (page,) = pages(0, 1)
    store_each(writer, pages(0, 3), MIB)
    assert loaded(reader, page, MIB)
    real = SegmentReader.read

    def read(self: SegmentReader, segment: int, offset: int, target: memoryview) -> bool:
        store_each(writer, pages(100, 140), MIB)
        return real(self, segment, offset, target)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentReader, "read", read)
        assert loaded(reader, page, MIB) is None
    assert not caplog.records
    reader.close()
    writer.close()
