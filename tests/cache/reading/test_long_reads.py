"""Reads longer than a piece: the bytes that come later are on their way while one waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from headrace_cache.reading import fetching, reader
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
    monkeypatch.setattr(reader, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(fetching, "REQUEST_BYTES", PIECE)
    return MemoryBackend("memory:far")


@pytest.mark.parametrize("read", [_read_at, _read_into])
def test_the_next_pieces_are_asked_for_before_the_first_has_come(
    far: MemoryBackend, read: Callable[[OpenObject, int], bytes]
) -> None:
    together = threading.Barrier(reader.PIECES_UNDER_WAY)

    def meet(version: ObjectVersion, start: int) -> None:
        if start < reader.PIECES_UNDER_WAY * PIECE:
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
        whole = rig.service.reader().bytes_under_way
        assert PIECE < whole <= 16 * PAGE // 4
        opened = rig.service.open(path("/far/o"))
        opened.read_into(0, memoryview(bytearray(64 * PAGE)))
        assert claimed == list(range(whole // PAGE))
    finally:
        rig.service.close()


@pytest.mark.parametrize("read", [_read_at, _read_into])
def test_what_the_ssd_had_is_right_the_first_time_and_again(
    read: Callable[[OpenObject, int], bytes],
) -> None:
    """The first copy of a page that was opened is the kernel's, the next ones the mapping's."""
    far, ssd = MemoryBackend("memory:far"), DictTier()
    data = os.urandom(40 * PAGE + 5)
    far.set("o", data)
    for _ in range(2):
        rig = Rig({"/far": far}, memory_bytes=256 * PAGE, ssd=ssd)
        opened = rig.service.open(path("/far/o"))
        assert read(opened, len(data)) == read(opened, len(data)) == data
        rig.service.close()
    assert far.asked["read"] == 1
