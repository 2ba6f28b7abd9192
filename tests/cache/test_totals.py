"""The totals over all processes: nothing counted twice, and little lost."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace_cache.limits import CacheSettings
from headrace_cache.opening import open_service
from headrace_cache.service import CacheService
from headrace_cache.totals import ADD_SECONDS, FetchCounters, TotalsKeeper
from headrace_namespace.clock import SystemClock
from headrace_namespace.declaration import BackendContext
from headrace_namespace.metadata.ledger import (
    Book,
    Ledger,
    LedgerFault,
    LmdbLedger,
    MemoryLedger,
    Page,
)
from headrace_namespace.metrics import BYTES_FETCHED, BYTES_SERVED, HITS, Counters
from headrace_namespace.mount_declarations import read_written_mount
from headrace_namespace.path import NamespacePath
from tests.fakes.clock import ManualClock

#: A process of the test that takes longer is stuck.
STUCK_SECONDS = 60.0


@dataclass
class Process:
    """What one process counts."""

    ledger: Ledger
    clock: ManualClock
    counters: Counters = field(default_factory=Counters)
    requests: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def __post_init__(self) -> None:
        self.keeper = TotalsKeeper(self.ledger, self.counters, lambda: self.requests, self.clock)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = LmdbLedger(tmp_path)
    yield ledger
    ledger.close()


def test_what_processes_did_is_added_up(ledger: Ledger) -> None:
    clock = ManualClock()
    one, other = Process(ledger, clock), Process(ledger, clock)
    one.counters.add(HITS, 3)
    one.requests["/lake"] = {"read": 2}
    other.counters.add(HITS, 4)
    other.requests["/lake"] = {"read": 5, "stat": 1}
    other.requests["/m" * 2000] = {"list": 7}
    other.keeper.close()
    clock.sleep(5)
    totals = one.keeper.totals()
    assert one.keeper.totals() == totals  # asking counts nothing twice
    assert (totals.since, totals.hits, totals.misses) == (1_000_000.0, 7, 0)
    assert totals.requests == {"/lake": {"read": 7, "stat": 1}, "/m" * 2000: {"list": 7}}
    one.keeper.close()


def test_what_is_done_later_is_added_when_it_is_due(ledger: Ledger) -> None:
    clock = ManualClock()
    one, other = Process(ledger, clock), Process(ledger, clock)
    one.counters.add(BYTES_SERVED, 10)
    one.keeper.add_if_due()
    assert ledger.book("totals").generation() == 0
    clock.sleep(ADD_SECONDS)
    one.keeper.add_if_due()
    one.keeper.add()  # on the same thread, so what was due before it is done
    assert ledger.book("totals").generation() == 1
    one.counters.add(BYTES_SERVED, 5)
    clock.sleep(ADD_SECONDS)
    one.keeper.add_if_due()
    one.keeper.close()
    assert other.keeper.totals().bytes_served == 15
    other.keeper.close()


def test_a_long_job_without_an_open_is_added_as_it_fetches(ledger: Ledger) -> None:
    clock, counters = ManualClock(), FetchCounters()
    keeper = TotalsKeeper(ledger, counters, lambda: {}, clock)
    counters.on_fetch = keeper.add_if_due
    counters.add(BYTES_FETCHED, 5)
    clock.sleep(ADD_SECONDS)
    counters.add(HITS)  # may be a finalizer's: it only counts
    counters.add(BYTES_FETCHED, 7)
    keeper.close()
    assert ledger.book("totals").generation() == 1
    assert int(_record(ledger, b"counter:bytes_fetched")) == 12


def _record(ledger: Ledger, key: bytes) -> bytes:
    with ledger.book("totals").read() as page:
        return page.get(key) or b""


def test_a_process_that_did_nothing_writes_nothing(ledger: Ledger) -> None:
    process = Process(ledger, ManualClock())
    assert process.keeper.totals().since is None
    process.keeper.close()
    assert ledger.book("totals").generation() == 0


def test_without_a_lasting_ledger_there_is_this_process_alone() -> None:
    process = Process(MemoryLedger(), ManualClock())
    process.counters.add(HITS)
    totals = process.keeper.totals()
    assert (totals.since, totals.hits) == (None, 1)
    process.keeper.close()


@pytest.mark.parametrize("raw", [b"", b"-1", b"many", b"\xff"])
def test_a_damaged_record_counts_as_none(raw: bytes, ledger: Ledger) -> None:
    with ledger.book("totals").write() as page:
        for key in (b"since", b"counter:hits", b"mount:x"):
            page.put(key, raw)
    process = Process(ledger, ManualClock())
    process.counters.add(HITS, 2)
    process.requests["/a"] = {"read": 1}
    totals = process.keeper.totals()
    assert (totals.hits, totals.requests) == (2, {"/a": {"read": 1}})
    process.keeper.close()


class FullBook:
    def __init__(self, book: Book) -> None:
        self._book = book

    def generation(self) -> int:
        return self._book.generation()

    def read(self) -> AbstractContextManager[Page]:
        return self._book.read()

    def write(self) -> AbstractContextManager[Page]:
        raise LedgerFault("the disk is full")


class FullLedger(MemoryLedger):
    """A ledger that cannot be written for now."""

    full = True

    def book(self, name: str) -> Book:
        book = super().book(name)
        return FullBook(book) if self.full else book


def test_a_ledger_that_is_full_is_told_once_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = FullLedger()
    process = Process(ledger, ManualClock())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            process.counters.add(HITS)
            process.keeper.add()
    assert len([line for line in caplog.messages if "the disk is full" in line]) == 1
    ledger.full = False
    assert process.keeper.totals().hits == 3
    process.keeper.close()


# Whole services, in processes of their own.


def opened(folder: Path) -> CacheService:
    context = BackendContext(SystemClock(), {}, str(folder))
    mount = read_written_mount({"path": "/d", "url": "data"}, "mount /d", context)
    cache = CacheSettings(folder / "cache", 16 << 20, 0, folder / "key", folder / "state")
    return open_service([mount], cache, None, context)


def read_twice(service: CacheService) -> None:
    for _ in range(2):
        file = service.open(NamespacePath.parse("/d/a"))
        assert file.read_at(0, 5) == b"hello"
        file.close()


def _job(folder: Path, killed: bool) -> None:
    service = opened(folder)
    read_twice(service)
    service.flush()
    read_twice(service)
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    service.close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_bytes(b"hello")
    return tmp_path


@pytest.mark.parametrize(("killed", "served"), [(False, 40), (True, 20)])
def test_processes_add_what_they_did_and_a_kill_loses_the_last(
    killed: bool, served: int, site: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=_job, args=(site, killed)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(STUCK_SECONDS)
        assert job.exitcode == (-signal.SIGKILL if killed else 0)
    service = opened(site)
    totals = service.totals()
    assert totals.since is not None
    assert totals.bytes_served == served
    assert totals.requests["/d"]["read"] == 2
    service.close()


def test_a_forked_child_counts_what_it_did_itself(site: Path) -> None:
    service = opened(site)
    read_twice(service)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            service.after_fork_in_child()
            read_twice(service)
            service.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    read_twice(service)
    assert service.totals().bytes_served == 30
    service.close()
