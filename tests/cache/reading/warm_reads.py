"""Run by test_warm_path under strace: what is asked for as the argument, between two marks.

Everything is done once before, so that nothing is left to be made or imported. The clock stands
still: what is looked at once a second is not looked at.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from headrace_namespace.freshness import PINNED
from tests.fakes.folder_rig import FolderRig
from tests.fakes.local_cache import PAGE, path, whole

ROUNDS = 10_000
#: What stands before and after in the trace: system calls that nothing else makes.
BEGIN, END = "/mark/begin", "/mark/end"


def main(what: str, folder: Path) -> None:
    rig = FolderRig({}, folders={"/lake": folder})
    (folder / "a").write_bytes(os.urandom(3 * PAGE))
    opened = rig.service.open(path("/lake/a"))
    whole(opened)
    target = memoryview(bytearray(4096))

    def read(number: int) -> None:
        start = number * 4096 % (2 * PAGE)
        opened.read_at(start, start + 4096)
        opened.read_into(start, target)
        opened.view(start, start + PAGE + 1)

    def open_checked(_: int) -> None:
        rig.service.open(path("/lake/a")).close()

    def open_pinned(_: int) -> None:
        rig.service.open(path("/lake/a"), PINNED).close()

    kinds: dict[str, Callable[[int], None]] = {
        "read": read,
        "open-checked": open_checked,
        "open-pinned": open_pinned,
    }
    work = kinds[what]
    for number in range(100):
        work(number)
    os.access(BEGIN, os.F_OK)
    for number in range(ROUNDS):
        work(number)
    os.access(END, os.F_OK)
    rig.service.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
