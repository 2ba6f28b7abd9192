from __future__ import annotations

import threading

import pytest

from headrace_namespace.backends.limit import LimitedBackend
from headrace_namespace.backends.protocol import Folder
from headrace_namespace.errors import StoreTimeout
from headrace_namespace.identity import ObjectVersion
from tests.fakes.memory_backend import MemoryBackend


class Gated(MemoryBackend):
    """Holds each stat until the gate is opened, and counts those inside."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.inside = self.most = 0

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.gate.wait(60)
        with self.lock:
            self.inside -= 1
        return Folder()


def test_at_most_so_many_requests_at_once() -> None:
    inner = Gated()
    backend = LimitedBackend(inner, most_requests=3, wait_seconds=60)
    threads = [threading.Thread(target=backend.stat, args=("",)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert inner.entered.acquire(timeout=60)
    inner.gate.set()
    for thread in threads:
        thread.join()
    assert inner.most == 3


def test_waiting_is_bounded_and_the_turn_comes_back() -> None:
    inner = Gated()
    backend = LimitedBackend(inner, most_requests=1, wait_seconds=0.01)
    thread = threading.Thread(target=backend.stat, args=("",))
    thread.start()
    assert inner.entered.acquire(timeout=60)
    with pytest.raises(StoreTimeout, match="busy with 1"):
        backend.stat("")
    inner.gate.set()
    thread.join()
    assert backend.stat("") == Folder()


def test_an_error_gives_its_turn_back() -> None:
    class Broken(MemoryBackend):
        def stat(self, key: str) -> ObjectVersion | Folder | None:
            raise StoreTimeout("no")

    backend = LimitedBackend(Broken(), most_requests=1, wait_seconds=0.01)
    for _ in range(3):
        with pytest.raises(StoreTimeout, match="^no$"):
            backend.stat("")
