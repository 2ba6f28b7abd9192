"""Run by test_interrupts: reads under a storm of interrupts, each then read again in peace.

Prints how many interrupts arrived. Ends with an error where a page could not be read afterwards.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys

from headrace_namespace.path import NamespacePath
from tests.fakes.local_cache import Rig
from tests.fakes.memory_backend import MemoryBackend


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(rounds: int) -> None:
    faulthandler.dump_traceback_later(100, exit=True)
    lake = MemoryBackend("memory:lake")
    rig = Rig({"/lake": lake})
    signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    for number in range(rounds):
        data = os.urandom(3000)
        lake.set(f"o{number}", data)
        path = NamespacePath(f"/lake/o{number}")
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 4e-4))
            try:
                rig.service.open(path).read_at(0, 3000)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        if rig.service.open(path).read_at(0, 3000) != data:
            raise AssertionError(path)
    print(interrupted)
    sys.stdout.flush()


main(int(sys.argv[1]))
