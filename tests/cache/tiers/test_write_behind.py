from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers import write_behind
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.write_behind import WriteBehindTier
from tests.cache.tiers.ssd_pages import SECRET
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import (
    FOLDER,
    PageTierSuite,
    loaded,
    random_page,
    stored,
    version,
)
from tests.fakes.page_tier import DictTier


class TestWriteBehindTier(PageTierSuite):
    @pytest.fixture
    def prepare(self, tmp_path: Path) -> None:
        self.world = SsdWorld(tmp_path)

    def make_tier(self) -> PageTier:
        return WriteBehindTier(self.world.open(), 8 * MIB)


class HeldTier(DictTier):
    """Stores when it is let go; notes which thread stored what."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.entered = threading.Event()
        self.stored_by: dict[PageId, str] = {}

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        name = threading.current_thread().name
        if name == "headrace-ssd-writer":
            self.entered.set()
            assert self.go.wait(30)
        for page, _ in pages:
            self.stored_by[page] = name
        super().store([(page, memoryview(data)) for page, data in pages], scope)


def test_a_full_backlog_makes_the_caller_store_its_own(tmp_path: Path) -> None:
    inner = HeldTier()
    tier = WriteBehindTier(inner, 1000)
    first, second, third = (PageId(version(number), 0) for number in range(3))
    stored(tier, first, b"a" * 600)
    assert inner.entered.wait(30)
    stored(tier, second, b"b" * 600)
    stored(tier, third, b"c" * 300)
    assert inner.stored_by == {second: threading.current_thread().name}
    assert tier.holds(first) and tier.holds(third)
    inner.go.set()
    tier.flush()
    assert inner.stored_by[first] == inner.stored_by[third] == "headrace-ssd-writer"
    tier.close()


def test_memory_is_let_go_once_it_is_stored() -> None:
    inner = HeldTier()
    tier = WriteBehindTier(inner, MIB)
    memory = mmap.mmap(-1, 4096)
    tier.store([(PageId(version(1), 0), memoryview(memory)[:100])], FOLDER)
    assert inner.entered.wait(30)
    with pytest.raises(BufferError):
        memory.close()
    inner.go.set()
    tier.flush()
    memory.close()
    tier.close()


def test_a_version_that_is_forgotten_does_not_come_back_from_the_queue() -> None:
    inner = HeldTier()
    tier = WriteBehindTier(inner, MIB)
    first, second = PageId(version(1), 0), PageId(version(2), 0)
    stored(tier, first, b"a" * 10)
    assert inner.entered.wait(30)
    stored(tier, second, b"b" * 20)
    assert tier.forget(second.version) == 20
    assert not tier.holds(second)
    forgetting = threading.Thread(target=tier.forget, args=(first.version,))
    forgetting.start()
    inner.go.set()
    forgetting.join()
    tier.flush()
    assert inner.pages == {}
    tier.close()


def test_closing_ends_the_thread() -> None:
    inner = HeldTier()
    inner.go.set()
    tier = WriteBehindTier(inner, MIB)
    stored(tier, PageId(version(1), 0), b"data")
    tier.close()
    assert "headrace-ssd-writer" not in [thread.name for thread in threading.enumerate()]
    assert inner.pages != {}


# Python 3.12 warns of what is tested here: forking where other threads run.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_goes_on_without_the_parents_queue(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path)
    tier = WriteBehindTier(world.open(), 8 * MIB)
    pages = [PageId(version(number), 0) for number in range(50)]
    for page in pages:
        stored(tier, page, random_page(page, 100_000))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tier.after_fork_in_child()
            page = PageId(version(1000), 0)
            stored(tier, page, random_page(page, 1000))
            tier.flush()
            assert loaded(tier, page, 1000) == random_page(page, 1000)
            tier.close()
            status = 0
        finally:
            os._exit(status)
    tier.flush()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for page in pages[-5:]:
        assert loaded(tier, page, 100_000) == random_page(page, 100_000)
    tier.close()


def test_what_is_purged_does_not_come_back_from_the_queue_nor_from_a_batch() -> None:
    inner = HeldTier()
    tier = WriteBehindTier(inner, MIB)
    pages = [PageId(version(number), 0) for number in range(3)]
    stored(tier, pages[0], b"a" * 10, SECRET)
    assert inner.entered.wait(30)
    stored(tier, pages[1], b"b" * 10, SECRET)
    stored(tier, pages[2], b"c" * 10)
    asked = threading.Event()

    def covers(scope: Scope) -> bool:
        asked.set()
        return scope == SECRET

    with ThreadPoolExecutor(1) as pool:
        purging = pool.submit(tier.purge, covers)
        assert asked.wait(30)
        inner.go.set()
        report = purging.result(30)
    assert report is not None and report.objects == 1
    tier.flush()
    assert set(inner.pages) == {pages[2]}
    tier.close()


def test_a_batch_that_is_not_stored_in_time_makes_the_purge_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_behind, "FORGET_SECONDS", 0.0)
    inner = HeldTier()
    tier = WriteBehindTier(inner, MIB)
    stored(tier, PageId(version(1), 0), b"a" * 10, SECRET)
    assert inner.entered.wait(30)
    with pytest.raises(OSError, match="try again"):
        tier.purge(lambda scope: scope == SECRET)
    assert tier.purge(lambda scope: scope != SECRET) is None
    inner.go.set()
    tier.flush()
    report = tier.purge(lambda scope: scope == SECRET)
    assert report is not None and not inner.pages
    tier.close()
