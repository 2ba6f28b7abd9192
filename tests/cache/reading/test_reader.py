"""Bytes: every size, every way, within every bound, and never of another version."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Sequence

import pytest

from headrace_cache.extents.arena import ARENA_ALIGNMENT, ROW_BYTES
from headrace_cache.extents.extent_store import CachedObject
from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.reading.pinned import Pinned
from headrace_namespace.errors import IsFolder, NotFound, VersionGone
from headrace_namespace.identity import ObjectVersion
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier


@pytest.mark.parametrize(
    "size", [0, 1, 63, 4096, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 17, 20 * PAGE, 200 * PAGE + 5]
)
def test_every_size_reads_as_it_is_cold_and_warm(rig: Rig, lake: MemoryBackend, size: int) -> None:
    data = os.urandom(size)
    lake.set("a", data)
    for _ in range(2):
        opened = rig.service.open(path("/lake/a"))
        assert whole(opened) == data
        for _ in range(50):
            start = random.randrange(size + 1)
            stop = min(size, start + random.randrange(3 * PAGE))
            assert opened.read_at(start, stop) == data[start:stop]
            assert bytes(opened.view(start, stop)) == data[start:stop]
            target = bytearray(stop - start)
            assert opened.read_into(start, memoryview(target)) == stop - start
            assert target == data[start:stop]
        opened.close()


def test_a_warm_read_asks_the_store_for_no_byte(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", os.urandom(10 * PAGE))
    whole(rig.service.open(path("/lake/a")))
    reads = lake.asked["read"]
    whole(rig.service.open(path("/lake/a")))
    assert lake.asked["read"] == reads


def test_reading_a_little_fetches_a_page_and_not_the_object(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", os.urandom(12 * PAGE))
    rig.service.open(path("/lake/a")).read_at(5 * PAGE + 3, 5 * PAGE + 4)
    assert rig.service.status().bytes_fetched == PAGE


def test_a_range_past_the_end_is_cut(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", b"0123456789")
    opened = rig.service.open(path("/lake/a"))
    assert opened.read_at(8, 99) == b"89"
    assert opened.read_at(10, 12) == b""
    assert opened.read_at(99, 100) == b""


def test_a_closed_object_says_so(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", b"x")
    opened = rig.service.open(path("/lake/a"))
    opened.read_at(0, 1)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read_at(0, 1)


def test_folders_and_nothing_are_told_apart(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("d/a", b"x")
    with pytest.raises(IsFolder):
        rig.service.open(path("/lake/d"))
    with pytest.raises(NotFound):
        rig.service.open(path("/lake/nope"))
    with pytest.raises(NotFound, match="no mount"):
        rig.service.open(path("/pond/a"))


def test_sixty_readers_of_one_cold_object_fetch_each_byte_once(
    rig: Rig, lake: MemoryBackend
) -> None:
    data = os.urandom(9 * PAGE + 11)
    lake.set("a", data)
    go = threading.Barrier(60)
    wrong: list[int] = []

    def read(number: int) -> None:
        go.wait()
        opened = rig.service.open(path("/lake/a"))
        if whole(opened) != data:
            wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert rig.service.status().bytes_fetched == len(data)


def test_an_object_replaced_under_a_read_gives_old_bytes_or_version_gone(
    rig: Rig, lake: MemoryBackend
) -> None:
    old, new = b"o" * (6 * PAGE), b"n" * (6 * PAGE)
    lake.set("a", old)
    opened = rig.service.open(path("/lake/a"))
    assert opened.read_at(0, 10) == old[:10]
    lake.set("a", new)
    assert opened.read_at(5, PAGE) == old[5:PAGE]  # that page is here
    with pytest.raises(VersionGone):
        opened.read_at(3 * PAGE, 4 * PAGE)
    assert opened.read_at(0, 10) == old[:10]
    assert whole(rig.service.open(path("/lake/a"))) == new


def test_a_failed_fetch_fails_its_readers_and_nobody_after(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("a", b"x" * PAGE)

    def fail(version: ObjectVersion, start: int) -> None:
        raise OSError("the store is on fire")

    lake.before_read = fail
    opened = rig.service.open(path("/lake/a"))
    with pytest.raises(OSError, match="fire"):
        whole(opened)
    lake.before_read = None
    assert whole(opened) == b"x" * PAGE


def test_memory_stays_within_its_bound_to_the_byte(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE)
    objects = {f"o{n}": os.urandom(random.randrange(1, 5 * PAGE)) for n in range(60)}
    objects["huge"] = os.urandom(100 * PAGE)
    for key, data in objects.items():
        lake.set(key, data)
    over: list[int] = []

    def read(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(40):
            key = rng.choice(list(objects))
            assert whole(rig.service.open(path(f"/lake/{key}"))) == objects[key]
            used = rig.memory.usage().used
            if used > 16 * PAGE:
                over.append(used)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over == []
    rig.service.close()
    assert rig.memory.usage().used == 0


def test_what_is_viewed_stays_charged_and_served_until_the_view_is_gone(
    lake: MemoryBackend,
) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE)
    data = os.urandom(4 * PAGE)
    lake.set("kept", data)
    view = rig.service.open(path("/lake/kept")).view(0, 4 * PAGE)
    assert isinstance(view, memoryview) and view.readonly

    def pass_by(count: int, *, times: int = 1) -> None:
        for number in range(count):
            lake.set(f"o{number}", os.urandom(4 * PAGE))
            for _ in range(times):
                whole(rig.service.open(path(f"/lake/o{number}")))
            assert rig.memory.usage().used <= 16 * PAGE

    pass_by(30)
    assert view == data
    fetched = rig.service.status().bytes_fetched
    assert whole(rig.service.open(path("/lake/kept"))) == data
    assert rig.service.status().bytes_fetched == fetched
    view.release()
    pass_by(60, times=2)  # used again, so that they compete with what is used again
    whole(rig.service.open(path("/lake/kept")))
    assert rig.service.status().bytes_fetched == fetched + 61 * 4 * PAGE
    rig.service.close()


def test_with_all_memory_held_by_views_reads_still_succeed(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE)
    views: list[memoryview | bytes] = []
    for number in range(8):
        data = bytes([number]) * (4 * PAGE)
        lake.set(f"o{number}", data)
        views.append(rig.service.open(path(f"/lake/o{number}")).view(0, 4 * PAGE))
        assert views[-1] == data
    assert rig.memory.usage().used <= 16 * PAGE
    for number in range(8):
        assert views[number] == bytes([number]) * (4 * PAGE)
    views.clear()
    rig.service.close()


def test_what_is_evicted_comes_back_from_the_ssd(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE, ssd=DictTier())
    objects = {f"o{n}": os.urandom(4 * PAGE) for n in range(20)}
    for key, data in objects.items():
        lake.set(key, data)
        whole(rig.service.open(path(f"/lake/{key}")))
    reads = lake.asked["read"]
    for key, data in objects.items():
        assert whole(rig.service.open(path(f"/lake/{key}"))) == data
    assert lake.asked["read"] == reads
    rig.service.close()


def test_large_reads_fetch_several_ranges_at_once(lake: MemoryBackend) -> None:
    """Four requests must be under way together, or the barrier breaks and the read fails."""
    rig = Rig({"/lake": lake}, memory_bytes=4096 * PAGE)
    data = os.urandom(4 * (8 << 20))
    lake.set("a", data)
    together = threading.Barrier(4, timeout=20)

    def meet(version: ObjectVersion, start: int) -> None:
        together.wait()

    lake.before_read = meet
    assert whole(rig.service.open(path("/lake/a"))) == data
    rig.service.close()


def test_what_waits_to_be_sealed_makes_a_fill_wait_and_not_lose_its_pages(
    lake: MemoryBackend,
) -> None:
    class SlowTier(DictTier):
        """Keeps views, as a write-behind tier does, until it is flushed."""

        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[tuple[PageId, memoryview, Scope]] = []

        def store(self, pages: Sequence[tuple[PageId, memoryview]], scope: Scope) -> None:
            self.waiting.extend((page, data, scope) for page, data in pages)

        def flush(self) -> None:
            waiting, self.waiting = self.waiting, []
            for page, data, scope in waiting:
                super().store([(page, data)], scope)

    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE, ssd=SlowTier())
    for number in range(20):
        lake.set(f"o{number}", bytes([number]) * (4 * PAGE))
        whole(rig.service.open(path(f"/lake/o{number}")))
    rig.service.flush()
    assert rig.ssd is not None and len(rig.ssd.pages) == 80
    rig.service.close()


def test_tiny_objects_are_charged_for_their_bookkeeping(lake: MemoryBackend) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=4 * PAGE)
    for number in range(3000):
        lake.set(str(number), b"x")
        whole(rig.service.open(path(f"/lake/{number}")))
    usage = rig.memory.usage()
    assert usage.used <= 4 * PAGE
    assert 1000 < usage.objects <= 4 * PAGE // (ROW_BYTES + ARENA_ALIGNMENT)
    rig.service.close()


def test_what_left_memory_before_it_was_copied_is_asked_of_the_ssd_not_of_the_store(
    lake: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig({"/lake": lake}, memory_bytes=16 * PAGE, ssd=DictTier())
    data = os.urandom(12 * PAGE)
    lake.set("a", data)
    assert whole(rig.service.open(path("/lake/a"))) == data  # the SSD has all of it
    opened = rig.service.open(path("/lake/a"))
    reader = rig.service.reader()
    bring, pushed = reader.bring, [False]

    def bring_and_push_out(pinned: Pinned, held: CachedObject, start: int, stop: int) -> None:
        bring(pinned, held, start, stop)
        if not pushed[0]:
            pushed[0] = True
            for index in list(held.spans):
                rig.memory.evict(held.spans[index].extent)

    monkeypatch.setattr(reader, "bring", bring_and_push_out)
    fetched = rig.service.status().bytes_fetched
    assert opened.read_at(0, 4 * PAGE) == data[: 4 * PAGE]
    assert pushed[0] and rig.service.status().bytes_fetched == fetched
    rig.service.close()


def test_who_is_interrupted_gets_no_bytes_into_his_buffer_later(
    rig: Rig, lake: MemoryBackend
) -> None:
    """His next bytes were overwritten by those of the read that he gave up."""
    lake.set("x", b"OLD!" * 4)
    pinned = rig.service.reader().pin(path("/lake/x"))
    begun, gate = threading.Event(), threading.Event()

    def stall(_: ObjectVersion, __: int) -> None:
        begun.set()
        gate.wait(60)

    def interrupt() -> None:
        begun.wait(60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    lake.before_read = stall
    buffer = bytearray(16)
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt), memoryview(buffer) as target:
        rig.service.reader().read_past(pinned, 0, target)
    gate.set()
    interrupting.join()
    rig.service.close()  # no thread has anything left to do
    assert buffer == bytes(16)
