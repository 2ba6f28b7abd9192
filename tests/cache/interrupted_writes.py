"""Run by test_interrupts: writes under a storm of interrupts, each then written again in peace.

Prints how many interrupts arrived. Ends with an error where anything half done was seen, or where
memory, an upload or a place among the writers was lost.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import sys

from headrace_namespace.path import NamespacePath
from tests.fakes.local_cache import PAGE, Rig
from tests.fakes.memory_backend import MemoryBackend


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def is_clean(rig: Rig, lake: MemoryBackend) -> bool:
    """Whether all that was given up is gone; that goes on other threads."""
    rig.settle()
    return not (lake.uploads or rig.staging.staged_bytes or rig.writer.open_writers)


def main(rounds: int) -> None:
    faulthandler.dump_traceback_later(100, exit=True)
    lake = MemoryBackend("memory:lake", part_bytes=PAGE)
    rig = Rig({"/lake": lake}, put_bytes=PAGE)
    signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    path = NamespacePath("/lake/o")
    lake.set("o", b"")
    for number in range(rounds):
        before, after = lake.data("o"), os.urandom(random.choice((300, 5 * PAGE)))
        writer = None
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-3))
            try:
                writer = rig.service.create(path)
                for start in range(0, len(after), PAGE // 2):
                    writer.write(memoryview(after)[start : start + PAGE // 2])
                writer.commit()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
            if writer is not None and number % 2:
                writer.abort()
            del writer
        except ValueError as error:
            raise AssertionError("an interrupt was swallowed") from error
        if lake.data("o") not in (before, after):
            raise AssertionError("something half written")
    gc.collect()
    last = rig.service.create(path)
    last.write(memoryview(b"peace"))
    last.commit()
    if lake.data("o") != b"peace":
        raise AssertionError("the last write")
    if not any(is_clean(rig, lake) for _ in range(10_000)):
        raise AssertionError((lake.uploads, rig.staging.staged_bytes, rig.writer.open_writers))
    print(interrupted)
    sys.stdout.flush()


main(int(sys.argv[1]))
