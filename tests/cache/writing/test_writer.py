"""The write journey: every size, every condition, nothing half done, and warm at once."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from headrace_cache.writing import writer as writing
from headrace_namespace.errors import (
    AlreadyExists,
    HeadraceError,
    IsFolder,
    NotFound,
    ReadOnly,
    StoreUnavailable,
    TooManyOpen,
    WriteConflict,
)
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend

PART = 4 * PAGE


@pytest.fixture
def lake() -> MemoryBackend:
    return MemoryBackend("memory:lake", part_bytes=PART)


@pytest.fixture
def rig(lake: MemoryBackend) -> Iterator[Rig]:
    rig = Rig({"/lake": lake})
    yield rig
    rig.service.close()


def write(rig: Rig, where: str, data: bytes, step: int = 50_000) -> str:
    writer = rig.service.create(path(where))
    for start in range(0, len(data), step):
        writer.write(memoryview(data)[start : start + step])
    return writer.commit().tag


def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


def staged(rig: Rig) -> int:
    """How much of memory is held by no object."""
    return rig.staging.staged_bytes


@pytest.mark.parametrize("step", [1 << 10, PAGE - 1, 3 * PART])
@pytest.mark.parametrize(
    "size", [0, 1, PAGE, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 17, 10 * PART, 40 * PART]
)
def test_every_size_arrives_as_it_was_written(
    rig: Rig, lake: MemoryBackend, size: int, step: int
) -> None:
    data = os.urandom(size)
    tag = write(rig, "/lake/a", data, step)
    assert lake.data("a") == data
    assert lake.uploads == []
    opened = rig.service.open(path("/lake/a"))
    assert opened.version.tag == tag
    assert whole(opened) == data
    assert staged(rig) == 0


@pytest.mark.parametrize("size", [0, 1, PAGE + 3, PART, 3 * PART + 17])
def test_what_was_written_is_warm(rig: Rig, lake: MemoryBackend, size: int) -> None:
    data = os.urandom(size)
    write(rig, "/lake/a", data)
    assert whole(rig.service.open(path("/lake/a"))) == data
    assert rig.service.status().bytes_fetched == 0
    assert lake.asked["read"] == 0


def test_one_request_writes_what_one_request_takes(rig: Rig, lake: MemoryBackend) -> None:
    write(rig, "/lake/a", os.urandom(PART))
    assert (lake.asked["put"], lake.asked["upload"], lake.asked["commit"]) == (1, 0, 0)
    write(rig, "/lake/b", os.urandom(PART + 1))
    assert (lake.asked["put"], lake.asked["upload"], lake.asked["commit"]) == (1, 2, 1)


@pytest.mark.parametrize("part", [PAGE, 3 * PAGE, 7 * PAGE])
def test_the_store_settles_the_length_of_parts(part: int) -> None:
    lake = MemoryBackend("memory:lake", part_bytes=part)
    rig = Rig({"/lake": lake})
    data = os.urandom(11 * PART + 5)
    write(rig, "/lake/a", data)
    assert lake.data("a") == data
    rig.service.close()


def test_nobody_sees_an_object_before_its_commit(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", b"old")
    writer = rig.service.create(path("/lake/a"))
    writer.write(memoryview(os.urandom(3 * PART)))
    writer.finish()
    assert lake.data("a") == b"old"
    assert whole(rig.service.open(path("/lake/a"))) == b"old"
    writer.commit()
    assert len(lake.data("a")) == 3 * PART


@pytest.mark.parametrize("size", [10, 3 * PART])
def test_an_aborted_writer_leaves_nothing(rig: Rig, lake: MemoryBackend, size: int) -> None:
    writer = rig.service.create(path("/lake/a"))
    writer.write(memoryview(os.urandom(size)))
    writer.abort()
    writer.abort()
    assert (lake.keys, lake.uploads, staged(rig)) == ([], [], 0)
    with pytest.raises(ValueError, match="ended"):
        writer.write(memoryview(b"x"))


@pytest.mark.parametrize("size", [10, 3 * PART])
def test_a_forgotten_writer_leaves_nothing(
    rig: Rig, lake: MemoryBackend, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()
    writer = rig.service.create(path("/lake/a"))
    writer.write(memoryview(os.urandom(size)))
    for upload in lake.uploads:
        monkeypatch.setattr(upload, "abort", _then(upload.abort, gone.set))
    uploading = bool(lake.uploads)
    del writer
    gc.collect()
    assert not uploading or gone.wait(30)
    rig.settle()
    assert (lake.keys, lake.uploads, staged(rig)) == ([], [], 0)


def test_a_part_that_fails_aborts_the_writer(rig: Rig, lake: MemoryBackend) -> None:
    def refuse(operation: str, key: str) -> None:
        if operation == "upload":
            raise StoreUnavailable("the store is away")

    lake.before_write = refuse
    writer = rig.service.create(path("/lake/a"))
    with pytest.raises(StoreUnavailable, match="away") as caught:
        writer.write(memoryview(os.urandom(3 * PART)))
        writer.finish()
    assert caught.value.path == "/lake/a"
    assert (lake.keys, lake.uploads, staged(rig)) == ([], [], 0)


def test_at_most_so_many_bytes_are_under_way(lake: MemoryBackend) -> None:
    lake.parallel_parts = 100
    most = 3 * PART
    under_way = peak = 0
    lock = threading.Lock()

    def begun(operation: str, key: str) -> None:
        nonlocal under_way, peak
        if operation == "upload":
            with lock:
                under_way += PART
                peak = max(peak, under_way)

    def ended(operation: str, key: str) -> None:
        nonlocal under_way
        if operation == "upload":
            with lock:
                under_way -= PART

    lake.before_write, lake.after_write = begun, ended
    rig = Rig({"/lake": lake}, most_bytes_under_way=most)
    writers = [rig.service.create(path(f"/lake/{number}")) for number in range(4)]
    data = os.urandom(8 * PART)

    def work(number: int) -> None:
        writers[number].write(memoryview(data))
        writers[number].commit()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < peak <= most
    assert all(lake.data(str(number)) == data for number in range(4))
    rig.service.close()


def test_one_thread_may_write_many_objects_side_by_side(rig: Rig, lake: MemoryBackend) -> None:
    writers = [rig.service.create(path(f"/lake/{n}")) for n in range(writing.MOST_WRITERS)]
    with pytest.raises(TooManyOpen, match="64 objects are being written"):
        rig.service.create(path("/lake/more"))
    piece = os.urandom(PAGE)
    for _ in range(9):
        for writer in writers:
            writer.write(memoryview(piece))
    for writer in writers:
        writer.commit()
    assert all(lake.data(key) == piece * 9 for key in lake.keys)
    assert staged(rig) == 0
    rig.service.create(path("/lake/more")).abort()


# Conditions.


def test_exclusive_is_refused_at_once_and_at_the_end(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", b"old")
    with pytest.raises(AlreadyExists):
        rig.service.create(path("/lake/a"), exclusive=True)
    writer = rig.service.create(path("/lake/b"), exclusive=True)
    writer.write(memoryview(b"mine"))
    lake.set("b", b"theirs")
    with pytest.raises(AlreadyExists):
        writer.commit()
    assert lake.data("b") == b"theirs"


@pytest.mark.parametrize("size", [3, 2 * PART])
def test_if_version_replaces_that_version_and_no_other(
    rig: Rig, lake: MemoryBackend, size: int
) -> None:
    old = lake.set("a", b"old").tag
    writer = rig.service.create(path("/lake/a"), if_version=old)
    writer.write(memoryview(b"n" * size))
    new = writer.commit().tag
    with pytest.raises(WriteConflict, match=new):
        rig.service.create(path("/lake/a"), if_version=old)
    writer = rig.service.create(path("/lake/a"), if_version=new)
    writer.write(memoryview(b"m" * size))
    lake.set("a", b"theirs")
    with pytest.raises(WriteConflict):
        writer.commit()
    assert lake.data("a") == b"theirs"
    assert lake.uploads == []
    with pytest.raises(WriteConflict, match="nothing is there"):
        rig.service.create(path("/lake/none"), if_version=old)


def test_a_folder_is_not_written_over(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("d/a", b"x")
    with pytest.raises(IsFolder):
        rig.service.create(path("/lake/d"))
    with pytest.raises(IsFolder):
        rig.service.append(path("/lake/d"))
    with pytest.raises(IsFolder):
        rig.service.create(path("/lake"))


def test_where_no_mount_answers_nothing_is_written(lake: MemoryBackend) -> None:
    rig = Rig({"/x/lake": lake})
    with pytest.raises(NotFound, match="no mount"):
        rig.service.create(path("/y/a"))
    with pytest.raises(HeadraceError, match="no mount"):
        rig.service.create(path("/x/a"))
    with pytest.raises(ReadOnly, match="mount"):
        rig.service.remove_folder(path("/x"))
    with pytest.raises(ReadOnly, match="mount point"):
        rig.service.remove_folder(path("/x/lake"))
    with pytest.raises(ReadOnly, match="leads to /x/lake"):
        rig.service.rename(path("/x"), path("/z"))
    (error,) = rig.service.delete([path("/x/lake")]).values()
    assert isinstance(error, ReadOnly)
    rig.service.close()


def test_the_spelling_that_is_there_is_written(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("caf\u00e9", b"old")
    write(rig, "/lake/cafe\u0301", b"new")
    assert lake.keys == ["caf\u00e9"]
    assert lake.data("caf\u00e9") == b"new"
    assert rig.service.delete([path("/lake/cafe\u0301")]) == {}
    assert lake.keys == []


# Appending.


@pytest.mark.parametrize("old", [0, 5, PAGE, (8 << 20) - 1, 8 << 20, (8 << 20) + 5])
@pytest.mark.parametrize("more", [0, 1, PART, 2 * PART + 3])
def test_an_append_begins_with_what_is_there(lake: MemoryBackend, old: int, more: int) -> None:
    rig = Rig({"/lake": lake})
    first, second = os.urandom(old), os.urandom(more)
    before = lake.set("a", first)
    writer = rig.service.append(path("/lake/a"))
    assert writer.written == old
    writer.write(memoryview(second))
    assert writer.written == old + more
    version = writer.commit()
    assert lake.data("a") == first + second
    assert version == rig.service.stat(path("/lake/a")).version
    if old >= 8 << 20:
        assert lake.asked["read"] == 0  # the store copies it by itself
        assert (version == before) == (more == 0)
    assert whole(rig.service.open(path("/lake/a"))) == first + second
    assert (lake.uploads, staged(rig)) == ([], 0)
    rig.service.close()


@pytest.mark.parametrize("part_bytes", [PAGE, 3 * PAGE, 9 * PAGE])
@pytest.mark.parametrize("more", [1, PAGE + 1, 4 * PAGE])
def test_an_append_is_cut_into_parts_as_the_store_wants_them(part_bytes: int, more: int) -> None:
    lake = MemoryBackend("memory:lake", part_bytes=part_bytes)
    rig = Rig({"/lake": lake})
    first, second = b"o" * (8 << 20), os.urandom(more)
    lake.set("a", first)
    writer = rig.service.append(path("/lake/a"))
    writer.write(memoryview(second))
    writer.commit()
    assert lake.data("a") == first + second
    rig.service.close()


@pytest.mark.parametrize("old", [5, 8 << 20])
def test_an_append_to_what_was_changed_meanwhile_is_refused(
    rig: Rig, lake: MemoryBackend, old: int
) -> None:
    lake.set("a", b"o" * old)
    writer = rig.service.append(path("/lake/a"))
    writer.write(memoryview(b"more"))
    lake.set("a", b"theirs")
    with pytest.raises(HeadraceError) as caught:
        writer.commit()
    assert caught.value.errno_value == WriteConflict.errno_value
    assert lake.data("a") == b"theirs"


def test_an_append_to_nothing_makes_it(rig: Rig, lake: MemoryBackend) -> None:
    writer = rig.service.append(path("/lake/a"))
    assert writer.commit().size == 0
    writer = rig.service.append(path("/lake/b"))
    writer.write(memoryview(b"mine"))
    lake.set("b", b"theirs")
    with pytest.raises(AlreadyExists):
        writer.commit()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_refuses_its_parents_writer(rig: Rig, lake: MemoryBackend) -> None:
    writer = rig.service.create(path("/lake/a"))
    writer.write(memoryview(os.urandom(2 * PART)))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            rig.service.after_fork_in_child()
            writer.abort()
            try:
                writer.write(memoryview(b"x"))
            except ValueError:
                code = 0
            del writer
            gc.collect()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    writer.write(memoryview(b"end"))
    writer.commit()
    assert lake.data("a").endswith(b"end")


def test_nothing_is_renamed_onto_itself(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("caf\u00e9", b"only copy")
    for source, target in (("caf\u00e9", "caf\u00e9"), ("caf\u00e9", "cafe\u0301")):
        with pytest.raises(AlreadyExists, match="are the same"):
            rig.service.rename(path(f"/lake/{source}"), path(f"/lake/{target}"))
    assert lake.data("caf\u00e9") == b"only copy"
    assert rig.service.lies_in(path("/lake/cafe\u0301/x"), path("/lake/caf\u00e9"))
    assert not rig.service.lies_in(path("/lake/caf\u00e9s"), path("/lake/caf\u00e9"))
