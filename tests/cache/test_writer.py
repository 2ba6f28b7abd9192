"""The write journey: every size, every condition, nothing half done, and warm at once."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from headrace_cache import writer as writing
from headrace_cache.limits import PolicySource
from headrace_namespace.errors import (
    AlreadyExists,
    HeadraceError,
    IsFolder,
    NotFound,
    PolicyDenied,
    ReadOnly,
    StoreUnavailable,
    TooManyOpen,
    WriteConflict,
)
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier

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


# The policy.

RULES = PolicySource(
    """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
[[rule]]
name = "secret"
match.path = ["/lake/secret/**", "/lake/*/deep/**"]
apply.persistence = "no-cache"
apply.guarantee = "unattested"
[[rule]]
name = "no"
match.path = ["/lake/no/**"]
apply.persistence = "deny"
[[rule]]
name = "attested"
match.path = ["/lake/tee/**"]
apply.guarantee = "G1"
""",
    "policy.toml",
)


@pytest.fixture
def governed(lake: MemoryBackend) -> Iterator[Rig]:
    rig = Rig({"/lake": lake}, policy=RULES, ssd=DictTier())
    yield rig
    rig.service.close()


@pytest.mark.parametrize("where", ["/lake/no/a", "/lake/tee/a"])
def test_what_may_not_be_read_may_not_be_written(
    governed: Rig, lake: MemoryBackend, where: str
) -> None:
    lake.set("a", b"x")
    lake.set(where.removeprefix("/lake/"), b"x")
    with pytest.raises(PolicyDenied):
        governed.service.create(path(where))
    with pytest.raises(PolicyDenied):
        governed.service.append(path(where))
    with pytest.raises(PolicyDenied):
        governed.service.copy(path("/lake/a"), path(where))
    with pytest.raises(PolicyDenied):
        governed.service.make_folder(path(where + "/sub"))
    assert isinstance(governed.service.delete([path(where)])[path(where)], PolicyDenied)


@pytest.mark.parametrize(
    ("folder", "memory", "ssd"), [("free", True, True), ("hr", True, False), ("secret", 0, 0)]
)
def test_what_was_written_is_kept_where_its_placement_allows(
    governed: Rig, lake: MemoryBackend, folder: str, memory: bool, ssd: bool
) -> None:
    data = os.urandom(2 * PART)
    staged_ever: list[int] = []
    lake.before_write = lambda operation, key: staged_ever.append(staged(governed))
    write(governed, f"/lake/{folder}/a", data)
    assert governed.ssd is not None
    assert bool(governed.ssd.pages) == ssd
    assert bool(governed.service.status().tiers["memory"].used) == memory
    assert bool(max(staged_ever)) == memory
    assert whole(governed.service.open(path(f"/lake/{folder}/a"))) == data
    assert (lake.asked["read"] == 0) == memory


def test_no_copy_and_no_new_name_makes_bytes_looser(governed: Rig, lake: MemoryBackend) -> None:
    lake.set("hr/a", b"x")
    lake.set("a", b"x")
    for move in (governed.service.copy, governed.service.rename):
        with pytest.raises(PolicyDenied, match="from memory-only to sealed-ssd") as caught:
            move(path("/lake/hr/a"), path("/lake/b"))
        assert "/lake" in str(caught.value.hint)
    governed.service.copy(path("/lake/a"), path("/lake/hr/b"))
    governed.service.copy(path("/lake/hr/a"), path("/lake/secret/a"))
    assert governed.service.rename(path("/lake/hr/a"), path("/lake/hr/c"))
    assert lake.keys == ["a", "hr/b", "hr/c", "secret/a"]


@pytest.mark.parametrize(
    ("source", "target", "whole_folder"),
    [
        ("hr", "hr2", False),
        ("free", "hr/free", False),  # /lake/free/deep/** is no-cache
        ("hr/x", "secret/x", True),
        ("secret/x", "secret/y", True),
        ("free/deep/x", "secret/x", True),
    ],
)
def test_a_folder_moves_in_one_step_only_if_nothing_in_it_could_get_looser(
    governed: Rig, lake: MemoryBackend, source: str, target: str, whole_folder: bool
) -> None:
    lake.set(f"{source}/a", b"x")
    moved = governed.service.rename(path(f"/lake/{source}"), path(f"/lake/{target}"))
    assert moved == whole_folder
    assert lake.keys == [f"{target if moved else source}/a"]


# Copying, moving, deleting.


def test_a_copy_within_a_store_is_the_stores_own(rig: Rig, lake: MemoryBackend) -> None:
    data = os.urandom(3 * PART)
    lake.set("a", data)
    version = rig.service.copy(path("/lake/a"), path("/lake/b"))
    assert lake.data("b") == data
    assert (lake.asked["copy"], lake.asked["read"], lake.asked["put"]) == (1, 0, 0)
    assert version == rig.service.stat(path("/lake/b")).version
    with pytest.raises(AlreadyExists):
        rig.service.copy(path("/lake/a"), path("/lake/b"), exclusive=True)
    with pytest.raises(NotFound):
        rig.service.copy(path("/lake/none"), path("/lake/b"))


@pytest.mark.parametrize("size", [0, 7, PART, 40 * PART + 1])
def test_a_copy_between_stores_streams(lake: MemoryBackend, size: int) -> None:
    pond = MemoryBackend("memory:pond", part_bytes=PART)
    rig = Rig({"/lake": lake, "/pond": pond})
    data = os.urandom(size)
    lake.set("a", data)
    rig.service.copy(path("/lake/a"), path("/pond/a"))
    assert pond.data("a") == data
    assert rig.service.status().bytes_fetched == size
    assert rig.service.rename(path("/lake/a"), path("/pond/b")) is False
    assert (pond.uploads, staged(rig)) == ([], 0)
    rig.service.close()


def test_a_copy_of_what_was_replaced_leaves_no_mix(lake: MemoryBackend) -> None:
    pond = MemoryBackend("memory:pond", part_bytes=PART)
    rig = Rig({"/lake": lake, "/pond": pond})
    lake.set("a", b"o" * (40 * PART))

    def replace(operation: str, key: str) -> None:
        lake.set("a", b"n" * (40 * PART))

    pond.before_write = replace
    with pytest.raises(HeadraceError):
        rig.service.copy(path("/lake/a"), path("/pond/a"))
    assert (pond.keys, pond.uploads, staged(rig)) == ([], [], 0)
    rig.service.close()


def test_delete_asks_as_many_at_a_time_as_the_store_takes(rig: Rig, lake: MemoryBackend) -> None:
    for number in range(1500):
        lake.set(f"d/{number}", b"x")
    paths = [path(f"/lake/d/{number}") for number in range(1500)]
    wrong = rig.service.delete([*paths, path("/lake/d/none"), path("/lake")])
    assert lake.keys == []
    assert lake.asked["delete"] == 2
    assert [str(where) for where in wrong] == ["/lake"]


def test_folders_are_made_and_removed(rig: Rig, lake: MemoryBackend) -> None:
    rig.service.make_folder(path("/lake/d"))
    assert rig.service.stat(path("/lake/d")).is_folder
    with pytest.raises(AlreadyExists):
        rig.service.make_folder(path("/lake/d"))
    rig.service.make_folder(path("/lake/d"), exist_ok=True)
    lake.set("a", b"x")
    with pytest.raises(AlreadyExists):
        rig.service.make_folder(path("/lake/a"), exist_ok=True)
    rig.service.remove_folder(path("/lake/d"))
    with pytest.raises(NotFound):
        rig.service.remove_folder(path("/lake/d"))


def test_a_listing_never_stands_in_for_what_this_process_wrote(
    rig: Rig, lake: MemoryBackend
) -> None:
    for number in range(20):
        lake.set(f"d/{number}", b"old")
    list(rig.service.list(path("/lake/d")))
    whole(rig.service.open(path("/lake/d/0")))  # proves the listing
    write(rig, "/lake/d/1", b"new")
    assert whole(rig.service.open(path("/lake/d/1"))) == b"new"
    list(rig.service.list(path("/lake/d")))
    whole(rig.service.open(path("/lake/d/0")))
    rig.service.delete([path("/lake/d/2")])
    with pytest.raises(NotFound):
        rig.service.open(path("/lake/d/2"))
    list(rig.service.list(path("/lake/d")))
    whole(rig.service.open(path("/lake/d/0")))
    rig.service.rename(path("/lake/d"), path("/lake/e"))
    with pytest.raises(NotFound):
        rig.service.open(path("/lake/d/3"))


def test_a_listed_object_is_not_taken_for_a_folder(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", b"x")
    assert [entry.path for entry in rig.service.list(path("/lake/a"))] == [path("/lake/a")]
    assert not rig.service.stat(path("/lake/a")).is_folder


def test_a_pinned_mount_shows_what_this_process_wrote() -> None:
    from headrace_namespace.freshness import PINNED

    lake = MemoryBackend("memory:lake", part_bytes=PART)
    rig = Rig({"/lake": lake}, freshness=PINNED)
    lake.set("a", b"first")
    assert whole(rig.service.open(path("/lake/a"))) == b"first"
    lake.set("a", b"theirs")
    assert whole(rig.service.open(path("/lake/a"))) == b"first"
    write(rig, "/lake/a", b"mine")
    assert whole(rig.service.open(path("/lake/a"))) == b"mine"
    rig.service.close()


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
