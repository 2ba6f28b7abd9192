"""Writing local files: the suite, and what only a local file has (modes, times, kill -9)."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_namespace.backends import local_new_file
from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.protocol import LEAST_BASE_BYTES, There
from headrace_namespace.clock import SystemClock
from headrace_namespace.errors import (
    AccessRefused,
    AlreadyExists,
    FolderNotEmpty,
    InvalidPath,
    NotFolder,
    StoreFull,
    StoreMissing,
    StoreTimeout,
    StoreUnavailable,
)
from tests.conformance.backend_suite import list_all, stat_object
from tests.conformance.backend_write_suite import BackendWriteSuite
from tests.conformance.writable_store import WritableStore, content, put, send
from tests.fakes.clock import ManualClock
from tests.namespace.backends.test_local import LocalStore


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "root")


class TestLocalWrites(BackendWriteSuite):
    @pytest.fixture
    def store(self, local: LocalStore) -> WritableStore:
        return local


class TestLocalWritesByName(BackendWriteSuite):
    """Where the system has no unnamed files."""

    @pytest.fixture
    def store(self, local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> WritableStore:
        monkeypatch.delattr(os, "O_TMPFILE")
        monkeypatch.delattr(os, "copy_file_range")
        return local


@pytest.fixture(params=["unnamed", "named"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of making a file."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")


@pytest.mark.usefixtures("either")
def test_a_new_file_honours_the_umask(local: LocalStore) -> None:
    before = os.umask(0o027)
    try:
        put(local.backend, "folder/object", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((local.root / "folder/object").stat().st_mode) == 0o640


@pytest.mark.usefixtures("either")
def test_a_replaced_file_keeps_its_mode(local: LocalStore) -> None:
    for mode in (0o600, 0o751, 0o4755):
        local.put("object", b"1")
        (local.root / "object").chmod(mode)
        put(local.backend, "object", b"2")
        assert stat.S_IMODE((local.root / "object").stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_replaced_file_keeps_its_owner(local: LocalStore) -> None:
    local.put("object", b"1")
    os.chown(local.root / "object", 1234, 2345)
    put(local.backend, "object", b"2")
    shown = (local.root / "object").stat()
    assert (shown.st_uid, shown.st_gid) == (1234, 2345)


def test_a_copy_keeps_the_mode_less_the_umask(local: LocalStore) -> None:
    version = put(local.backend, "script", b"#!/bin/sh")
    (local.root / "script").chmod(0o777)
    version = stat_object(local.backend, "script")
    local.backend.copy(version, local.backend.ref("copy"), There.NOTHING)
    assert (local.root / "copy").stat().st_mode & 0o111


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_no_permission_speaks_of_writing(local: LocalStore) -> None:
    local.put("object", b"1")
    (local.root / "object").chmod(0o400)
    with pytest.raises(AccessRefused, match="written"):
        put(local.backend, "object", b"2")


def test_a_link_is_written_through(local: LocalStore, tmp_path: Path) -> None:
    target = tmp_path / "outside"
    target.write_bytes(b"old")
    (local.root / "link").symlink_to(target)
    (local.root / "to nothing").symlink_to(tmp_path / "made")
    put(local.backend, "link", b"new")
    put(local.backend, "to nothing", b"made")
    assert (local.root / "link").is_symlink() and target.read_bytes() == b"new"
    assert (tmp_path / "made").read_bytes() == b"made"


def test_a_link_itself_is_deleted_and_renamed(local: LocalStore) -> None:
    local.put("object", b"1")
    for name in ("link", "broken", "loop"):
        (local.root / name).symlink_to({"broken": "nowhere", "loop": "loop"}.get(name, "object"))
    assert local.backend.rename("link", local.backend.ref("renamed"))
    assert (local.root / "renamed").is_symlink()
    assert local.backend.delete(["renamed", "broken", "loop"]) == {}
    assert os.listdir(local.root) == ["object"]


def test_a_file_above_is_no_folder(local: LocalStore) -> None:
    local.put("object", b"1")
    for key in ("object/below", "object/deep/below"):
        with pytest.raises(NotFolder):
            put(local.backend, key, b"2")
        with pytest.raises(NotFolder):
            local.backend.make_folder(key)
    assert local.backend.delete(["object/below"]) == {}


def test_a_root_that_is_gone_is_not_made_anew(local: LocalStore) -> None:
    """It may be a disk that is not mounted now."""
    local.remove_root()
    for write in (
        lambda: put(local.backend, "a/object", b"1"),
        lambda: local.backend.begin_upload(local.backend.ref("object"), There.ANYTHING),
        lambda: local.backend.make_folder("folder"),
        lambda: local.backend.delete(["object"]),
        lambda: local.backend.rename("object", local.backend.ref("other")),
        lambda: local.backend.remove_folder("folder"),
    ):
        with pytest.raises(StoreMissing):
            write()
    assert not local.root.exists()


def test_the_root_itself_stays(local: LocalStore) -> None:
    local.make_folder("empty")
    with pytest.raises(AccessRefused, match="itself"):
        local.backend.remove_folder("")
    with pytest.raises(AccessRefused, match="itself"):
        local.backend.rename("", local.backend.ref("a"))
    with pytest.raises(AccessRefused, match="itself"):
        local.backend.rename("empty", local.backend.ref(""))
    with pytest.raises(InvalidPath, match="into itself"):
        local.backend.rename("empty", local.backend.ref("empty/below"))


def test_the_root_stays_when_it_is_reached_by_a_link(local: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(local.root)
    backend = LocalBackend(str(tmp_path / "link"), SystemClock())
    backend.make_folder("empty")
    with pytest.raises(AccessRefused, match="itself"):
        backend.rename("empty", backend.ref(""))
    put(backend, "empty/object", b"1", There.NOTHING)
    assert content(local.backend, "empty/object") == b"1"


def test_what_the_disk_lost_is_not_committed_by_trying_again(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = local.backend.begin_upload(local.backend.ref("object"), There.ANYTHING)
    parts = send(upload, b"sent")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk broke")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable, match="disk broke"):
            upload.commit(parts)
    with pytest.raises(StoreUnavailable, match="disk broke"):
        upload.commit(parts)
    upload.abort()
    assert list(local.root.iterdir()) == []


def test_a_single_mounted_file_can_be_written(tmp_path: Path) -> None:
    backend = LocalBackend(str(tmp_path / "file"), SystemClock())
    put(backend, "", b"1", There.NOTHING)
    put(backend, "", b"2")
    assert (tmp_path / "file").read_bytes() == b"2"


def test_what_is_no_ordinary_file_is_not_replaced(local: LocalStore) -> None:
    os.mkfifo(local.root / "pipe")
    reader = os.open(local.root / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(AccessRefused, match="no ordinary file"):
            put(local.backend, "pipe", b"1")
    finally:
        os.close(reader)


def test_another_program_s_lock_is_not_waited_for_longer_than_its_bound(local: LocalStore) -> None:
    local.put("object", b"1")
    backend = LocalBackend(str(local.root), ManualClock())
    with open(local.root / "object", "rb+") as held:
        assert local_new_file.lock(held.fileno())
        with pytest.raises(StoreTimeout, match="locked"):
            put(backend, "object", b"2")
    assert (local.root / "object").read_bytes() == b"1" and local.unfinished() == []


@pytest.mark.usefixtures("either")
def test_a_file_too_large_says_so_and_leaves_nothing(local: LocalStore) -> None:
    code = f"""
import resource, sys
from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.protocol import There
from headrace_namespace.clock import SystemClock
from headrace_namespace.errors import StoreFull
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
backend = LocalBackend({str(local.root)!r}, SystemClock())
upload = backend.begin_upload(backend.ref("object"), There.ANYTHING)
try:
    upload.put_part(0, memoryview(bytes(2 << 20)))
except StoreFull:
    upload.abort()
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 7
    assert list(local.root.iterdir()) == []


def test_a_full_disk_says_so_and_leaves_nothing(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = local.backend.begin_upload(local.backend.ref("object"), There.ANYTHING)
    with open("/dev/full", "wb", buffering=0) as full, monkeypatch.context() as patch:

        def write(fd: int, data: memoryview, offset: int) -> int:
            return os.write(full.fileno(), data)

        patch.setattr(os, "pwrite", write)
        with pytest.raises(StoreFull, match="no room"):
            upload.put_part(0, memoryview(b"1"))
    upload.abort()
    assert list(local.root.iterdir()) == []


KILLED = """
import os, sys
from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.protocol import There
from headrace_namespace.clock import SystemClock
{no_unnamed}
backend = LocalBackend({root!r}, SystemClock())
upload = backend.begin_upload(backend.ref("folder/object"), There.ANYTHING)
upload.put_part(0, memoryview(bytes(upload.part_bytes(0))))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_killed_writer_leaves_the_old_object_whole(local: LocalStore, unnamed: bool) -> None:
    old = put(local.backend, "folder/object", b"old")
    code = KILLED.format(root=str(local.root), no_unnamed="" if unnamed else "del os.O_TMPFILE")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        with pytest.raises(FolderNotEmpty):
            local.backend.remove_folder("folder")
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert stat_object(local.backend, "folder/object") == old
    assert content(local.backend, "folder/object") == b"old"
    assert [child.name for child in list_all(local.backend, "folder")] == ["object"]
    if unnamed:
        assert os.listdir(local.root / "folder") == ["object"]
    # What a killed writer left does not keep its folder from being removed.
    assert local.backend.delete(["folder/object"]) == {}
    local.backend.remove_folder("folder")
    assert list(local.root.iterdir()) == []


LOOP = """
from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.protocol import There
from headrace_namespace.clock import SystemClock
backend = LocalBackend({root!r}, SystemClock())
number = 0
while True:
    number = number % 255 + 1
    backend.put(backend.ref("object"), memoryview(bytes([number]) * 100_000), There.ANYTHING)
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_one_whole_object(local: LocalStore) -> None:
    for lines in (1, 2, 5, 11):
        code = LOOP.format(root=str(local.root))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                assert writer.stdout.readline()
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        seen = content(local.backend, "object")
        assert len(seen) == seen.count(seen[0]) == 100_000
        # Only between two calls of the kernel's has a replacing file a hidden name.
        assert len(local.unfinished()) <= 1
        assert [child.name for child in list_all(local.backend)] == ["object"]
        for name in local.unfinished():
            (local.root / name).unlink()


def test_a_writer_s_hidden_file_keeps_its_folder(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    upload = local.backend.begin_upload(local.backend.ref("folder/object"), There.NOTHING)
    assert list_all(local.backend, "folder") == []
    with pytest.raises(FolderNotEmpty):
        local.backend.remove_folder("folder")
    upload.commit(send(upload, b"sent"))
    assert content(local.backend, "folder/object") == b"sent"


def test_only_the_hidden_names_are_hidden(local: LocalStore) -> None:
    names = [".headrace-0123456789abcdef.par", ".headrace-0123456789ABCDEF.part", ".hidden"]
    for name in [*names, ".headrace-0123456789abcdef.part"]:
        local.put(name, b"")
    assert sorted(child.name for child in list_all(local.backend)) == sorted(names)


def test_a_folder_removed_meanwhile_is_made_again(local: LocalStore) -> None:
    upload = local.backend.begin_upload(local.backend.ref("folder/object"), There.NOTHING)
    parts = send(upload, b"sent")
    (local.root / "folder").rmdir()
    upload.commit(parts)
    assert content(local.backend, "folder/object") == b"sent"


@pytest.mark.usefixtures("either")
def test_a_file_made_meanwhile_is_seen(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program makes the file between the look and the naming."""
    name_new = local_new_file.NewFile.name_new

    def late(new: local_new_file.NewFile) -> None:
        monkeypatch.undo()
        local.put("object", b"theirs")
        name_new(new)

    monkeypatch.setattr(local_new_file.NewFile, "name_new", late)
    with pytest.raises(AlreadyExists):
        put(local.backend, "object", b"ours", There.NOTHING)
    monkeypatch.setattr(local_new_file.NewFile, "name_new", late)
    assert content(local.backend, "object") == b"theirs"
    assert local.unfinished() == []


def test_without_hard_links_a_file_is_renamed(
    local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "link", refuse)
    put(local.backend, "object", b"1", There.NOTHING)
    with pytest.raises(AlreadyExists):
        put(local.backend, "object", b"2", There.NOTHING)
    put(local.backend, "object", b"3")
    assert content(local.backend, "object") == b"3" and local.unfinished() == []


def test_a_base_of_another_folder_of_this_machine(local: LocalStore, tmp_path: Path) -> None:
    other = LocalBackend(str(tmp_path / "other"), SystemClock())
    (tmp_path / "other").mkdir()
    base = put(other, "object", b"\1" * LEAST_BASE_BYTES)
    upload = local.backend.begin_upload(local.backend.ref("object"), There.NOTHING, base)
    upload.commit(send(upload, b"\2"))
    assert content(local.backend, "object") == b"\1" * LEAST_BASE_BYTES + b"\2"


def test_a_forked_child_keeps_no_lock(tmp_path: Path) -> None:
    new = local_new_file.NewFile(str(tmp_path / "file"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent is done
        os._exit(0)
    try:
        new.name_new()
        new.close()
        with open(tmp_path / "file", "rb") as again:
            assert local_new_file.lock(again.fileno())
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)
