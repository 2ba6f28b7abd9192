"""An answer that has begun holds what it promised, or is broken off: nothing else gets into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from headrace_cache.local_service import LocalService
from headrace_cache.node.http import routing, tree
from headrace_cache.node.http.bounds import SLICE_BYTES
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.remote import http_client
from headrace_cache.wire import messages as m
from headrace_cache.wire import routes
from headrace_cache.wire.values import told_entry
from headrace_namespace.entry import Entry
from headrace_namespace.errors import StoreUnavailable
from headrace_namespace.path import NamespacePath
from tests.cache.node.conftest import MIB, path
from tests.cache.node.http.conftest import HttpWorld
from tests.cache.node.http.test_hostile import everything


def _nothing(*given: object) -> None:
    """Memory holds none of it."""


class SlowStore:
    """Bytes from `at` on are at hand only when `go_on` is set; `asked` tells of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.go_on, self.asked = threading.Event(), threading.Semaphore(0)
        brought = tree._brought  # pyright: ignore[reportPrivateUsage]

        def wait(opened: OpenObject, start: int, stop: int) -> memoryview | bytes:
            if start >= at:
                self.asked.release()
                assert self.go_on.wait(60)
            return brought(opened, start, stop)

        monkeypatch.setattr(OpenObject, "at_hand", _nothing)
        monkeypatch.setattr(tree, "_brought", wait)


class Beats:
    """Lets `store` go on after the door might have said some times that it is at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: SlowStore) -> None:
        monkeypatch.setattr(routes, "BEAT_SECONDS", 0.02)
        self.thread = threading.Thread(target=self._after, args=(store,))
        self.thread.start()

    def _after(self, store: SlowStore) -> None:
        assert store.asked.acquire(timeout=60)
        # Several beats long; that there are none to wait for is what is tested.
        threading.Event().wait(0.3)
        store.go_on.set()


def test_no_beat_gets_into_a_body(world: HttpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    data = world.put("a", MIB)
    world.node()
    opened = world.remote().open(path("a"))
    beats = Beats(monkeypatch, SlowStore(monkeypatch, SLICE_BYTES))
    assert opened.read_at(0, MIB) == data
    beats.thread.join(60)


def test_a_silence_within_a_body_is_asked_for_anew(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gives up the answer; before the next one begins it is told that the node lives."""
    data = world.put("a", 2 * MIB)
    world.node()
    monkeypatch.setattr(routes, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(http_client, "SILENCE_SECONDS", 0.5)
    opened = world.remote().open(path("a"))
    store = SlowStore(monkeypatch, SLICE_BYTES)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(opened.read_at(0, 2 * MIB)))
    reader.start()
    # The answer; the same from its start, to go on by each byte that comes; the rest.
    for _ in range(3):
        assert store.asked.acquire(timeout=60)
    # Nor does it give up while it hears of the node: a silence later it waits still.
    assert not store.asked.acquire(timeout=1.2)
    store.go_on.set()
    reader.join(60)
    assert read == [data]


def test_slices_that_each_take_longer_than_a_silence(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a read may have cuts: each brings something, so it goes on."""
    data = world.put("a", 6 * MIB)
    world.node()
    opened = world.remote().open(path("a"))
    brought = tree._brought  # pyright: ignore[reportPrivateUsage]
    cut: set[int] = set()

    def slow(held: OpenObject, start: int, stop: int) -> memoryview | bytes:
        if start and start not in cut:  # each once in the middle of an answer
            cut.add(start)
            raise StoreUnavailable("not now")
        return brought(held, start, stop)

    monkeypatch.setattr(OpenObject, "at_hand", _nothing)
    monkeypatch.setattr(tree, "_brought", slow)
    monkeypatch.setattr(http_client, "TRY_AGAIN_SECONDS", ())
    assert opened.read_at(0, 6 * MIB) == data
    assert len(cut) == 6 * MIB // SLICE_BYTES - 1


@pytest.mark.parametrize("fault", [MemoryError, StoreUnavailable, ValueError])
def test_a_fault_within_a_body_breaks_it_off(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    data = world.put("a", MIB)
    world.node()
    brought = tree._brought  # pyright: ignore[reportPrivateUsage]

    def fail(opened: OpenObject, start: int, stop: int) -> memoryview | bytes:
        if start:
            raise fault("gone")
        return brought(opened, start, stop)

    monkeypatch.setattr(OpenObject, "at_hand", _nothing)
    monkeypatch.setattr(tree, "_brought", fail)
    connected = world.raw()
    connected.sendall(b"GET /v1/tree/data/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _, _, body = everything(connected).partition(b"\r\n\r\n")
    assert body == data[: len(body)]
    assert len(body) <= SLICE_BYTES


def test_a_fault_within_a_listing_breaks_it_off(
    world: HttpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        world.put(name, 1)
    world.node()
    listing = LocalService.list

    def fails(self: LocalService, asked: NamespacePath) -> Iterator[Entry]:
        yield next(listing(self, asked))
        raise MemoryError("none")

    monkeypatch.setattr(LocalService, "list", fails)
    # Each part has one entry.
    monkeypatch.setattr(routing, "listed", _one)
    with pytest.raises(StoreUnavailable, match="broke|too early"):
        list(world.remote().list(path("")))


def _one(found: Iterator[Entry]) -> m.Listed:
    return m.Listed(1, [told_entry(next(found))])
