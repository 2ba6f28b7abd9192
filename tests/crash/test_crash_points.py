"""A process that dies at the k-th thing that it does to the disk, for every k: whoever comes next
serves right pages only, has all the room again, and finds nothing left over."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd.limits import limits_of
from headrace_cache.tiers.ssd.tables import Tables
from headrace_namespace.metadata.lmdb_env import acquire, release
from tests.cache.tiers.ssd_pages import SECRET, covers_hr
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import loaded, random_page, stored, version
from tests.crash.crash_points import CrashPoints
from tests.effort import EFFORT

# Python 3.12 warns of what is tested here: forking where other threads run.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

LENGTH = 400_000
#: Held from the beginning, of two objects, in segments of their own. More than a few of the pages
#: that are stored later do not fit beside them.
OLD = [PageId(version(number), index) for number in (1, 2) for index in range(8)]
SECRETS = [PageId(version(3), index) for index in range(3)]
NEW = [PageId(version(number), index) for number in (10, 11) for index in range(4)]
MANY = [PageId(version(number), 0) for number in range(20, 56)]

#: In CI every so many points are tried; with an effort of this all of them.
STRIDE = 24


def start_up(world: SsdWorld) -> None:
    world.open()


def close(world: SsdWorld) -> None:
    tier = world.open()
    stored(tier, NEW[0], random_page(NEW[0], LENGTH))
    tier.close()


def fill(world: SsdWorld) -> None:
    tier = world.open()
    for page in NEW:
        stored(tier, page, random_page(page, LENGTH))


def evict(world: SsdWorld) -> None:
    tier = world.open()
    for page in MANY:
        stored(tier, page, random_page(page, LENGTH))


def forget(world: SsdWorld) -> None:
    world.open().forget(OLD[0].version)


def pin(world: SsdWorld) -> None:
    tier = world.open()
    assert tier.pin(OLD[0].version)
    tier.unpin(OLD[0].version)
    tier.pin(OLD[8].version)


def purge(world: SsdWorld) -> None:
    world.open().purge(covers_hr)


TASKS: list[Callable[[SsdWorld], None]] = [start_up, close, fill, evict, forget, pin, purge]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose last user was killed with a segment open, so that a start has work to do."""
    root = tmp_path_factory.mktemp("template")

    def work() -> None:
        tier = SsdWorld(root, 16 * MIB).open()
        for page in OLD:
            stored(tier, page, random_page(page, LENGTH))
        for page in SECRETS:
            stored(tier, page, random_page(page, LENGTH), SECRET)
        tier.flush()
        os.kill(os.getpid(), 9)

    assert in_child(work) == -9
    return root


def in_child(work: Callable[[], None]) -> int:
    """Do the work in a forked child; how it ended."""
    child = os.fork()
    if child == 0:  # no pytest in here: report by the exit status alone
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.timeout(120 * EFFORT)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("task", TASKS)
def test_every_crash_point(
    template: Path,
    tmp_path: Path,
    task: Callable[[SsdWorld], None],
    after: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stride = max(1, STRIDE // EFFORT)
    point = (TASKS.index(task) + 5 * after) % stride
    died = 0
    while True:
        root = tmp_path / str(point)
        shutil.copytree(template, root)
        world = SsdWorld(root, 16 * MIB)

        def work(point: int = point, world: SsdWorld = world) -> None:
            CrashPoints(point, after=after).arm()
            task(world)

        status = in_child(work)
        if status == 0:
            break
        assert status == -9, f"point {point}"
        died += 1
        assert_all_is_well(world, task is purge)
        shutil.rmtree(root)
        point += stride
    assert died * stride >= 8
    assert caplog.records == []
    logging.getLogger(__name__).info("%s: %d points", task.__name__, died)


def right(tier: PageTier, pages: list[PageId]) -> int:
    """How many are served, each of them right."""
    answers = [loaded(tier, page, LENGTH) for page in pages]
    for page, data in zip(pages, answers, strict=True):
        assert data in (None, random_page(page, LENGTH))
    return sum(data is not None for data in answers)


def assert_all_is_well(world: SsdWorld, purged: bool) -> None:
    tier = world.open()
    right(tier, [*OLD, *NEW, *MANY])
    left = right(tier, SECRETS)
    if purged:  # all or nothing; and it can be done again
        assert left in (0, len(SECRETS))
        assert right(tier, OLD) == len(OLD)
        tier.purge(covers_hr)
        assert right(tier, SECRETS) == 0
    assert_nothing_is_lost(world, tier)
    tier.close()
    assert world.bytes_on_disk() <= world.limit_bytes
    assert os.listdir(world.key_file.parent) == [world.key_file.name]


def assert_nothing_is_lost(world: SsdWorld, tier: PageTier) -> None:
    """Files and records are the same, and nothing is reserved for the dead."""
    limits = limits_of(world.limit_bytes, world.page_bytes)
    environment = acquire(world.folder / "index", limits.index_bytes)
    tables = Tables(environment)
    with environment.read() as txn:
        records = dict(tables.all_segments(txn))
        totals = tables.totals(txn)
    release(environment)
    assert {int(path.name[4:20], 16) for path in world.segments()} == records.keys()
    assert not any(record.open for record in records.values())
    assert totals.reserved == sum(record.reserved for record in records.values())
    page = PageId(version(99), 0)
    stored(tier, page, random_page(page, LENGTH))
    assert right(tier, [page]) == 1
