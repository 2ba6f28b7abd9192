"""Several real processes on one folder: their pages, their bound, and their sudden deaths."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.ssd.limits import limits_of
from headrace_namespace.metadata import lmdb_env
from tests.cache.tiers.ssd_worker import all_pages, content, count_right
from tests.cache.tiers.ssd_world import MIB, SsdWorld
from tests.conformance.page_tier_suite import loaded, random_page, stored, version

#: Deaths in a row; each is at another instant, by the number of rounds that were seen before it.
KILLS = 12


def read_line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline()


def finish(worker: subprocess.Popen[str]) -> list[str]:
    lines = worker.communicate(timeout=120)[0].split()
    assert worker.returncode == 0
    return lines


def test_processes_store_load_and_evict_at_once(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 24 * MIB)
    workers = [world.worker("churn", str(seed), "2", "40") for seed in (100, 200)]
    hits = [sum(int(word) for word in finish(worker)[1:]) for worker in workers]
    assert all(count > 40 for count in hits)
    tier = world.open()
    assert 0 < count_right(tier) < len(all_pages())
    assert tier.usage().used <= world.limit_bytes
    tier.close()


def test_one_process_finds_what_another_stored(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 400 * MIB)
    tier = world.open()
    worker = world.worker("churn", "1", "1", "30")
    finish(worker)
    assert count_right(tier) > 30
    tier.close()


def test_the_limit_holds_at_every_instant(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 20 * MIB)
    tier = world.open()
    environment = lmdb_env.acquire(world.folder / "index", MIB)
    workers = [world.worker("churn", str(seed), "4", "25") for seed in (100, 200)]
    samples: list[int] = []
    segments: list[int] = []
    while any(worker.poll() is None for worker in workers):
        # Files come and go only within write transactions: in ours the sum is of one instant.
        with environment.write():
            samples.append(world.bytes_on_disk())
            segments.append(sum(path.stat().st_size for path in world.segments()))
        read_line(workers[len(samples) % 2])
    for worker in workers:
        finish(worker)
    lmdb_env.release(environment)
    tier.close()
    assert len(samples) > 50
    assert max(samples) > 10 * MIB
    assert max(samples) <= world.limit_bytes
    assert max(segments) <= limits_of(world.limit_bytes, world.page_bytes).data_bytes


def test_sudden_deaths_leave_right_pages_and_no_leak(tmp_path: Path) -> None:
    world = SsdWorld(tmp_path, 20 * MIB)
    chance = random.Random(5)
    watcher = world.open()
    for kill in range(KILLS):
        worker = world.worker("churn", str(kill * 10), "2", "0")
        assert read_line(worker) == "open\n"
        for _ in range(chance.randrange(1, 25)):
            assert read_line(worker).strip().isdigit()
        worker.kill()
        worker.communicate()
        assert count_right(watcher) > 0
        if kill % 3 == 2:  # also with nobody left who had it open
            watcher.close()
            watcher = world.open()
    watcher.close()
    tier = world.open()
    assert count_right(tier) > 0
    # Nothing that the dead had reserved is lost: the tier still takes and keeps its fill.
    pages = [PageId(version(1000 + number), 0) for number in range(40)]
    for page in pages:
        stored(tier, page, random_page(page, MIB))
    kept = sum(loaded(tier, page, MIB) == random_page(page, MIB) for page in pages)
    assert kept >= 12
    assert world.bytes_on_disk() <= world.limit_bytes
    tier.close()
    environment = lmdb_env.acquire(world.folder / "index", MIB)
    lmdb_env.release(environment)
    assert all(path.stat().st_size for path in world.segments())


def test_two_processes_that_store_one_object_agree_on_its_key(tmp_path: Path) -> None:
    """Each would make a key of its own; pages sealed under the loser's would be noise."""
    world = SsdWorld(tmp_path, 400 * MIB)
    workers = [world.worker("churn", "7", "2", "30") for _ in range(3)]
    for worker in workers:
        finish(worker)
    tier = world.open()
    for page in all_pages():
        if tier.holds(page):
            assert loaded(tier, page, len(content(page))) == content(page)
    tier.close()
