"""What is on its way to the SSD tier is waited for, by who asks what the tier holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from headrace_cache.extents.handing import Handing
from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier


class Taking(DictTier):
    """Takes pages when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.take = threading.Event(), threading.Event()

    def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
        self.asked.set()
        assert self.take.wait(10)
        super().store(pages, scope)


@pytest.fixture
def tier() -> Iterator[Taking]:
    tier = Taking()
    yield tier
    tier.take.set()


@pytest.fixture
def rig(lake: MemoryBackend, tier: Taking) -> Iterator[Rig]:
    rig = Rig({"/lake": lake}, ssd=tier)
    yield rig
    tier.take.set()
    rig.service.close()


def in_a_thread(function: object, *args: object) -> threading.Thread:
    assert callable(function)
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def test_a_flush_waits_for_pages_that_can_be_read_but_are_not_handed_yet(
    rig: Rig, lake: MemoryBackend, tier: Taking
) -> None:
    lake.set("a", b"x" * PAGE)
    reader = in_a_thread(whole, rig.service.open(path("/lake/a")))
    assert tier.asked.wait(10)
    held = threading.Event()
    flushed: list[bool] = []

    def flush() -> None:
        rig.service.flush()
        flushed.append(bool(tier.pages))
        held.set()

    flusher = in_a_thread(flush)
    assert not held.wait(0.3)
    tier.take.set()
    flusher.join(10)
    reader.join(10)
    assert flushed == [True]


def test_a_purge_of_a_tier_that_takes_nothing_says_so_and_reads_nothing_from_it(
    rig: Rig, lake: MemoryBackend, tier: Taking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_cache.extents.extent_store.HANDED_SECONDS", 0.05)
    lake.set("a", b"x" * PAGE)
    reader = in_a_thread(whole, rig.service.open(path("/lake/a")))
    assert tier.asked.wait(10)

    def everything(_: Scope) -> bool:
        return True

    with pytest.raises(OSError, match="does not take the pages"):
        rig.store.purge(everything)
    tier.take.set()
    reader.join(10)
    assert tier.pages
    rig.store.withdraw(lambda _, __: True)
    fetched = rig.service.status().bytes_fetched
    assert whole(rig.service.open(path("/lake/a"))) == b"x" * PAGE
    assert (
        rig.service.status().bytes_fetched > fetched
    )  # what should have been purged is not served
    report = rig.store.purge(everything)
    assert report is not None and not tier.pages


def test_one_that_fails_ends() -> None:
    handing = Handing(ManualClock())

    def fail() -> None:
        with handing.one():
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert handing.wait(0.0)


def test_those_that_begin_later_are_not_waited_for() -> None:
    handing = Handing(ManualClock())
    first, ended = handing.one(), threading.Event()
    first.__enter__()

    def wait() -> None:
        assert handing.wait(10)
        ended.set()

    waiter = in_a_thread(wait)
    assert not ended.wait(0.2)
    with handing.one():
        first.__exit__(None, None, None)
        waiter.join(10)
        assert ended.is_set()
        assert not handing.wait(0.0)
