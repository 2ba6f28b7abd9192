"""Reads longer than a piece: the bytes that come later are on their way while one waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from headrace_cache.reading import fetching, open_object, prefetch
from headrace_cache.reading.prefetch import LongReads
from headrace_cache.service import OpenObject
from headrace_namespace.identity import ObjectVersion
from tests.fakes.local_cache import PAGE, Rig, path
from tests.fakes.memory_backend import MemoryBackend
from tests.fakes.page_tier import DictTier

PATIENCE = 60.0
PIECE = 2 * PAGE


def _read_at(opened: OpenObject, size: int) -> bytes:
    return opened.read_at(0, size)


def _read_into(opened: OpenObject, size: int) -> bytes:
    target = bytearray(size)
    opened.read_into(0, memoryview(target))
    return bytes(target)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> MemoryBackend:
    monkeypatch.setattr(prefetch, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(fetching, "REQUEST_BYTES", PIECE)
    return MemoryBackend("memory:far")


@pytest.mark.parametrize("read", [_read_at, _read_into])
def test_the_next_pieces_are_asked_for_before_the_first_has_come(
    far: MemoryBackend, read: Callable[[OpenObject, int], bytes]
) -> None:
    together = threading.Barrier(prefetch.PIECES_UNDER_WAY)

    def meet(version: ObjectVersion, start: int) -> None:
        if start < prefetch.PIECES_UNDER_WAY * PIECE:
            together.wait(PATIENCE)  # breaks unless all are asked for at once

    data = os.urandom(10 * PIECE + 5)
    far.set("o", data)
    far.before_read = meet
    rig = Rig({"/far": far}, memory_bytes=256 * PAGE)
    try:
        assert read(rig.service.open(path("/far/o")), len(data)) == data
        assert far.asked["read"] == 11
    finally:
        rig.service.close()


def test_no_more_is_under_way_than_one_object_may_take_of_memory(far: MemoryBackend) -> None:
    rig = Rig({"/far": far}, memory_bytes=16 * PAGE)
    claimed: list[int] = []
    looked = threading.Event()

    def look(version: ObjectVersion, start: int) -> None:
        if start == 0:
            rig.launcher.run(lambda: None)  # what is claimed at all before the first bytes, is
            pages = rig.flights._by_page  # pyright: ignore[reportPrivateUsage]
            claimed.extend(sorted(page.index for page in tuple(pages)))
            looked.set()
        assert looked.wait(PATIENCE)

    far.set("o", os.urandom(64 * PAGE))
    far.before_read = look
    try:
        whole = rig.service.reader().long_reads.bytes_each()
        assert PIECE < whole <= 16 * PAGE // 4
        opened = rig.service.open(path("/far/o"))
        opened.read_into(0, memoryview(bytearray(64 * PAGE)))
        assert claimed == list(range(whole // PAGE))
    finally:
        rig.service.close()


def test_a_long_read_leaves_threads_for_those_who_wait(
    far: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many flights as the mount has threads would make a small read wait for their landing."""
    monkeypatch.setattr(open_object, "MOST_FLIGHTS_AHEAD", 2)
    few = threading.Event()
    small_came = threading.Event()
    under_way = [0]

    def stand(version: ObjectVersion, start: int) -> None:
        if version.ref.key == "small":
            return
        under_way[0] += 1
        if under_way[0] == 2:
            few.set()
        assert small_came.wait(PATIENCE)

    far.set("large", os.urandom(64 * PIECE))
    far.set("small", b"now")
    far.before_read = stand
    rig = Rig({"/far": far}, memory_bytes=1024 * PAGE)
    large, small = (rig.service.open(path(f"/far/{name}")) for name in ("large", "small"))
    reader = threading.Thread(target=large.read_at, args=(0, 64 * PIECE))
    reader.start()
    try:
        assert few.wait(PATIENCE)
        rig.settle()
        assert small.read_at(0, 3) == b"now"
        assert under_way[0] == 2
    finally:
        small_came.set()
        reader.join(PATIENCE)
        rig.service.close()


def test_long_reads_share_what_one_object_may_take_of_memory() -> None:
    together = LongReads(96 << 20)
    shares = [together.begin() for _ in range(3)]
    assert [share.bytes for share in shares] == [32 << 20] * 3
    del shares[0]
    assert [share.bytes for share in shares] == [48 << 20] * 2
    shares.clear()
    assert together.begin().bytes == 96 << 20
    assert LongReads(1 << 40).begin().bytes == prefetch.PIECES_UNDER_WAY * prefetch.PIECE_BYTES


@pytest.mark.parametrize("read", [_read_at, _read_into])
def test_what_the_ssd_had_is_right_the_first_time_and_again(
    read: Callable[[OpenObject, int], bytes],
) -> None:
    far, ssd = MemoryBackend("memory:far"), DictTier()
    data = os.urandom(40 * PAGE + 5)
    far.set("o", data)
    for _ in range(2):
        rig = Rig({"/far": far}, memory_bytes=256 * PAGE, ssd=ssd)
        opened = rig.service.open(path("/far/o"))
        assert read(opened, len(data)) == read(opened, len(data)) == data
        rig.service.close()
    assert far.asked["read"] == 1
