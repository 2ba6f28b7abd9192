"""Small objects rest in their arenas as rows: found again, forgotten and withdrawn like others."""

from __future__ import annotations

import gc
import random
import tracemalloc
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_cache.extents.admission import Admission
from headrace_cache.extents.arena import ROW_BYTES, Arena, ArenaRows, Kind, Row, kind_bytes
from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.policy.placement import Placement
from headrace_cache.policy.scope import Scope
from headrace_cache.tiers.memory import Extent, Span
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import PAGE
from tests.fakes.shelf import FREE, HR, LAKE, SECRET, Shelf, content_of, scope_of, version_of

ADMITTED = Admission(memory=True, ssd=False)


@pytest.fixture(params=[False, True], ids=["own", "lent"])
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    shelf = Shelf(lends=bool(request.param))
    yield shelf
    shelf.store.close()
    assert shelf.memory.usage().used == 0


def test_what_nobody_uses_rests_and_is_found_again(shelf: Shelf) -> None:
    used = weakref.ref(shelf.bring(version_of(1)))
    assert used() is None
    assert shelf.has(version_of(1)) and not shelf.has(version_of(2))
    assert not shelf.has(version_of(1), SECRET), "another placement has nothing of it"
    assert shelf.memory.usage().objects == 1


def test_one_object_for_all_who_use_it(shelf: Shelf) -> None:
    shelf.bring(version_of(1))
    first, second = shelf.attach(version_of(1)), shelf.attach(version_of(1))
    assert first is second and first.spans[0].since == ManualClock().now()


def test_what_never_came_takes_one_place_however_often_it_is_tried(shelf: Shelf) -> None:
    shelf.bring(version_of(0))
    used: set[int] = set()
    for _ in range(50):
        held = shelf.attach(version_of(1, PAGE))
        fill = shelf.store.begin_fill(held, range(1))
        assert fill is not None
        with fill:
            pass
        assert shelf.store.missing(held, range(1)) == [0]
        del held, fill
        assert not shelf.has(version_of(1, PAGE))
        used.add(shelf.memory.usage().used)
    assert len(used) == 1 and shelf.has(version_of(0))
    shelf.bring(version_of(1, PAGE))
    assert shelf.has(version_of(1, PAGE))


def test_an_object_of_several_pages_keeps_those_that_came(shelf: Shelf) -> None:
    version = version_of(1, size=PAGE + 1)
    assert shelf.store.shape.in_arena(2 * PAGE) or not shelf.store.shape.in_arena(version.size)
    shelf.bring(version_of(0))
    held = shelf.attach(version)
    fill = shelf.store.begin_fill(held, range(1, 2))
    assert fill is not None
    with fill:
        with fill.target(range(1, 2)) as target:
            target[:] = b"!"
        fill.publish([1])
    del held, fill
    again = shelf.attach(version)
    assert shelf.store.missing(again, range(2)) == [0]


def test_forgetting_takes_what_rests_under_every_placement(shelf: Shelf) -> None:
    for placement in (FREE, SECRET):
        shelf.bring(version_of(1), placement)
    shelf.bring(version_of(2), SECRET)
    count = shelf.store.forget(shelf.attach(version_of(1)))
    assert not shelf.has(version_of(1)) and not shelf.has(version_of(1), SECRET)
    if not shelf.memory.lends:  # else what shares its arena goes with it
        assert count == 200
        assert shelf.has(version_of(2), SECRET)


def test_forgotten_while_its_bytes_come(shelf: Shelf) -> None:
    shelf.bring(version_of(0))
    held = shelf.attach(version_of(1))
    fill = shelf.store.begin_fill(held, range(1))
    assert fill is not None
    with fill:
        with fill.target(range(1)) as target:
            target[:] = content_of(held.version)
        shelf.store.forget(held)
        fill.publish([0])
    del held, fill
    assert not shelf.has(version_of(1))
    assert shelf.memory.usage().objects == (0 if shelf.memory.lends else 1)


def test_too_old_to_rest(shelf: Shelf) -> None:
    clock = ManualClock()
    shelf.bring(version_of(1))
    held = shelf.attach(version_of(1))
    shelf.store.forget_older(held, 5)
    assert shelf.has(version_of(1))
    held.spans[0].since = clock.now() - 10
    shelf.store.forget_older(held, 5)
    assert not shelf.has(version_of(1))


def withdrawn(shelf: Shelf, folder: str) -> None:
    part = next(iter(scope_of(folder).folders))
    shelf.store.withdraw(lambda scope, _: part in scope.folders)


def test_what_rests_is_withdrawn_by_its_scope(shelf: Shelf) -> None:
    shelf.bring(version_of(1), scope=LAKE)
    shelf.bring(version_of(2), scope=HR)
    with memoryview(shelf.attach(version_of(1)).spans[0].extent.mapping):  # so it cannot leave
        withdrawn(shelf, "/hr")
        assert not shelf.has(version_of(2))
        assert shelf.has(version_of(1)) is not shelf.memory.lends
    withdrawn(shelf, "/lake")
    assert not shelf.has(version_of(1))


def test_a_name_that_was_found_later_is_withdrawn_too(shelf: Shelf) -> None:
    shelf.bring(version_of(1), scope=LAKE)
    shelf.attach(version_of(1), scope=HR)  # it rests again, known by both
    gc.collect()
    withdrawn(shelf, "/hr")
    assert not shelf.has(version_of(1))


def test_who_uses_what_is_withdrawn_learns_it(shelf: Shelf) -> None:
    for number in range(3):
        shelf.bring(version_of(number))
    used = [shelf.attach(version_of(number)) for number in range(3)]
    withdrawn(shelf, "/lake")
    assert all(held.withdrawn and not held.spans for held in used)
    assert shelf.memory.usage().objects == 0
    assert shelf.attach(version_of(1)) is not used[1]


@pytest.mark.parametrize("other", [LAKE, HR])
def test_one_that_is_woken_while_the_policy_is_asked(shelf: Shelf, other: Scope) -> None:
    shelf.bring(version_of(1))
    woken: list[CachedObject] = []

    def affected(scope: Scope, _: Placement) -> bool:
        woken.append(shelf.attach(version_of(1), scope=other))
        return scope == LAKE  # it is not asked of the scope that the object has now

    with memoryview(shelf.attach(version_of(1)).spans[0].extent.mapping):
        shelf.store.withdraw(affected)
    assert woken and all(held.withdrawn and not held.spans for held in woken)
    del woken[:]
    assert not shelf.has(version_of(1))


def test_an_arena_that_leaves_takes_all_that_rests_in_it(shelf: Shelf) -> None:
    versions = [version_of(number, size=PAGE // 4) for number in range(600)]
    held = [shelf.bring(version) for version in versions]
    usage = shelf.memory.usage()
    assert usage.used <= usage.limit and 100 < usage.objects < 300
    assert all(bool(one.spans) is shelf.has(one.version) for one in held)
    del held
    there = [version for version in versions if shelf.has(version)]
    assert len(there) == usage.objects
    rows = shelf.store._room._rows  # pyright: ignore[reportPrivateUsage]
    assert sum(len(rows.of(version.digest())) for version in versions) == len(there)


def test_where_there_is_no_room_to_know_it_by_another_name(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.bring(version_of(1))
    shelf.bring(version_of(2))
    with monkeypatch.context() as patch:
        patch.setattr(shelf.memory, "charge", lambda extent, count: False)  # pyright: ignore
        held = shelf.attach(version_of(1), scope=HR)
        assert held.spans[0].complete, "who uses it has it"
    del held
    assert not shelf.has(version_of(1)), "what rests is known by all its names, or not at all"
    assert shelf.has(version_of(2))


def test_tables_are_charged() -> None:
    shelf = Shelf(lends=True)
    shelf.bring(version_of(0))
    before = shelf.memory.usage().used
    for number in range(1, 50):
        shelf.bring(version_of(number))
    assert shelf.memory.usage().used == before + 49 * ROW_BYTES
    shelf.bring(version_of(50), scope=HR)
    assert shelf.memory.usage().used == before + 50 * ROW_BYTES + kind_bytes(HR)
    shelf.store.close()


def arena_of(rows: ArenaRows) -> Arena:
    return Arena(Extent("arena", 1 << 20, 0), rows)


def test_what_a_row_takes() -> None:
    """The charge covers what Python takes, whatever the digests."""
    count, rows = 100_000, ArenaRows()
    arena = arena_of(rows)
    span = Span(arena.extent, 0, 0, 100, PAGE)
    span.mark_all(1.0)
    held, chance = CachedObject(version_of(0), FREE, LAKE, b"", ADMITTED), random.Random(1)
    tracemalloc.start()
    try:
        for _ in range(count):
            held.digest = chance.randbytes(16)
            arena.place(held, span)
            arena.keep(held, span)
        taken = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=True, filename_pattern="*/extents/arena.py")]
        )
    finally:
        tracemalloc.stop()
    each = sum(trace.size for trace in taken.statistics("filename")) / count
    assert 48 <= each <= ROW_BYTES
    arena.leave()
    arena.extent.unmap()


#: All in one shard; some are found across two rows of others.
DIGESTS = [bytes([0] * cut + [last] * (16 - cut)) for cut in (2, 8, 12) for last in (0, 1)]
ACTIONS = st.tuples(st.sampled_from(["put", "remove"]), st.sampled_from(DIGESTS), st.integers(0, 2))


@given(st.lists(ACTIONS, max_size=60))
def test_rows_beside_a_plain_dict(actions: list[tuple[str, bytes, int]]) -> None:
    rows = ArenaRows()
    arena = arena_of(rows)
    kinds = [rows.new_kind(arena, FREE, LAKE) for _ in range(3)]
    plain: dict[tuple[bytes, Kind], int] = {}
    for base, (action, digest, number) in enumerate(actions):
        key = digest, kinds[number]
        if action == "put" and key not in plain:
            rows.put(digest, Row(kinds[number], base, 0.5))
            plain[key] = base
        elif action == "remove":
            assert rows.remove(digest, {number}) is (plain.pop(key, None) is not None)
        for each in DIGESTS:
            found = {row.kind.number: row.base for row in rows.of(each)}
            wanted = {kind.number: at for (of, kind), at in plain.items() if of == each}
            assert found == wanted
    arena.extent.unmap()
