"""A policy that becomes stricter takes hold at once, in all processes and on the shared SSD; one
that becomes looser needs a higher epoch, also over restarts."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_cache.extents.page import PageId
from headrace_cache.local_service import LocalService
from headrace_cache.service import CacheService, OpenObject
from headrace_mounts.connect import connect, disconnect_all
from headrace_namespace.errors import PolicyDenied
from headrace_namespace.path import NamespacePath
from tests.cache.tiers.ssd_attacker import Attacker, words_in
from tests.cache.tiers.ssd_world import SsdWorld
from tests.conftest import Bucket

HOUSE = Path(__file__).parents[2]
CANARY = b"canary-51c0-" + os.urandom(12).hex().encode()
SIZE = 3_000_000
HR, FREE = "/s3/hr/pay.csv", "/s3/open/prices.csv"


def policy(persistence: str | None, epoch: int = 1) -> str:
    text = f"version = 1\nepoch = {epoch}\n"
    if persistence is not None:
        text += (
            '[[rule]]\nname = "payroll"\nmatch.path = ["/s3/hr/**"]\n'
            f'apply.persistence = "{persistence}"\napply.guarantee = "unattested"\n'
        )
    return text


class Site:
    """One host: its bucket, configuration, cache folder and policy file."""

    def __init__(self, root: Path, bucket: Bucket) -> None:
        self.root = root
        self.file = root / "policy.toml"
        self.tighten(policy(None))
        block = CANARY + b"|"
        self.data = {
            HR: (b"restrict" + block * (SIZE // len(block) + 1))[:SIZE],
            FREE: (b"the-open" + block * (SIZE // len(block) + 1))[:SIZE],
        }
        for path, data in self.data.items():
            bucket.put(path.removeprefix("/s3/"), data)
        options = {"endpoint_url": bucket.endpoint, "key_env": "LAKE_KEY"}
        options["secret_env"] = "LAKE_SECRET"
        self.config: dict[str, Any] = {
            "mount": [{"path": "/s3", "url": f"s3://{bucket.name}", "options": options}],
            "cache": {
                "folder": str(root / "cache"),
                "memory": "64MiB",
                "ssd": "256MiB",
                "key_file": str(root / "keys" / "ssd.key"),
                "state_folder": str(root / "state"),
            },
            "policy": {"file": str(self.file)},
        }

    def tighten(self, text: str) -> None:
        """Replace the policy file; loosen it too."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.file)

    def start(self) -> LocalService:
        """As a process that starts now."""
        disconnect_all()
        service = connect(self.config)
        assert isinstance(service, LocalService)
        return service

    def page(self, service: CacheService, path: str) -> PageId:
        return PageId(service.open(NamespacePath(path)).version.digest(), 0)

    def attacker_opens(self, page: PageId) -> bool:
        """Whether the cache folder and all key files are enough to read the page."""
        return Attacker(SsdWorld(self.root)).opens(page)


def look(service: LocalService) -> None:
    service.reader().gate._watch.look()  # pyright: ignore[reportPrivateUsage]


def opened(service: CacheService, path: str) -> OpenObject:
    handle = service.open(NamespacePath(path))
    assert len(handle.read_at(0, SIZE)) == SIZE
    return handle


def persistence(service: CacheService, path: str) -> str:
    return service.explain(NamespacePath(path)).persistence


class Process:
    """`policy_worker.py` at the other end of two pipes."""

    def __init__(self, site: Site) -> None:
        command = [sys.executable, "-m", "tests.journeys.policy_worker", json.dumps(site.config)]
        self.popen = subprocess.Popen(
            command, cwd=HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == {"ready": True}

    def ask(self, *words: str) -> dict[str, Any]:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(words) + "\n")
        self.popen.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.popen.stdout is not None
        answer: dict[str, Any] = json.loads(self.popen.stdout.readline())
        return answer

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(30)
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def site(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("LAKE_KEY", bucket.access_key)
    monkeypatch.setenv("LAKE_SECRET", bucket.secret_key)
    yield Site(tmp_path, bucket)
    disconnect_all()


@pytest.fixture
def other(site: Site) -> Iterator[Process]:
    process = Process(site)
    yield process
    process.end()


def test_stricter_takes_hold_in_a_process_that_nobody_asks_and_on_the_ssd(
    site: Site, other: Process
) -> None:
    for path in (HR, FREE):
        assert other.ask("open", path)["fetched"] == SIZE
        assert other.ask("read", path)["fetched"] == 0
    other.ask("flush")
    mine = site.start()
    pages = {path: site.page(mine, path) for path in (HR, FREE)}
    assert site.attacker_opens(pages[HR]) and site.attacker_opens(pages[FREE])

    site.tighten(policy("memory-only"))
    assert other.ask("await_change") == {"seen": True}

    assert not site.attacker_opens(pages[HR])
    assert site.attacker_opens(pages[FREE])
    again = other.ask("read", HR)
    assert again == {"start": "restrict", "length": SIZE, "fetched": SIZE}
    assert other.ask("read", HR)["fetched"] == 0  # memory may hold it
    assert other.ask("read", FREE) == {"start": "the-open", "length": SIZE, "fetched": 0}
    other.ask("flush")
    assert not site.attacker_opens(pages[HR])
    for folder in ("cache", "keys", "state"):
        assert words_in(site.root / folder, CANARY, CANARY.hex().encode()) == []
    (purge,) = mine.why(NamespacePath(HR)).purges
    assert purge.rules == ["payroll"] and purge.objects == 1 and purge.verified
    assert "crypto-erase" in purge.method
    assert mine.why(NamespacePath(FREE)).purges == []


def test_looser_needs_a_higher_epoch_also_after_a_restart(site: Site) -> None:
    site.tighten(policy("memory-only"))
    service = site.start()
    assert persistence(service, HR) == "memory-only"
    site.tighten(policy(None))
    look(service)
    assert persistence(service, HR) == "memory-only"
    service = site.start()
    assert persistence(service, HR) == "memory-only"
    reasons = service.explain(NamespacePath(HR)).rules
    assert "raise the epoch to drop it" in {rule.name: rule.why for rule in reasons}["payroll"]
    site.tighten(policy(None, epoch=2))
    look(service)
    assert persistence(service, HR) == "sealed-ssd"
    assert persistence(site.start(), HR) == "sealed-ssd"


def test_a_configuration_that_loses_its_policy_serves_no_more_than_before(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.tighten(policy("deny"))
    site.start()
    del site.config["policy"]
    with pytest.raises(PolicyDenied):
        opened(site.start(), HR)
    assert "configure a policy file with a higher epoch" in caplog.text


def test_a_broken_file_closes_open_handles_and_loses_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    service = site.start()
    handle = opened(service, FREE)
    service.flush()
    site.tighten("version = 1\n[[rule")
    with caplog.at_level(logging.ERROR):
        look(service)
    for _ in range(2):
        with pytest.raises(PolicyDenied):
            handle.read_at(0, 1)
    site.tighten(policy(None))
    look(service)
    before = service.status().bytes_fetched
    assert handle.read_at(0, SIZE) == site.data[FREE]
    assert service.status().bytes_fetched == before  # the SSD had it still


def test_a_policy_that_changed_while_no_process_ran_purges_before_anything_is_served(
    site: Site,
) -> None:
    service = site.start()
    pages = {path: site.page(service, path) for path in (HR, FREE)}
    for path in pages:
        opened(service, path)
    disconnect_all()
    assert site.attacker_opens(pages[HR])
    site.tighten(policy("memory-only"))
    service = site.start()
    assert not site.attacker_opens(pages[HR]) and site.attacker_opens(pages[FREE])
    assert service.status().bytes_fetched == 0
    opened(service, FREE)
    assert service.status().bytes_fetched == 0
    opened(service, HR)
    assert service.status().bytes_fetched == SIZE


def test_a_forked_child_judges_what_it_inherited(site: Site, other: Process) -> None:
    other.ask("open", HR)
    site.tighten(policy("deny"))
    assert other.ask("read_in_child", HR) == {"denied": True}
    other.ask("await_change")
    assert other.ask("read", HR) == {"denied": True}
    other.ask("close")
