"""A read that hits, and an open of what was opened before, wait for nobody and ask nobody."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from _thread import LockType
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace_namespace.freshness import PINNED
from headrace_namespace.identity import ObjectVersion
from tests.cache.reading.warm_reads import BEGIN, END, ROUNDS
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend

#: What the C library and Python's allocator ask of the kernel to get memory, or to give it back.
FOR_MEMORY = {"brk", "mmap", "munmap", "mremap", "madvise"}
#: Where the machine's clock source has no vDSO, reading the clock is a system call: opens do.
FOR_TIME = {"clock_gettime"}
#: A watchdog, far above what 10,000 reads take: it decides only that a thread hangs.
HANGS_SECONDS = 60.0
#: In whose objects locks are looked for.
OUR_CODE = ("headrace_", "tests.")


def calls_between_marks(what: str, folder: Path) -> Counter[str]:
    """The system calls of the reading thread, by name, while it does `what` 10,000 times."""
    if shutil.which("strace") is None:
        pytest.fail("strace is not installed: run tests/servers/install.sh")
    trace, data = folder / "trace", folder / "data"
    data.mkdir()
    subprocess.run(
        # Without -f: the calls of the one thread that reads.
        ["strace", "-o", trace, sys.executable, "-m", "tests.cache.reading.warm_reads", what, data],
        cwd=Path(__file__).parents[3],
        check=True,
        timeout=120,
    )
    lines = trace.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if BEGIN in line)
    last = next(number for number, line in enumerate(lines) if END in line)
    return Counter(line.split("(", 1)[0] for line in lines[first + 1 : last])


def test_a_read_that_hits_makes_no_system_call(tmp_path: Path) -> None:
    calls = calls_between_marks("read", tmp_path)
    assert calls.keys() <= FOR_MEMORY | FOR_TIME, calls
    # Memory is asked for now and then, not for each read.
    assert sum(calls[name] for name in FOR_MEMORY) < ROUNDS // 100, calls


@pytest.mark.parametrize("what", ["open-checked", "open-pinned"])
def test_an_open_of_a_local_file_makes_one_stat_of_it_and_no_other_call(
    what: str, tmp_path: Path
) -> None:
    """Pinned too: its path may be a link by now, and lead to another object."""
    calls = calls_between_marks(what, tmp_path)
    stats = {name for name in calls if "stat" in name}
    assert len(stats) == 1 and sum(calls[name] for name in stats) == ROUNDS, calls
    assert calls.keys() <= stats | FOR_MEMORY | FOR_TIME, calls


def all_locks(rig: Rig) -> list[LockType]:
    """Every lock that the service holds anywhere."""
    seen: dict[int, object] = {}
    left: list[object] = [rig.service]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, dict | list | tuple | set) or type(one).__module__.startswith(OUR_CODE):
            left += gc.get_referents(one)
    return [one for one in seen.values() if isinstance(one, LockType)]


@contextmanager
def everything_held(rig: Rig, lake: MemoryBackend) -> Generator[None]:
    """A fill stands still in the midst of its bytes, and every lock of the service is taken."""
    arrived, go_on = threading.Event(), threading.Event()

    def stall(version: ObjectVersion, start: int) -> None:
        arrived.set()
        go_on.wait()

    lake.set("cold", bytes(4 * PAGE))
    cold = rig.service.open(path("/lake/cold"))
    lake.before_read = stall
    filling = threading.Thread(target=whole, args=(cold,))
    filling.start()
    assert arrived.wait(HANGS_SECONDS)
    # Those that are taken already are what somebody waits on.
    taken = [lock for lock in all_locks(rig) if lock.acquire(blocking=False)]
    try:
        for room in (rig.store, rig.flights, rig.launcher):
            assert vars(room)["_lock"] in taken  # else the test shows nothing
        yield
    finally:
        for lock in taken:
            lock.release()
        go_on.set()
        filling.join()


def is_done_in_time(work: Callable[[], None]) -> bool:
    """Whether another thread does the work, while this one holds what it holds."""
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            wrong.append(error)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    worker.join(HANGS_SECONDS)
    if wrong:
        raise wrong[0]
    return not worker.is_alive()


def test_a_read_that_hits_waits_for_no_lock_and_no_fill(rig: Rig, lake: MemoryBackend) -> None:
    data = os.urandom(3 * PAGE + 5)
    lake.set("a", data)
    opened = rig.service.open(path("/lake/a"))
    whole(opened)
    target = bytearray(PAGE)

    def read() -> None:
        for start in range(0, len(data), 1000):
            assert opened.read_at(start, start + 1000) == data[start : start + 1000]
        assert bytes(opened.view(5, 2 * PAGE)) == data[5 : 2 * PAGE]
        assert opened.read_into(7, memoryview(target)) == PAGE
        assert target == data[7 : 7 + PAGE]

    with everything_held(rig, lake):
        assert is_done_in_time(read)


def test_an_open_of_a_pinned_file_waits_for_no_lock_and_no_fill(
    rig: Rig, lake: MemoryBackend
) -> None:
    data = os.urandom(2 * PAGE)
    lake.set("a", data)
    whole(rig.service.open(path("/lake/a")))

    def read_anew() -> None:
        opened = rig.service.open(path("/lake/a"), PINNED)
        assert whole(opened) == data

    with everything_held(rig, lake):
        assert is_done_in_time(read_anew)
