from __future__ import annotations

import logging
import os
import random
import stat
import traceback
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.off_tier import OffTier
from headrace_cache.tiers.protocol import PageTier, TierUsage
from headrace_cache.tiers.ssd.index import SsdIndex
from headrace_cache.tiers.ssd.limits import limits_of
from headrace_namespace.errors import ConfigError
from headrace_namespace.metadata.lmdb_env import IndexFault
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import (
    FOLDER,
    PageTierSuite,
    loaded,
    random_page,
    stored,
    text_page,
    version,
)


@pytest.fixture
def world(tmp_path: Path) -> SsdWorld:
    return SsdWorld(tmp_path)


class TestSsdTier(PageTierSuite):
    @pytest.fixture
    def prepare(self, world: SsdWorld) -> None:
        self.world = world

    def make_tier(self) -> PageTier:
        return self.world.open()


def test_pages_outlive_the_process_that_stored_them(world: SsdWorld) -> None:
    pages = [PageId(version(number), number % 3) for number in range(20)]
    tier = world.open()
    for page in pages:
        stored(tier, page, random_page(page, 10_000))
    tier.close()
    tier = world.open()
    for page in pages:
        assert loaded(tier, page, 10_000) == random_page(page, 10_000)
    tier.close()


def test_two_tiers_of_one_process_share_a_folder(world: SsdWorld) -> None:
    first, second = world.open(), world.open()
    for number, tier in enumerate([first, second] * 5):
        page = PageId(version(number), 0)
        stored(tier, page, random_page(page, 5000))
    first.close()
    for number in range(10):
        page = PageId(version(number), 0)
        assert loaded(second, page, 5000) == random_page(page, 5000)
    second.close()


def test_everything_is_for_this_user_only(world: SsdWorld) -> None:
    tier = world.open()
    stored(tier, PageId(version(1), 0), b"data" * 1000)
    for path in [world.folder, *world.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    tier.close()


def test_no_plaintext_and_no_name_reaches_the_folder(world: SsdWorld) -> None:
    canary = random.Random(1).randbytes(64)
    name = version(99)
    tier = world.open()
    for index, fill in enumerate([b"", b"compressible " * 5000]):
        stored(tier, PageId(name, index), canary * 4 + fill + canary * 4)
    stored(tier, PageId(version(5), 0), text_page(PageId(version(5), 0), 200_000))
    tier.flush()
    key = world.key_file.read_bytes()
    words = [canary[:16], canary[-16:], name, name.hex().encode(), key, version(5)]
    words += [b"compressible", b"some words that come"]

    def found() -> list[tuple[Path, bytes]]:
        files = [path for path in world.folder.rglob("*") if path.is_file()]
        assert any(path.suffix == ".sealed" for path in files)
        return [(path, word) for path in files for word in words if word in path.read_bytes()]

    assert found() == []
    tier.forget(name)
    tier.close()
    assert found() == []
    (world.folder / "control").write_bytes(canary)
    assert found() != []


def test_compression_is_kept_where_it_pays_only(world: SsdWorld) -> None:
    tier = world.open()
    text, noise = PageId(version(1), 0), PageId(version(2), 0)
    empty = tier.usage().used
    stored(tier, text, text_page(text, MIB))
    after_text = tier.usage().used
    assert after_text - empty < MIB // 8
    stored(tier, noise, random_page(noise, MIB))
    assert MIB < tier.usage().used - after_text < MIB + 64 * 1024
    tier.close()


def test_the_oldest_segment_leaves_but_a_read_one_gets_another_round(world: SsdWorld) -> None:
    tier = world.open()
    favourite = PageId(version(0), 0)
    stored(tier, favourite, random_page(favourite, MIB))
    last = favourite
    for number in range(1, 100):
        last = PageId(version(number), 0)
        stored(tier, last, random_page(last, MIB))
        assert loaded(tier, favourite, MIB) == random_page(favourite, MIB)
    assert loaded(tier, last, MIB) is not None
    # Two pages fill a segment: page 1 lies, and stays, beside the favourite.
    assert not tier.holds(PageId(version(2), 0))
    assert len(world.segments()) <= 16
    tier.close()


def test_small_objects_fill_the_index_and_the_oldest_leave(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 16 * MIB)
    tier = world.open()
    for start in range(0, 20_000, 500):
        pages = [PageId(version(number), 0) for number in range(start, start + 500)]
        tier.store([(page, memoryview(random_page(page, 200))) for page in pages], FOLDER)
    newest = [PageId(version(number), 0) for number in range(18_000, 20_000)]
    assert sum(loaded(tier, page, 200) is not None for page in newest) > 300
    assert loaded(tier, PageId(version(0), 0), 200) is None
    assert world.bytes_on_disk() <= world.limit_bytes
    tier.close()


def test_short_lived_processes_do_not_leave_a_file_each(world: SsdWorld) -> None:
    for number in range(30):
        tier = world.open()
        page = PageId(version(number), 0)
        stored(tier, page, random_page(page, 1000))
        tier.close()
    assert len(world.segments()) == 1
    tier = world.open()
    for number in range(30):
        page = PageId(version(number), 0)
        assert loaded(tier, page, 1000) == random_page(page, 1000)
    tier.close()


def test_forgetting_everything_gives_the_disk_back(world: SsdWorld) -> None:
    tier = world.open()
    for number in range(12):
        page = PageId(version(number), 0)
        stored(tier, page, random_page(page, MIB))
    tier.close()
    tier = world.open()
    assert len(world.segments()) > 4
    for number in range(12):
        tier.forget(version(number))
    assert world.segments() == []
    tier.close()


def test_a_lowered_limit_is_kept_from_the_next_opening_on(world: SsdWorld) -> None:
    tier = world.open()
    for number in range(25):
        page = PageId(version(number), 0)
        stored(tier, page, random_page(page, MIB))
    tier.close()
    assert world.bytes_on_disk() > 20 * MIB
    smaller = SsdWorld(world.root, 16 * MIB)
    tier = smaller.open()
    assert smaller.bytes_on_disk() <= 16 * MIB
    tier.close()


@pytest.mark.parametrize("limit_bytes", [16 * MIB, 100 * MIB, 1 << 30, 1 << 40])
@pytest.mark.parametrize("page_bytes", [4096, MIB])
def test_the_parts_of_a_limit_never_exceed_it(limit_bytes: int, page_bytes: int) -> None:
    limits = limits_of(limit_bytes, page_bytes)
    assert limits.data_bytes + limits.index_bytes <= limit_bytes
    assert limits.data_bytes // limits.segment_bytes >= 6
    assert limits.segment_bytes < 1 << 32


def test_too_small_a_limit_is_a_configuration_fault(world: SsdWorld) -> None:
    with pytest.raises(ConfigError, match="at least 16.0 MiB"):
        SsdWorld(world.root, 16 * MIB - 1).open()


def test_a_folder_that_cannot_be_made_turns_the_tier_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    tier = SsdWorld(tmp_path).open()
    assert isinstance(tier, OffTier)
    page = PageId(version(1), 0)
    stored(tier, page, b"data")
    assert loaded(tier, page, 4) is None
    assert tier.usage() == TierUsage(0, 0, 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "set [cache] folder and key_file to writable ones, or ssd = 0" in caplog.text


def test_a_closed_tier_allows_nothing(world: SsdWorld) -> None:
    tier = world.open()
    assert tier.usage().limit == world.limit_bytes
    tier.close()
    assert tier.usage() == TierUsage(0, 0, 0)


# Python 3.12 warns of what is tested here: forking where other threads run.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_leaves_parent_and_child_with_a_tier_each(world: SsdWorld) -> None:
    tier = world.open()
    before = [PageId(version(number), 0) for number in range(5)]
    for page in before:
        stored(tier, page, random_page(page, 50_000))
        assert loaded(tier, page, 50_000) is not None

    def use(first: int) -> None:
        for number in range(first, first + 20):
            page = PageId(version(number), 0)
            stored(tier, page, random_page(page, 50_000))
            for seen in (*before, page):
                assert loaded(tier, seen, 50_000) == random_page(seen, 50_000)

    child = os.fork()
    if child == 0:  # no pytest in here: report by the exit status alone
        status = 1
        try:
            tier.after_fork_in_child()
            inherited = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
            assert not any(name.endswith((".sealed", ".mdb", ".lock")) for name in inherited)
            use(100)
            tier.close()
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    use(200)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for number in (*range(100, 120), *range(200, 220)):
        page = PageId(version(number), 0)
        assert loaded(tier, page, 50_000) == random_page(page, 50_000)
    tier.close()


def test_a_load_that_cannot_look_for_a_purge_at_its_end_gives_nothing(
    world: SsdWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge that ended meanwhile has promised that nobody opens its pages."""
    tier = world.open()
    page = PageId(version(1), 0)
    stored(tier, page, random_page(page, 1000))

    def fail(index: SsdIndex) -> int:
        raise IndexFault("no reader's slot is free")

    with monkeypatch.context() as patch:
        patch.setattr(SsdIndex, "key_number", fail)
        assert loaded(tier, page, 1000) is None
    assert loaded(tier, page, 1000) == random_page(page, 1000)
    tier.close()
