"""Staged bytes: within the memory tier's bound, freed in any case, and pages where they can be."""

from __future__ import annotations

import os
import random

import pytest

from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Persistence, Placement
from headrace_cache.policy.scope import Scope
from headrace_cache.writing.staging import PartBuffer, Piece, settle
from headrace_namespace.identity import ObjectRef, ObjectVersion
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend

FREE = Placement(Persistence.ANY, MetadataKeeping.PERSIST, Guarantee.UNATTESTED)


def used(rig: Rig) -> int:
    return rig.service.status().tiers["memory"].used


def filled(rig: Rig, data: bytes, owner: list[PartBuffer], *, stage: bool = True) -> PartBuffer:
    buffer = rig.staging.buffer(max(1, len(data)), owner, stage=stage)
    position = 0
    while position < len(data):
        step = random.randrange(1, PAGE)
        position += buffer.append(memoryview(data)[position : position + step])
    return buffer


@pytest.mark.parametrize("stage", [True, False])
def test_a_buffer_holds_what_was_appended(rig: Rig, stage: bool) -> None:
    data = os.urandom(5 * PAGE + 17)
    owner: list[PartBuffer] = []
    buffer = filled(rig, data, owner, stage=stage)
    assert owner == [buffer]
    assert buffer.is_full
    assert buffer.append(memoryview(b"more")) == 0
    assert bytes(buffer.view()) == data
    assert (buffer.extent is not None) == stage
    assert (used(rig) >= len(data)) == stage
    rig.staging.give_back(owner)
    assert (used(rig), rig.staging.staged_bytes) == (0, 0)


def test_a_small_part_takes_little_of_the_tier(rig: Rig) -> None:
    owner: list[PartBuffer] = []
    buffer = rig.staging.buffer(8 * PAGE, owner, stage=True)
    buffer.append(memoryview(b"x"))
    assert used(rig) <= PAGE
    rig.staging.give_back(owner)


def test_all_writers_together_take_half_of_the_tier(rig: Rig) -> None:
    owner: list[PartBuffer] = []
    parts = [os.urandom(4 * PAGE) for _ in range(20)]  # 80 pages; the tier has 64
    buffers = [filled(rig, part, owner) for part in parts]
    assert rig.staging.staged_bytes <= 32 * PAGE
    assert used(rig) <= 32 * PAGE
    for part, buffer in zip(parts, buffers, strict=True):
        assert bytes(buffer.view()) == part
    assert {buffer.extent is None for buffer in buffers} == {True, False}
    rig.staging.give_back(owner)
    assert used(rig) == 0


def test_a_view_in_use_keeps_its_bytes(rig: Rig) -> None:
    owner: list[PartBuffer] = []
    data = os.urandom(3 * PAGE)
    view = filled(rig, data, owner).view()
    rig.staging.give_back(owner)
    assert rig.staging.staged_bytes == 0
    assert bytes(view) == data
    assert used(rig) >= len(data)  # it is still memory in use, and counts as that
    view.release()


@pytest.mark.parametrize("size", [1, PAGE, 3 * PAGE + 5, 12 * PAGE, 30 * PAGE + 1])
@pytest.mark.parametrize("first", [0, 1, PAGE, PAGE + 7])
def test_pieces_become_the_pages_that_they_cover(rig: Rig, size: int, first: int) -> None:
    """`first` bytes at the object's begin are not held: an append that the store began."""
    data = os.urandom(first + size)
    version = ObjectVersion(ObjectRef("memory:lake", "a"), "v1", len(data), strong=True)
    held, _ = rig.store.attach(version, FREE, Scope(frozenset()))
    owner: list[PartBuffer] = []
    pieces: list[Piece] = []
    start = first
    while start < len(data):
        stop = min(len(data), start + random.randrange(1, 4 * PAGE))
        pieces.append(Piece(start, filled(rig, data[start:stop], owner)))
        start = stop
    settle(rig.staging, held, pieces)
    pages = range(-(-len(data) // PAGE))
    absent = rig.store.missing(held, pages)
    assert set(absent) <= set(range(-(-first // PAGE)))
    for page in set(pages) - set(absent):
        span = held.spans[page * PAGE // rig.store.shape.extent_bytes(len(data))]
        begin, end = page * PAGE, min(len(data), (page + 1) * PAGE)
        assert span.extent.mapping[span.place(begin, end)] == data[begin:end]
    assert rig.staging.staged_bytes == 0


def test_what_finds_no_room_is_freed_all_the_same() -> None:
    lake = MemoryBackend("memory:lake", part_bytes=4 * PAGE)
    rig = Rig({"/lake": lake}, memory_bytes=8 * PAGE)
    data = os.urandom(40 * PAGE)
    writer = rig.service.create(path("/lake/a"))
    writer.write(memoryview(data))
    writer.commit()
    assert lake.data("a") == data
    assert rig.staging.staged_bytes == 0
    assert used(rig) <= 8 * PAGE
    assert whole(rig.service.open(path("/lake/a"))) == data
    rig.service.close()


def test_a_reader_finds_room_beside_many_writers(rig: Rig, lake: MemoryBackend) -> None:
    lake.set("read", os.urandom(20 * PAGE))
    writers = [rig.service.create(path(f"/lake/{number}")) for number in range(20)]
    for writer in writers:
        writer.write(memoryview(bytes(3 * PAGE)))
    for _ in range(2):
        whole(rig.service.open(path("/lake/read")))
    assert rig.service.status().bytes_fetched == 20 * PAGE
    for writer in writers:
        writer.abort()


def test_what_was_given_back_has_no_bytes(rig: Rig) -> None:
    for stage in (True, False):
        owner: list[PartBuffer] = []
        buffer = filled(rig, b"bytes", owner, stage=stage)
        rig.staging.give_back(owner)
        with pytest.raises(ValueError, match="given back"):
            buffer.view()
        with pytest.raises(ValueError, match="given back"):
            buffer.append(memoryview(b"more"))


def test_what_is_taken_over_is_no_longer_its_owner_s(rig: Rig) -> None:
    owner: list[PartBuffer] = []
    first, second = filled(rig, b"first", owner), filled(rig, b"second", owner)
    rig.staging.give_back([second])
    pieces = [Piece(0, first), Piece(5, second)]
    assert rig.staging.take_over(pieces) == [Piece(0, first)]
    assert owner == [second]
    assert bytes(first.view()) == b"first"
    rig.staging.give_back([first])
    assert (used(rig), rig.staging.staged_bytes) == (0, 0)
