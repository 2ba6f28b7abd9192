"""Writes reach the store, and what was known before them stands for nothing afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.errors import (
    HeadraceError,
    ReadOnly,
    StoreUnavailable,
    WriteConflict,
)
from headrace_namespace.freshness import PINNED
from headrace_namespace.metadata.listings import Listings
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Resolved
from headrace_namespace.tree import FixedTree, MountedStore
from headrace_namespace.write_through import There, UploadThrough, WriteThrough
from tests.fakes.clock import ManualClock
from tests.fakes.memory_backend import MemoryBackend

PATHS = ("/a/lake", "/a/pond")


class World:
    """Two stores, both pinned: what was known once is known for ever, unless it is written."""

    def __init__(self) -> None:
        self.lake, self.pond = MemoryBackend("memory:lake"), MemoryBackend("memory:pond")
        stores: list[MountedStore] = []
        for path, backend in zip(PATHS, (self.lake, self.pond), strict=True):
            observed = ObservedBackend(backend)
            mount = Mount(NamespacePath(path), backend.space, PINNED)
            stores.append(MountedStore(mount, observed, observed, Offload(4), Offload(4)))
        clock = ManualClock()
        trees = FixedTree(stores, clock)
        self.namespace = Namespace(trees, MemoryMetadata(), Listings(), clock)
        self.through = WriteThrough(self.namespace)

    def at(self, path: str) -> Resolved:
        return self.namespace.resolve(NamespacePath(path))

    def tag(self, path: str) -> str | None:
        """The version that this process knows."""
        try:
            version = self.namespace.stat(self.at(path)).version
        except FileNotFoundError:
            return None
        return version.tag if version else "folder"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.namespace.close()


def begun(world: World, expected: There) -> UploadThrough:
    uploads: list[UploadThrough] = []
    world.through.begin_upload(world.at("/a/lake/x"), expected, None, uploads.append)
    return uploads[0]


def test_a_put_is_known_at_once(world: World) -> None:
    old = world.lake.set("x", b"old").tag
    assert world.tag("/a/lake/x") == old
    made = world.through.put(world.at("/a/lake/x"), memoryview(b"new"), There.ANYTHING)
    assert world.tag("/a/lake/x") == made.tag != old


def test_a_write_of_unknown_end_is_forgotten(world: World) -> None:
    old = world.lake.set("x", b"old").tag
    assert world.tag("/a/lake/x") == old

    def lose(operation: str, key: str) -> None:
        raise StoreUnavailable("the answer was lost")

    world.lake.after_write = lose
    with pytest.raises(StoreUnavailable) as caught:
        world.through.put(world.at("/a/lake/x"), memoryview(b"new"), There.ANYTHING)
    assert (caught.value.path, caught.value.store) == ("/a/lake/x", "memory:lake")
    assert world.tag("/a/lake/x") != old  # it was made after all


def test_an_upload_sends_its_parts_on_the_stores_threads(world: World) -> None:
    upload = begun(world, There.NOTHING)
    ended = threading.Event()
    told: list[BaseException | None] = []
    threads: list[int] = []

    def end(error: BaseException | None) -> None:
        told.append(error)
        threads.append(threading.get_ident())
        ended.set()

    upload.send(0, memoryview(b"all"), end)
    assert ended.wait(30)
    assert told == [None]
    assert threads != [threading.get_ident()]
    version = upload.commit(1)
    assert world.tag("/a/lake/x") == version.tag
    assert world.lake.data("x") == b"all"


def test_a_part_tells_its_error_with_path_and_store(world: World) -> None:
    def refuse(operation: str, key: str) -> None:
        raise StoreUnavailable("away")

    upload = begun(world, There.ANYTHING)
    world.lake.before_write = refuse
    told: list[BaseException | None] = []
    ended = threading.Event()

    def end(error: BaseException | None) -> None:
        told.append(error)
        ended.set()

    upload.send(0, memoryview(b"x"), end)
    assert ended.wait(30)
    (error,) = told
    assert isinstance(error, HeadraceError)
    assert (error.path, error.store) == ("/a/lake/x", "memory:lake")
    gone = threading.Event()
    upload.abandon(gone.set)
    assert gone.wait(30)
    assert world.lake.uploads == []


def test_an_interrupted_request_is_waited_for_and_its_upload_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would come to pass after the caller's next write."""
    begun, go_on = threading.Event(), threading.Event()
    real = world.lake.begin_upload
    ended: list[str] = []

    def slow(*arguments: Any) -> object:
        begun.set()
        assert go_on.wait(30)
        ended.append("the request")
        return real(*arguments)

    monkeypatch.setattr(world.lake, "begin_upload", slow)
    fetchers = world.namespace.store_of(world.namespace.mounts[0]).fetchers

    def interrupted(work: Callable[[], object]) -> object:
        fetchers.submit(work)
        assert begun.wait(30)
        go_on.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(fetchers, "run", interrupted)
    uploads: list[UploadThrough] = []
    with pytest.raises(KeyboardInterrupt):
        world.through.begin_upload(world.at("/a/lake/x"), There.ANYTHING, None, uploads.append)
    assert ended == ["the request"]
    assert len(uploads) == 1


def test_an_interrupted_request_that_had_not_begun_never_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetchers = world.namespace.store_of(world.namespace.mounts[0]).fetchers
    waiting: list[Callable[[], object]] = []

    def interrupted(work: Callable[[], object]) -> object:
        waiting.append(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(fetchers, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.through.put(world.at("/a/lake/x"), memoryview(b"x"), There.ANYTHING)
    with pytest.raises(HeadraceError, match="given up"):
        waiting[0]()
    assert world.lake.keys == []


def test_a_copy_and_a_new_name_are_known(world: World) -> None:
    source = world.lake.set("x", b"x")
    world.lake.set("d/y", b"y")
    assert [world.tag(f"/a/lake/{key}") for key in ("x", "d/y")] == [source.tag, "v2"]
    copied = world.through.copy(source, world.at("/a/lake/z"), There.ANYTHING)
    assert world.tag("/a/lake/z") == copied.tag
    assert world.through.rename(world.at("/a/lake/d"), world.at("/a/lake/e"))
    assert world.tag("/a/lake/d/y") is None
    assert world.tag("/a/lake/e/y") is not None
    with pytest.raises(WriteConflict):
        world.through.put(world.at("/a/lake/x"), memoryview(b""), copied)


def test_what_was_deleted_is_gone_and_errors_go_by_path(world: World) -> None:
    for backend in (world.lake, world.pond):
        for number in range(3):
            backend.set(f"d/{number}", b"x")
    assert world.tag("/a/lake/d/1") is not None
    paths = [f"{mount}/d/{number}" for mount in PATHS for number in range(3)]
    wrong = world.through.delete([world.at(path) for path in (*paths, "/a")])
    assert (world.lake.keys, world.pond.keys) == ([], [])
    assert (world.lake.asked["delete"], world.pond.asked["delete"]) == (1, 1)
    assert [(str(path), type(error)) for path, error in wrong.items()] == [("/a", ReadOnly)]
    assert world.tag("/a/lake/d/1") is None
    assert world.tag("/a/lake/d") is None


def test_a_store_that_is_away_fails_each_of_its_paths(world: World) -> None:
    def refuse(operation: str, key: str) -> None:
        raise StoreUnavailable("away")

    world.lake.before_write = refuse
    world.pond.set("x", b"x")
    wrong = world.through.delete([world.at(f"{mount}/x") for mount in PATHS])
    assert [str(path) for path in wrong] == ["/a/lake/x"]
    assert world.pond.keys == []


def test_folders_come_and_go(world: World) -> None:
    world.through.make_folder(world.at("/a/lake/d"))
    assert world.tag("/a/lake/d") == "folder"
    world.through.remove_folder(world.at("/a/lake/d"))
    assert world.tag("/a/lake/d") is None


def test_where_no_store_lies_nothing_is_written(world: World) -> None:
    with pytest.raises(ReadOnly, match="no store lies there"):
        world.through.put(world.at("/a"), memoryview(b""), There.ANYTHING)
    with pytest.raises(ReadOnly, match="no store lies there"):
        world.through.make_folder(world.at("/"))


def test_an_upload_has_room_for_one_part_at_least(world: World) -> None:
    world.lake.parallel_parts = 0
    upload = begun(world, There.ANYTHING)
    assert isinstance(upload, UploadThrough)
    assert upload.parallel_parts == 1


def test_an_answer_that_a_write_overtook_is_not_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lake.set("a/o", b"old")
    asked, written = threading.Event(), threading.Event()
    stat = world.lake.stat

    def stalled(key: str) -> object:
        old = stat(key)
        if not asked.is_set():
            asked.set()
            assert written.wait(30)
        return old

    monkeypatch.setattr(world.lake, "stat", stalled)
    seen: list[str | None] = []
    slow = threading.Thread(target=lambda: seen.append(world.tag("/a/lake/a/o")))
    slow.start()
    assert asked.wait(30)
    target = world.at("/a/lake/a/o")
    made = world.through.put(target, memoryview(b"new"), There.ANYTHING)
    # What is remembered of its own write may leave at any time; the old answer must not replace it.
    written.set()
    slow.join()
    assert world.tag("/a/lake/a/o") == made.tag
    assert seen == [made.tag]


@pytest.mark.parametrize("later", [False, True])
def test_a_listing_that_a_write_overtook_is_not_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    world.lake.set("a/o", b"old")
    list_page = world.lake.list_page
    tags: list[str] = []

    def overtaken(*asked: Any) -> object:
        page = list_page(*asked)
        if not tags:
            target = world.at("/a/lake/a/o")
            put = world.through.put(target, memoryview(b"new"), There.ANYTHING)
            tags.append(put.tag)
            if later:  # and what is known of it is gone, too
                world.namespace.written(put.ref, None)
        return page

    monkeypatch.setattr(world.lake, "list_page", overtaken)
    assert list(world.namespace.list(world.at("/a/lake/a")))
    assert world.tag("/a/lake/a/o") == tags[0]


def test_an_upload_is_aborted_after_its_store_was_unmounted(world: World) -> None:
    upload = begun(world, There.ANYTHING)
    assert world.lake.uploads
    world.namespace.close()
    gone = threading.Event()
    upload.abandon(gone.set)
    assert gone.wait(30)
    assert world.lake.uploads == []
