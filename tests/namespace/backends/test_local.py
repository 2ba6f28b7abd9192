from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from headrace_namespace.backends.local import SETTLE_ROUNDS, LocalBackend, open_local
from headrace_namespace.backends.local_files import GRAIN_SECONDS
from headrace_namespace.backends.local_listings import MOST_LISTINGS
from headrace_namespace.backends.local_new_file import is_hidden
from headrace_namespace.backends.protocol import BackendContext
from headrace_namespace.clock import SystemClock
from headrace_namespace.config import table_from
from headrace_namespace.errors import (
    AccessRefused,
    ConfigError,
    NameTooLong,
    NotFolder,
    NotFound,
    VersionGone,
)
from tests.conformance.backend_suite import BackendSuite, Store, list_all, read, stat_object
from tests.conformance.writable_store import WritableStore
from tests.fakes.clock import ManualClock


class LocalStore(WritableStore):
    strong = False

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root
        self.backend = LocalBackend(str(root), SystemClock())

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, key: str) -> None:
        (self.root / key).unlink()

    def make_folder(self, key: str) -> None:
        (self.root / key).mkdir(parents=True)

    def remove_root(self) -> None:
        shutil.rmtree(self.root)

    def unfinished(self) -> list[str]:
        return [name for _, _, names in os.walk(self.root) for name in names if is_hidden(name)]


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "root")


class TestLocal(BackendSuite):
    @pytest.fixture
    def store(self, local: LocalStore) -> Store:
        return local


class SettlingClock(SystemClock):
    """The machine's clock, whose sleeps are counted; `meanwhile` happens during each."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.slept: list[float] = []
        self._meanwhile = meanwhile

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)
        self._meanwhile()


def context(folder: Path) -> BackendContext:
    return BackendContext(SystemClock(), {}, str(folder))


def test_urls_and_plain_paths(tmp_path: Path) -> None:
    (tmp_path / "data #1%20").mkdir()
    (tmp_path / "data #1%20" / "x").write_bytes(b"1")
    for url in (f"file://{tmp_path}/data #1%20", "data #1%20", str(tmp_path / "data #1%20")):
        backend = open_local(url, table_from({}, "t"), context(tmp_path))
        assert stat_object(backend, "x").size == 1
        assert backend.ref("x").key == str(tmp_path / "data #1%20" / "x")
        assert str(backend.ref("x")).startswith("file:/")


@pytest.mark.parametrize("url", ["file://host/x", "file://", "", "a\0b"])
def test_wrong_urls_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError):
        open_local(url, table_from({}, "t"), context(tmp_path))


def test_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="region"):
        open_local("x", table_from({"region": "eu"}, "t"), context(tmp_path))


def test_a_single_file_can_be_mounted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    backend = open_local("file", table_from({}, "t"), context(tmp_path))
    assert read(backend, stat_object(backend, ""), 0, 3) == b"abc"
    with pytest.raises(NotFolder):
        backend.list_page(backend.ref(""), None)


def test_a_fresh_file_is_waited_for(local: LocalStore) -> None:
    clock = SettlingClock()
    backend = LocalBackend(str(local.root), clock)
    local.put("object", b"1")
    first = stat_object(backend, "object")
    assert len(clock.slept) == 1 and clock.slept[0] <= GRAIN_SECONDS
    stat_object(backend, "object")
    assert len(clock.slept) == 1  # settled by now
    assert first == stat_object(backend, "object")


def test_a_file_written_all_the_time_is_not_waited_for_longer(local: LocalStore) -> None:
    clock = SettlingClock(lambda: local.put("object", b"2"))
    backend = LocalBackend(str(local.root), clock)
    local.put("object", b"1")
    stat_object(backend, "object")
    assert len(clock.slept) == SETTLE_ROUNDS


def test_a_fresh_file_in_a_listing_is_not_settled(local: LocalStore) -> None:
    clock = ManualClock()
    backend = LocalBackend(str(local.root), clock)
    local.put("object", b"1")
    changed = os.stat(local.root / "object").st_ctime_ns / 1e9
    clock.time = changed + GRAIN_SECONDS / 2
    assert [child.settled for child in list_all(backend)] == [False]
    clock.time = changed + GRAIN_SECONDS * 2
    assert [child.settled for child in list_all(backend)] == [True]


def test_bytes_are_read_only_of_a_settled_file(local: LocalStore) -> None:
    """Two writes within the clock's grain look alike: the read must come after the grain."""
    local.put("object", b"old")
    clock = ManualClock()
    backend = LocalBackend(str(local.root), clock)
    clock.time = 0  # far from the file's time: nothing waits
    version = stat_object(backend, "object")
    clock.time = os.stat(local.root / "object").st_ctime_ns / 1e9
    before = clock.time
    assert read(backend, version, 0, 3) == b"old"
    assert clock.time >= before + GRAIN_SECONDS * 0.99


def test_a_file_that_shrinks_is_gone(local: LocalStore) -> None:
    local.put("object", b"12345678")
    version = stat_object(local.backend, "object")
    os.truncate(local.root / "object", 4)
    with pytest.raises(VersionGone):
        read(local.backend, version, 0, 8)


def test_a_pipe_in_the_files_place_does_not_block(local: LocalStore) -> None:
    local.put("object", b"1")
    version = stat_object(local.backend, "object")
    (local.root / "object").unlink()
    os.mkfifo(local.root / "object")
    with pytest.raises(VersionGone):
        read(local.backend, version, 0, 1)


def test_a_cheap_look_is_not_led_by_a_link_nor_hurried(local: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "moved").write_bytes(b"1")
    (local.root / "link").symlink_to(tmp_path / "moved")
    # The very same file by a link: by which other names it is to be judged is for `trail` to say.
    assert not local.backend.shows("link", stat_object(local.backend, "link"))
    # Of a file that was changed just now, what it shows may be said of two contents.
    clock = ManualClock((tmp_path / "moved").stat().st_ctime_ns / 1e9)
    moved = LocalBackend(str(tmp_path), clock)
    clock.time += GRAIN_SECONDS + 0.001
    version = stat_object(moved, "moved")
    assert moved.shows("moved", version)
    clock.time -= GRAIN_SECONDS
    assert not moved.shows("moved", version)


def test_a_link_and_its_target_are_one_object(local: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"1")
    (local.root / "link").symlink_to(outside)
    assert local.backend.ref("link").key == str(outside)
    assert stat_object(local.backend, "link").ref.key == str(outside)
    (child,) = list_all(local.backend)
    assert child.version is not None and child.version.ref.key == str(outside)


def test_what_is_neither_file_nor_folder_is_left_out(local: LocalStore) -> None:
    local.put("file", b"")
    os.mkfifo(local.root / "pipe")
    (local.root / "broken").symlink_to("nowhere")
    (local.root / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(local.root / "socket"))
        assert [child.name for child in list_all(local.backend)] == ["file"]
        for name in ("pipe", "broken", "socket"):
            assert local.backend.stat(name) is None, name
    with pytest.raises(NotFound, match="circle"):
        local.backend.stat("loop")


def test_a_name_that_is_not_utf8(local: LocalStore) -> None:
    (Path(os.fsdecode(bytes(local.root) + b"/\xff\xfe"))).write_bytes(b"1")
    (child,) = list_all(local.backend)
    assert os.fsencode(child.name) == b"\xff\xfe"
    assert stat_object(local.backend, child.name) == child.version


def test_a_name_too_long(local: LocalStore) -> None:
    with pytest.raises(NameTooLong):
        local.backend.stat("x" * 256)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_names_the_path(local: LocalStore) -> None:
    local.put("closed/object", b"1")
    version = stat_object(local.backend, "closed/object")
    (local.root / "closed" / "object").chmod(0)
    version = stat_object(local.backend, "closed/object")
    with pytest.raises(AccessRefused, match="closed/object"):
        read(local.backend, version, 0, 1)
    (local.root / "closed").chmod(0)
    try:
        with pytest.raises(AccessRefused, match="closed"):
            local.backend.list_page(local.backend.ref("closed"), None)
    finally:
        (local.root / "closed").chmod(0o700)


def test_a_listing_goes_on_when_its_place_was_lost(local: LocalStore) -> None:
    for number in range(1500):
        local.put(f"big/{number:04}", b"")
    first = local.backend.list_page(local.backend.ref("big"), None)
    for number in range(MOST_LISTINGS):
        for child in range(1001):
            (local.root / f"other{number}").mkdir(exist_ok=True)
            (local.root / f"other{number}" / str(child)).touch()
        local.backend.list_page(local.backend.ref(f"other{number}"), None)
    rest = local.backend.list_page(local.backend.ref("big"), first.next_token)
    names = [child.name for child in (*first.children, *rest.children)]
    assert names == [f"{number:04}" for number in range(1500)]
    assert rest.next_token is None


def test_two_listings_of_one_folder_do_not_disturb_each_other(local: LocalStore) -> None:
    for number in range(2500):
        local.put(f"{number:04}", b"")
    one = local.backend.list_page(local.backend.ref(""), None)
    two = local.backend.list_page(local.backend.ref(""), None)
    one2 = local.backend.list_page(local.backend.ref(""), one.next_token)
    one3 = local.backend.list_page(local.backend.ref(""), one2.next_token)
    two2 = local.backend.list_page(local.backend.ref(""), two.next_token)
    assert [c.name for c in two2.children] == [c.name for c in one2.children]
    assert one3.children[-1].name == "2499" and one3.next_token is None


def test_a_change_during_the_read_is_seen(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put("object", b"old bytes")
    version = stat_object(local.backend, "object")

    class ChangingFile(FileIO):
        def readinto(self, buffer: Any, /) -> int:
            count = super().readinto(memoryview(buffer)[:4])
            local.put("object", b"new bytes")
            return count

    monkeypatch.setattr("headrace_namespace.backends.local.FileIO", ChangingFile)
    with pytest.raises(VersionGone):
        read(local.backend, version, 0, 9)
