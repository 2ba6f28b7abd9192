from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath
from tests.fakes.local_cache import Rig
from tests.fakes.memory_backend import MemoryBackend


def test_an_interrupted_read_spoils_no_later_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cache.interrupted_reads", "1500"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100  # else the test shows nothing


def test_an_interrupted_write_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cache.interrupted_writes", "1500"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100  # else the test shows nothing


def test_a_store_that_stalls_holds_up_no_other() -> None:
    stalled, healthy = MemoryBackend("memory:stalled"), MemoryBackend("memory:healthy")
    go_on = threading.Event()

    def stall(version: ObjectVersion, start: int) -> None:
        go_on.wait()

    stalled.before_read = stall
    healthy.set("a", b"healthy")
    rig = Rig({"/stalled": stalled, "/healthy": healthy})

    def read(number: int) -> None:
        rig.service.open(NamespacePath(f"/stalled/{number}")).read_at(0, 1)

    for number in range(40):
        stalled.set(str(number), b"x")
    threads = [threading.Thread(target=read, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    try:
        assert rig.service.open(NamespacePath("/healthy/a")).read_at(0, 7) == b"healthy"
        assert any(thread.is_alive() for thread in threads)
    finally:
        go_on.set()
        for thread in threads:
            thread.join()
    rig.service.close()
