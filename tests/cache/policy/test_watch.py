from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from headrace_cache.limits import PolicySource
from headrace_cache.policy.placement import Persistence
from headrace_cache.policy.watch import LOOK_SECONDS, PolicyWatch
from headrace_namespace.errors import ConfigError
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name
from tests.fakes.clock import ManualClock

HR = NamespacePath.parse("/lake/hr/pay.csv")


def text(persistence: str, epoch: int = 1) -> str:
    return (
        f'version = 1\nepoch = {epoch}\n[[rule]]\nname = "hr"\nmatch.path = ["/lake/hr/**"]\n'
        f'apply.persistence = "{persistence}"\napply.guarantee = "unattested"\n'
    )


class Site:
    """A watched policy file, and a clock to move."""

    def __init__(self, folder: Path, first: str) -> None:
        self.file = folder / "policy.toml"
        self.file.write_text(first)
        self.clock = ManualClock()
        self.watch = PolicyWatch(PolicySource(first, str(self.file)), self.clock)

    def rewrite(self, content: str | None) -> Persistence:
        if content is None:
            self.file.unlink()
        else:
            fresh = self.file.with_suffix(".new")
            fresh.write_text(content)
            os.replace(fresh, self.file)
        self.clock.sleep(LOOK_SECONDS)
        return self.decided()

    def decided(self) -> Persistence:
        name = Name(HR, NamespacePath.parse("/lake"), frozenset())
        return self.watch.current().decide([name]).persistence


def test_a_stricter_file_is_in_force_at_the_next_look(tmp_path: Path) -> None:
    site = Site(tmp_path, text("sealed-ssd"))
    assert site.decided() is Persistence.SEALED_SSD
    site.file.write_text(text("memory-only"))
    assert site.decided() is Persistence.SEALED_SSD  # not looked at yet
    site.clock.sleep(LOOK_SECONDS)
    assert site.decided() is Persistence.MEMORY_ONLY


def test_a_looser_file_needs_a_higher_epoch(tmp_path: Path) -> None:
    site = Site(tmp_path, text("memory-only", epoch=5))
    assert site.rewrite(text("sealed-ssd", epoch=5)) is Persistence.MEMORY_ONLY
    assert site.rewrite(text("any", epoch=4)) is Persistence.MEMORY_ONLY
    assert site.rewrite(text("no-cache", epoch=5)) is Persistence.NO_CACHE
    assert site.rewrite(text("sealed-ssd", epoch=6)) is Persistence.SEALED_SSD


def test_a_broken_or_vanished_file_denies_until_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, text("sealed-ssd"))
    with caplog.at_level(logging.ERROR):
        assert site.rewrite("version = 1\n[[rule") is Persistence.DENY
        assert site.rewrite(None) is Persistence.DENY
        assert site.rewrite("\xff\0") is Persistence.DENY
    assert all("nothing is served" in record.message for record in caplog.records)
    assert len(caplog.records) == 3
    assert site.rewrite(text("sealed-ssd")) is Persistence.SEALED_SSD


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, text("sealed-ssd"))

    def no_descriptors(file: Path, what: str) -> str:
        raise ConfigError(f"the {what} {file} cannot be read: Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("headrace_cache.policy.watch.read_text", no_descriptors)
        assert site.rewrite(text("sealed-ssd")) is Persistence.DENY
        site.clock.sleep(LOOK_SECONDS)
        assert site.decided() is Persistence.DENY
    assert len(caplog.records) == 1  # told once, not every second
    site.clock.sleep(LOOK_SECONDS)
    assert site.decided() is Persistence.SEALED_SSD


def test_a_pipe_in_the_place_of_the_file_denies_and_holds_nobody_up(tmp_path: Path) -> None:
    site = Site(tmp_path, text("sealed-ssd"))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    os.replace(pipe, site.file)
    site.clock.sleep(LOOK_SECONDS)
    assert site.decided() is Persistence.DENY
    assert site.rewrite(text("memory-only")) is Persistence.MEMORY_ONLY


def test_a_wrong_file_at_the_start_is_an_error() -> None:
    with pytest.raises(ConfigError):
        PolicyWatch(PolicySource("version = 2", "p.toml"), ManualClock())


def test_a_file_that_vanished_is_read_anew_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, text("sealed-ssd"))
    with caplog.at_level(logging.ERROR):
        assert site.rewrite(None) is Persistence.DENY
        assert site.rewrite(text("no-cache")) is Persistence.NO_CACHE
    assert len(caplog.records) == 1


def test_a_change_between_reading_the_file_and_watching_it_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text("no-cache"))
    clock = ManualClock()
    watch = PolicyWatch(PolicySource(text("sealed-ssd"), str(file)), clock)
    clock.sleep(LOOK_SECONDS)
    assert watch.current().decide([Name(HR, None, None)]).persistence is Persistence.NO_CACHE


def test_a_look_under_way_holds_nobody_up(tmp_path: Path) -> None:
    site = Site(tmp_path, text("sealed-ssd"))
    inner: list[Persistence] = []
    site.watch.follow(lambda: inner.append(site.decided()))  # asks while the look is under way
    assert site.rewrite(text("deny")) is Persistence.DENY
    assert inner == [Persistence.DENY]


def test_its_end_waits_for_a_look_that_is_under_way_and_is_the_last(tmp_path: Path) -> None:
    site = Site(tmp_path, text("sealed-ssd"))
    looking, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def follow() -> None:
        looking.set()
        assert go_on.wait(30)
        order.append("looked")

    def end() -> None:
        site.watch.end()
        order.append("ended")

    site.watch.follow(follow)
    threads = [threading.Thread(target=work) for work in (site.watch.look, end)]
    threads[0].start()
    assert looking.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert order == ["looked", "ended"]
    site.watch.look()
    assert site.rewrite(text("deny", epoch=2)) is Persistence.SEALED_SSD
    assert order == ["looked", "ended"]
