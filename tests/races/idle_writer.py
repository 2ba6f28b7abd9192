"""Run by the tests: writes a file in place, one `write` a version, as slowly as the kernel lets it.

A write in the kernel cannot be halted from outside. But it may be kept from the processor: this
process runs only when nobody else wants its core, and a child of it wants that core always. The
file's times are set as a write begins; so this is how a write takes longer than they move in.
"""

from __future__ import annotations

import os
import sys

from tests.races.blocks import body


def main(path: str, blocks: int) -> None:
    core = {min(os.sched_getaffinity(0))}
    file = os.open(path, os.O_WRONLY)
    hog = os.fork()
    os.sched_setaffinity(0, core)
    if hog == 0:
        parent = os.getppid()
        while os.getppid() == parent:
            for _ in range(100_000):
                pass
        os._exit(0)
    try:
        for line in sys.stdin:
            data = body(int(line), blocks)
            print("begins", flush=True)
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.pwrite(file, data, 0)
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            print("written", flush=True)
    finally:
        os.kill(hog, 9)
        os.waitpid(hog, 0)


main(sys.argv[1], int(sys.argv[2]))
