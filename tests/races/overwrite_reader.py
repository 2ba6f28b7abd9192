"""Run by the overwrite loops: one process that opens and reads one object over and over.

Its arguments are a pipe and, as JSON, `Job`s by their names. It says `ready` when each has read
once, and ends when its standard input does; then it prints their tallies. Of each right read it
tells the writer by 8 bytes through the pipe: the version.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.errors import VersionGone
from tests.races.blocks import WrongBytes, version_in
from tests.races.ledger import Ledger
from tests.races.tally import Tally


@dataclass(frozen=True)
class Job:
    """What to read and what the contract is: `age_seconds` old at most, or `pinned`; `listing` has
    the folder listed before each open; `max_age` is given to each open."""

    config: Any
    path: str
    size: int
    ledger: str
    threads: int = 2
    age_seconds: float = 0.0
    pinned: bool = False
    listing: bool = False
    max_age: float | None = None


class Loop:
    """Reads until it is told to stop."""

    def __init__(self, job: Job, pipe: int) -> None:
        self.job = job
        self._pipe = pipe
        self.tree = HeadraceFileSystem(config=job.config)
        self.ledger = Ledger(Path(job.ledger))
        self.stop = threading.Event()
        self.tallies = [Tally() for _ in range(job.threads)]
        self.threads = [threading.Thread(target=self._run, args=(t,)) for t in self.tallies]
        self._first: set[int] = set()

    def read_once(self) -> None:
        """Read before anything is overwritten: what `pinned` then gives is there."""
        self._first.add(self._whole())

    def ended(self) -> Tally:
        """What its threads saw, when they have ended."""
        total = Tally()
        for thread, tally in zip(self.threads, self.tallies, strict=True):
            thread.join(60)
            if thread.is_alive():
                total.wrong.append("a reader hangs")
            total.add(tally)
        return total

    def _run(self, tally: Tally) -> None:
        ways = (self._whole, self._piecewise)
        number = 0
        while not self.stop.is_set():
            way = ways[number % len(ways)]
            number += 1
            if self.job.pinned:
                self._judge_pinned(tally, way)
                continue
            version = tally.judge(way.__name__, way, self.ledger, age_seconds=self.job.age_seconds)
            if version is not None:
                _tell(self._pipe, version)

    def _judge_pinned(self, tally: Tally, way: Callable[[], int]) -> None:
        """Every open gives the version that the first gave; its bytes may be gone."""
        try:
            self._first.add(way())
        except VersionGone:
            tally.gone += 1
        except BaseException as error:
            tally.wrong.append(f"pinned: {type(error).__name__}: {error}")
        else:
            if len(self._first) == 1:
                tally.right += 1
            else:
                tally.wrong.append(f"pinned, but read {sorted(self._first)}")

    def _open(self) -> Any:
        if self.job.listing:
            self.tree.ls(self.job.path.rpartition("/")[0])
        file = self.tree.open(self.job.path, max_age=self.job.max_age)
        if file.size != self.job.size:
            # The file itself was caught half written, as it may be while it is being written.
            raise VersionGone(f"{file.size} bytes")
        return file

    def _whole(self) -> int:
        with self._open() as file:
            return version_in(file.read())

    def _piecewise(self) -> int:
        """In three pieces, the last first: three requests where nothing is cached."""
        with self._open() as file:
            third = file.size // 3
            versions: set[int] = set()
            for start in (2 * third, 0, third):
                file.seek(start)
                versions.add(version_in(file.read(third), start))
        if len(versions) != 1:
            raise WrongBytes(f"one open file gave {sorted(versions)}")
        return versions.pop()


def _tell(pipe: int, version: int) -> None:
    try:
        os.write(pipe, version.to_bytes(8, "little"))
    except BlockingIOError:
        return  # the writer has more of them than he needs


def main() -> None:
    pipe = int(sys.argv[1])
    loops = {name: Loop(Job(**job), pipe) for name, job in json.loads(sys.argv[2]).items()}
    for loop in loops.values():
        loop.read_once()
    print("ready", flush=True)
    for loop in loops.values():
        for thread in loop.threads:
            thread.start()
    sys.stdin.read()
    for loop in loops.values():
        loop.stop.set()
    print(json.dumps({name: loop.ended().as_dict() for name, loop in loops.items()}), flush=True)


if __name__ == "__main__":
    main()
