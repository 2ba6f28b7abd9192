"""An interrupt of who waits while what he wrote becomes pages: they hold it, or nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence

import pytest

from headrace_cache.extents.cached_object import CachedObject
from headrace_cache.extents.fill import Fill
from headrace_cache.writing import writer as writing
from headrace_cache.writing.staging import Piece, Staging, settle
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend

SIZE = 20 * PAGE


class Interrupted(BaseException):
    """What the signal raises: pytest ends at a KeyboardInterrupt that escapes."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig({"/lake": MemoryBackend("memory:lake", part_bytes=4 * PAGE)})
    yield rig
    rig.service.close()


@pytest.fixture
def interruptible() -> Iterator[None]:
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGINT, interrupt)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("when", ["before it begins", "between two pages"])
def test_an_interrupted_commit_never_leaves_other_bytes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    let_go, ended = threading.Event(), threading.Event()

    def interrupt() -> None:
        # To the thread that waits: one that reached another thread would not wake it.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert let_go.wait(30)

    def interrupted(staging: Staging, held: CachedObject, pieces: Sequence[Piece]) -> None:
        if when == "before it begins":
            interrupt()
        else:
            begin_fill = staging.store.begin_fill

            def later(held: CachedObject, pages: range) -> Fill | None:
                if pages.start:
                    monkeypatch.setattr(staging.store, "begin_fill", begin_fill)
                    interrupt()
                return begin_fill(held, pages)

            monkeypatch.setattr(staging.store, "begin_fill", later)
        try:
            settle(staging, held, pieces)
        finally:
            ended.set()

    monkeypatch.setattr(writing, "settle", interrupted)
    data = os.urandom(SIZE)
    writer = rig.service.create(path("/lake/a"))
    writer.write(memoryview(data))
    with pytest.raises(Interrupted):
        writer.commit()
    let_go.set()
    assert ended.wait(30)
    assert whole(rig.service.open(path("/lake/a"))) == data
    rig.settle()
    assert rig.staging.staged_bytes == 0
