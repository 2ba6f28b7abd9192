"""A purge that is killed at any step leaves the folder whole, and is completed by the next one; and
several processes at once never bring back what one of them purged."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace_cache.tiers.protocol import PageTier
from headrace_cache.tiers.ssd import purging
from headrace_cache.tiers.ssd.key_swap import KeyFile
from headrace_namespace.metadata.lmdb_env import SharedEnvironment
from tests.cache.tiers.ssd_attacker import Attacker
from tests.cache.tiers.ssd_pages import COVERED, STAYING, covers_hr, fill, right, served
from tests.cache.tiers.ssd_world import MIB, SsdWorld

# Python 3.12 warns of what is tested here: forking where other threads run.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

#: The steps of a purge, in order; a crash comes before or after each.
STEPS: list[tuple[type | object, str]] = [
    (KeyFile, "write_next"),
    (purging, "_reseal"),
    (SharedEnvironment, "sync"),
    (KeyFile, "overwrite"),
    (KeyFile, "wipe_next"),
    (purging, "_forget_dead"),
    (purging, "_forget_some"),
    (purging, "_verified"),
]
CRASHED, RETURNED = 77, 0


@pytest.fixture
def world(tmp_path: Path) -> SsdWorld:
    world = SsdWorld(tmp_path, 16 * MIB)
    tier = world.open()
    fill(tier)
    tier.close()
    return world


def in_child(work: Callable[[], None]) -> int:
    """Do the work in a forked child; its exit status."""
    child = os.fork()
    if child == 0:  # no pytest in here: report by the exit status alone
        status = 1
        try:
            work()
            status = RETURNED
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def purge_and_crash(world: SsdWorld, owner: object, step: str, *, before: bool) -> None:
    """Purge in this process, which ends at the step; `wipe_next` at the one that is the last."""
    tier = world.open()
    real = getattr(owner, step)

    def crash(*words: object, **named: object) -> object:
        if step == "wipe_next" and not world.key_file.with_name("ssd.key.next").exists():
            return real(*words, **named)
        if before:
            os._exit(CRASHED)
        real(*words, **named)
        os._exit(CRASHED)

    setattr(owner, step, crash)
    tier.purge(covers_hr)


def assert_purged(world: SsdWorld, tier: PageTier) -> None:
    assert served(tier, COVERED) == 0
    assert served(tier, STAYING) == len(STAYING)
    assert os.listdir(world.key_file.parent) == [world.key_file.name]
    attacker = Attacker(world)
    assert not any(attacker.opens(page) for page in COVERED)
    assert all(attacker.opens(page) for page in STAYING)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("owner", "step"), STEPS)
def test_a_crash_leaves_all_or_nothing_purged(
    world: SsdWorld, owner: object, step: str, before: bool
) -> None:
    status = in_child(lambda: purge_and_crash(world, owner, step, before=before))
    assert status == CRASHED
    tier = world.open()
    left = served(tier, COVERED)
    assert left in (0, len(COVERED))
    assert served(tier, STAYING) == len(STAYING)
    assert tier.usage().objects == (6 if left else 3)
    report = tier.purge(covers_hr)
    assert (report is None) == (not left)
    assert_purged(world, tier)
    fill(tier)
    assert served(tier, COVERED) == len(COVERED)
    tier.close()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("owner", "step"), STEPS)
def test_a_crash_does_not_disturb_another_process_that_completes_it(
    world: SsdWorld, owner: object, step: str, before: bool
) -> None:
    tier = world.open()
    assert served(tier, COVERED) == len(COVERED)
    status = in_child(lambda: purge_and_crash(world, owner, step, before=before))
    assert status == CRASHED
    assert served(tier, COVERED) in (0, len(COVERED))
    assert served(tier, STAYING) == len(STAYING)
    report = tier.purge(covers_hr)
    assert report is None or report.verified
    assert_purged(world, tier)
    tier.close()


def test_an_interrupt_does_no_harm(world: SsdWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two steps, and the same process goes on."""
    tier = world.open()
    for owner, step in STEPS[:6]:

        def interrupted(*words: object) -> None:
            raise KeyboardInterrupt

        fill(tier)
        assert served(tier, COVERED) == len(COVERED)
        monkeypatch.setattr(owner, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            tier.purge(covers_hr)
        monkeypatch.undo()
        assert served(tier, STAYING) == len(STAYING)
        tier.purge(covers_hr)
        assert_purged(world, tier)
    tier.close()


def test_another_process_stops_serving_with_the_return_of_the_purge(world: SsdWorld) -> None:
    tier = world.open()
    worker = world.worker("serve", "0", "0", "0")
    assert ask(worker, "load") == [len(COVERED), len(STAYING)]
    report = tier.purge(covers_hr)
    assert report is not None and report.verified
    assert ask(worker, "load") == [0, len(STAYING)]
    assert ask(worker, "store") == [len(COVERED), len(STAYING)]
    assert served(tier, COVERED) == len(COVERED)
    assert ask(worker, "purge") == [0, len(STAYING)]
    assert served(tier, COVERED) == 0
    assert worker.communicate("end\n", timeout=60)[0] == ""
    assert worker.returncode == 0
    assert_purged(world, tier)
    tier.close()


def ask(worker: subprocess.Popen[str], word: str) -> list[int]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(word + "\n")
    worker.stdin.flush()
    return [int(count) for count in worker.stdout.readline().split()]


def test_processes_that_purge_at_once_all_succeed(world: SsdWorld) -> None:
    workers = [world.worker("purge", str(seed), "1", "15") for seed in range(3)]
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    tier = world.open()
    fill(tier)
    tier.purge(covers_hr)
    assert_purged(world, tier)
    tier.close()


def test_threads_that_store_load_and_purge_at_once(world: SsdWorld) -> None:
    tier = world.open()
    steps: list[Callable[[], object]] = [
        lambda: fill(tier),
        lambda: [tier.forget(page.version) for page in COVERED[:2]],
        lambda: [tier.inspect(page.version) for page in COVERED],
        lambda: [right(tier, page) for page in (*COVERED, *STAYING)],
        lambda: tier.purge(covers_hr),
    ]
    with ThreadPoolExecutor(len(steps)) as pool:
        for _ in range(60):
            for done in [pool.submit(step) for step in steps]:
                done.result()
    tier.purge(covers_hr)
    fill(tier)
    assert served(tier, COVERED) == len(COVERED)
    tier.purge(covers_hr)
    assert_purged(world, tier)
    tier.close()


@pytest.fixture
def killed(world: SsdWorld) -> Iterator[list[subprocess.Popen[str]]]:
    workers: list[subprocess.Popen[str]] = []
    yield workers
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.communicate()


def test_sudden_deaths_while_purging(world: SsdWorld, killed: list[subprocess.Popen[str]]) -> None:
    """kill -9 at whatever instant; what stays is served, and what was purged stays away."""
    chance = random.Random(9)
    watcher = world.open()
    for death in range(8):
        worker = world.worker("purge", str(death), "1", "0")
        killed.append(worker)
        assert worker.stdout is not None
        for _ in range(chance.randrange(2, 12)):
            assert worker.stdout.readline()
        worker.kill()
        worker.communicate()
        assert served(watcher, STAYING) == len(STAYING)
        if death % 3 == 2:  # also with nobody left who had it open
            watcher.close()
            watcher = world.open()
    watcher.purge(covers_hr)
    assert_purged(world, watcher)
    watcher.close()
