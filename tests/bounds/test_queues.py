"""Flights, queues and tables: each has a bound, and never one entry more."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace_cache.extents import object_table
from headrace_cache.extents.page import PageId
from headrace_cache.policy.scope import Scope
from headrace_cache.reading import fetching, reader
from headrace_cache.tiers import write_behind
from headrace_cache.tiers.memory import Extent
from headrace_cache.tiers.ssd import notes
from headrace_cache.tiers.write_behind import WriteBehindTier
from headrace_mounts.connect import connect, disconnect_all
from headrace_mounts.settings import declare_mount
from headrace_namespace import offload, run_time_mounts
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.latch import Latch
from headrace_namespace.metadata.listings import Listings
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.metadata.protocol import Observation
from headrace_namespace.offload import Offload
from tests.conformance.page_tier_suite import FOLDER, version
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier

PATIENCE = 60.0


def object_version(number: int) -> ObjectVersion:
    return ObjectVersion(ObjectRef("s3:lake", f"key-{number}"), f"v{number}", 10, True)


def test_flights_of_one_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    """A huge view, and many readers at once, wait for landings instead of claiming more."""
    monkeypatch.setattr(fetching, "MOST_FLIGHTS", 8)
    monkeypatch.setattr(reader, "MOST_FLIGHTS_OF_A_READ", 3)
    monkeypatch.setattr(fetching, "REQUEST_BYTES", PAGE)
    lake = MemoryBackend("memory:lake")
    rig = Rig({"/lake": lake}, memory_bytes=1024 * PAGE)
    data = [bytes([number]) * (16 * PAGE) for number in range(12)]
    for number, content in enumerate(data):
        lake.set(f"object-{number}", content)
    seen: Counter[str] = Counter()

    def look(_: ObjectVersion, __: int) -> None:
        seen["most"] = max(seen["most"], len(rig.flights.under_way))

    lake.before_read = look
    right: list[int] = []

    def work(number: int) -> None:
        opened = rig.service.open(path(f"/lake/object-{number}"))
        # A view is brought in one go, however large it is.
        if opened.view(0, opened.version.size) == data[number] == whole(opened):
            right.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(right) == list(range(12))
    assert 3 < seen["most"] <= 8
    rig.service.close()


def test_flights_of_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is: a small read that comes stands in line behind so many."""
    monkeypatch.setattr(reader, "MOST_FLIGHTS_OF_A_READ", 3)
    monkeypatch.setattr(fetching, "REQUEST_BYTES", PAGE)
    lake = MemoryBackend("memory:lake")
    rig = Rig({"/lake": lake}, memory_bytes=1024 * PAGE)
    lake.set("object", bytes(100 * PAGE))
    together, seen = threading.Barrier(3), [0]

    def look(_: ObjectVersion, start: int) -> None:
        if start < 3 * PAGE:
            together.wait(PATIENCE)  # breaks unless so many are under way at once
        seen[0] = max(seen[0], len(rig.flights.under_way))

    lake.before_read = look
    assert rig.service.open(path("/lake/object")).view(0, 100 * PAGE) == bytes(100 * PAGE)
    assert seen[0] <= 3 and lake.asked["read"] == 100
    rig.service.close()


def test_flights_that_fail_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MOST_FLIGHTS", 2)
    monkeypatch.setattr(fetching, "REQUEST_BYTES", PAGE)
    lake = MemoryBackend("memory:lake")
    rig = Rig({"/lake": lake}, memory_bytes=256 * PAGE)
    lake.set("object", bytes(8 * PAGE))

    def fail(_: ObjectVersion, __: int) -> None:
        raise OSError("gone")

    lake.before_read = fail
    opened = rig.service.open(path("/lake/object"))
    for _ in range(4):
        with pytest.raises(OSError, match="gone"):
            opened.view(0, 8 * PAGE)
    rig.flights.wait_for_all()
    lake.before_read = None
    assert whole(opened) == bytes(8 * PAGE)
    rig.service.close()


def test_work_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "MOST_WAITING", 5)
    pool, go, begun = Offload(1), threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go.wait(PATIENCE)

    pool.submit(hold)
    assert begun.wait(PATIENCE)
    taken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: taken.append(pool.offer(lambda: None))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(True) == pool.waiting == 5
    go.set()
    pool.run(lambda: None)
    pool.close()


def test_who_gave_up_waiting_leaves_nothing_behind() -> None:
    """A patrol that waits a second at a time left a lock each second, for as long as it lived."""
    latch = Latch()
    for _ in range(100):
        assert not latch.wait(0)
    assert latch.waiting == 0
    latch.open()
    assert latch.wait(0)


def test_pages_that_wait_to_be_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny pages would wait by the million within a bound of bytes alone."""
    monkeypatch.setattr(write_behind, "BACKLOG_PAGES", 10)
    go, begun = threading.Event(), threading.Event()
    own: list[int] = []

    class Held(DictTier):
        def store_each(self, pages: Sequence[tuple[PageId, memoryview, Scope]]) -> None:
            if threading.current_thread().name == "headrace-ssd-writer":
                begun.set()
                assert go.wait(PATIENCE)
                super().store_each([(p, memoryview(bytes(v)), scope) for p, v, scope in pages])
            else:
                own.append(len(pages))

    tier = WriteBehindTier(Held(), 1 << 20)
    names = [PageId(version(number), 0) for number in range(30)]
    tier.store([(names[0], memoryview(b"page"))], FOLDER)
    assert begun.wait(PATIENCE)
    for name in names[1:]:
        tier.store([(name, memoryview(b"page"))], FOLDER)
    assert sum(tier.holds(name) for name in names) == 10
    assert sum(own) == 20
    go.set()
    tier.flush()
    tier.store([(names[20], memoryview(b"page"))], FOLDER)
    tier.flush()
    assert tier.holds(names[20]), "the places did not come free"
    tier.close()


def test_answers_of_stores() -> None:
    metadata = MemoryMetadata(10)
    held: set[int] = set()
    for number in range(50):
        metadata.put(Observation(object_version(number), 0.0))
        metadata.put(Observation(object_version(number), 1.0))  # another of the same
        held = {n for n in range(50) if metadata.get(object_version(n).ref) is not None}
        assert len(held) <= 10
    assert held == set(range(40, 50))


def test_children_of_listings() -> None:
    listings = Listings(10)
    for folder in range(5):
        listings.begin(f"folder-{folder}", 0.0)
        for part in range(3):
            some = {f"{part}-{n}": object_version(n) for n in range(2)}
            listings.add(f"folder-{folder}", 0.0, some)
    listings.begin("large", 0.0)
    listings.add("large", 0.0, {f"{n}": object_version(n) for n in range(11)})
    assert not listings.shows_folder("large", 0.0), "it is larger than all that may be held"
    assert listings.take("large", "1", 0.0, opening=False) is None


def test_mounts_that_went_are_counted_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that mounts and unmounts for weeks, each time elsewhere, grew without end."""
    monkeypatch.setattr(run_time_mounts, "MOST_RETIRED", 3)
    service = connect({"cache": {"folder": str(tmp_path / "cache"), "ssd": 0}})
    for number in range(6):
        (tmp_path / f"s{number}").mkdir()
        declared = declare_mount({"path": f"/m{number}", "url": str(tmp_path / f"s{number}")})
        service.add_mount(declared)
        service.remove_mount(declared.mount.path)
    assert sorted(service.status().requests) == ["/m3", "/m4", "/m5"]
    disconnect_all()


def test_segments_read_and_entries_found_broken() -> None:
    book = notes.NoteBook()
    for number in range(5000):
        book.used(number)
    assert len(book.take().used) <= 1024


def test_scopes_that_objects_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_table, "MOST_SCOPES", 4)
    lake = MemoryBackend("memory:lake")
    rig = Rig({"/lake": lake})
    reader = rig.service.reader()
    table = rig.store._objects  # pyright: ignore[reportPrivateUsage]
    for folder in range(9):
        scopes: list[Scope] = []
        for number in range(2):
            lake.set(f"f{folder}/{number}", b"data")
            held = reader.attach(reader.pin(path(f"/lake/f{folder}/{number}")))
            scopes.append(held.scope)
            assert len(table._scopes) <= 4  # pyright: ignore[reportPrivateUsage]
        assert scopes[0] is scopes[1]
    rig.service.close()


def test_a_process_without_descriptors_reads_past_its_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lake = MemoryBackend("memory:lake")
    rig = Rig({"/lake": lake}, memory_bytes=256 * PAGE)
    for number in range(4):
        lake.set(f"object-{number}", bytes([number]) * (40 * PAGE))
    assert whole(rig.service.open(path("/lake/object-0"))) == lake.data("object-0")

    def none_left(self: Extent, *given: object, **named: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Extent, "__init__", none_left)
        for number in range(1, 4):
            opened = rig.service.open(path(f"/lake/object-{number}"))
            assert whole(opened) == lake.data(f"object-{number}")
    assert whole(rig.service.open(path("/lake/object-1"))) == lake.data("object-1")
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    rig.service.close()
