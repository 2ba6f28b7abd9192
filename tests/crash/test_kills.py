"""kill -9 at any instant, in a loop, under load: what is served afterwards is right, nothing leaks,
and a start takes no longer than stated."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_cache.extents.page import PageId
from headrace_mounts.connect import disconnect_all
from headrace_namespace.path import NamespacePath
from tests.cache.tiers import ssd_attacker
from tests.cache.tiers.ssd_attacker import Attacker
from tests.cache.tiers.ssd_world import SsdWorld
from tests.crash.folder_audit import faults
from tests.crash.nursery import Nursery
from tests.crash.site import MIB, Site, names
from tests.crash.tasks import file_system
from tests.effort import EFFORT

#: Per unit of effort.
KILLS = 8
WORKERS = 3
#: Steps that all workers together take before one of them is killed, at most.
MOST_STEPS = 12
#: Files that a check reads while the loop runs; at its end it reads all.
SAMPLE = 16


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


class Driver:
    """Keeps workers busy and kills them."""

    def __init__(self, nursery: Nursery, site: Site, seed: int) -> None:
        self.nursery = nursery
        self.site = site
        self.chance = random.Random(seed)
        self.seconds: list[float] = []
        self.most_bytes = 0
        self._fifo = site.root / "progress"
        os.mkfifo(self._fifo)
        # Both ends: it stays open while no worker has it.
        self._progress = os.open(self._fifo, os.O_RDWR)
        self._workers: list[int] = []
        self._epoch = 1
        self._report = site.root / "report.json"

    def fill_up(self) -> None:
        """See to it that all workers are at work."""
        while len(self._workers) < WORKERS:
            seed = self.chance.randrange(1 << 30)
            self._workers.append(
                self.nursery.start("work", str(self.site.root), seed, str(self._fifo), 0)
            )

    def kill_one(self) -> None:
        """After some steps, and some more instructions: at whatever instant that is."""
        for _ in range(self.chance.randrange(1, MOST_STEPS)):
            os.read(self._progress, 1)
        for _ in range(self.chance.randrange(3000)):
            os.sched_yield()
        victim = self._workers.pop(self.chance.randrange(len(self._workers)))
        self.nursery.kill(victim)
        assert self.nursery.wait(victim) == -9
        self.most_bytes = max(self.most_bytes, self.site.bytes_on_disk())

    def kill_all(self) -> None:
        while self._workers:
            victim = self._workers.pop()
            self.nursery.kill(victim)
            assert self.nursery.wait(victim) == -9

    def change_policy(self) -> None:
        """Stricter by one folder; or, by a new epoch, as loose as in the beginning."""
        if self.chance.random() < 0.5:
            self.site.rule(self._epoch, ["hr", "later"])
        else:
            self._epoch += 1
            self.site.rule(self._epoch, ["hr"])

    def check(self, files: list[str]) -> None:
        """A fresh process reads these."""
        child = self.nursery.start("check", str(self.site.root), str(self._report), files)
        assert self.nursery.wait(child) == 0
        told = json.loads(self._report.read_text())
        assert told["wrong"] == []
        assert told["warnings"] == []
        self.seconds.append(told["seconds"])
        self.most_bytes = max(self.most_bytes, self.site.bytes_on_disk())

    def close(self) -> None:
        os.close(self._progress)


@pytest.mark.timeout(180 * EFFORT)
def test_kill_loop(tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    site.make(names())
    driver = Driver(nursery, site, seed=20)
    for kill in range(KILLS * EFFORT):
        driver.fill_up()
        driver.kill_one()
        if kill % 7 == 3:
            driver.change_policy()
        if kill % 8 == 3:
            driver.check(driver.chance.sample(names(), SAMPLE))
        if kill % 8 == 7:  # nobody is left who had it open
            driver.kill_all()
            driver.check(driver.chance.sample(names(), SAMPLE))
            assert faults(site) == []
            print(f"\n{kill + 1} kills, the slowest start {max(driver.seconds):.2f} s", end="")
    driver.kill_all()
    site.rule(1000, ["hr", "later"])
    driver.check(names())
    driver.close()
    assert faults(site) == []
    monkeypatch.setattr(ssd_attacker, "_SCOPES", range(1, 100))  # purges count them on
    assert_purged(site)
    assert 40 * MIB < driver.most_bytes <= site.ssd_bytes
    print(
        f"\n{KILLS * EFFORT} kills; starts: {len(driver.seconds)}, "
        f"the slowest {max(driver.seconds):.2f} s; most on disk {driver.most_bytes / MIB:.1f} MiB"
    )


def assert_purged(site: Site) -> None:
    """Folder and key file together open nothing that must not lie there, and much that may."""
    fs = file_system(site)
    versions = {
        name: fs.service.open(NamespacePath(f"/lake/{name}")).version.digest() for name in names()
    }
    disconnect_all()
    attacker = Attacker(SsdWorld(site.root))
    opened = {name for name, version in versions.items() if attacker.opens(PageId(version, 0))}
    assert {name.partition("/")[0] for name in opened} == {"open", "mine"}
