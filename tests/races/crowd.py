"""Many readers in one process, and how the tests talk to those of other processes.

Run as a program, it is one such process: each line on stdin is a JSON list, a word and its
arguments; each answer one JSON object.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace_cache.local_service import LocalService
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.errors import PolicyDenied, VersionGone
from headrace_namespace.path import NamespacePath
from tests.races.ledger import Ledger
from tests.races.tally import Tally
from tests.races.ways import OF_BLOCKS, OF_TABLE, Way

HOUSE = Path(__file__).parents[2]
#: No read of these tests waits for more than events of the test itself.
PATIENCE = 120.0
#: Of those who may read the table.
TABLE_SHARE = 0.25


@dataclass(frozen=True)
class Race:
    """What is read: one object of blocks and one table, the folder with the ledger of each, and by
    which ways the table is read (to import them costs each process a second)."""

    config: Any
    blocks: str
    table: str
    folder: str
    ways_of_table: Sequence[str] = tuple(OF_TABLE)


class Crowd:
    """Threads that read at once, and the sum of what they saw."""

    def __init__(self, race: Race) -> None:
        self._race = race
        self.tree = HeadraceFileSystem(config=race.config)
        service = self.tree.service
        assert isinstance(service, LocalService)
        self.service = service
        self.watch = service.reader().gate._watch  # pyright: ignore[reportPrivateUsage]
        self._ledgers = {
            path: Ledger(Path(race.folder) / name)
            for path, name in ((race.blocks, "blocks"), (race.table, "table"))
        }
        self._threads: list[threading.Thread] = []
        self._tallies: list[Tally] = []
        self._kept: list[Any] = []

    def start(self, count: int, may_be_denied: bool = False) -> None:
        """Begin as many reads, each on a thread of its own."""
        for _ in range(count):
            tally = Tally()
            path, name, way = self._choose()
            read = _reading(way, self.tree, path)
            thread = threading.Thread(
                target=tally.judge,
                args=(f"{name} {path}", read, self._ledgers[path]),
                kwargs={"may_be_denied": may_be_denied},
            )
            self._tallies.append(tally)
            self._threads.append(thread)
            thread.start()

    def join(self) -> Tally:
        """What all who were started since the last `join` saw."""
        total = Tally()
        for thread in self._threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                total.wrong.append("a reader hangs")
        for tally in self._tallies:
            total.add(tally)
        self._threads, self._tallies = [], []
        return total

    def keep_open(self) -> None:
        """Open the object, to be read later by `read_kept`."""
        self._kept = [self.tree.open(self._race.blocks)]

    def obey(self, epoch: int) -> None:
        """Return when the policy of this epoch is in force here."""
        while self.watch.now.epoch < epoch:
            self.watch.look()
        with self.watch._looking:  # pyright: ignore[reportPrivateUsage] # what follows it is done
            pass

    def all_denied(self) -> Tally:
        """Read in every way, also what was kept open: each must be refused now."""
        tally = Tally()
        reads: list[tuple[str, Callable[[], object]]] = [
            (f"{name} {path}", _reading(way, self.tree, path))
            for path, ways in (
                (self._race.blocks, list(OF_BLOCKS.items())),
                (self._race.table, [(name, OF_TABLE[name]) for name in self._race.ways_of_table]),
            )
            for name, way in ways
        ]
        reads += [("an open file", file.read) for file in self._kept]
        for what, read in reads:
            try:
                read()
            except PolicyDenied:
                tally.denied += 1
            except BaseException as error:
                tally.wrong.append(f"{what}, denied: {type(error).__name__}: {error}")
            else:
                tally.wrong.append(f"{what} was read though it is denied")
        self._kept = []
        return tally

    def drop(self) -> None:
        """Forget what is cached."""
        for path in (self._race.blocks, self._race.table):
            try:
                self.service.drop(NamespacePath(path))
            except VersionGone:
                continue

    def flush(self) -> None:
        """Let other processes find what was read here."""
        self.service.flush()

    def _choose(self) -> tuple[str, str, Way]:
        ways = self._race.ways_of_table
        if ways and random.random() < TABLE_SHARE:
            name = random.choice(ways)
            return self._race.table, name, OF_TABLE[name]
        name = random.choice(list(OF_BLOCKS))
        return self._race.blocks, name, OF_BLOCKS[name]


def _reading(way: Way, tree: HeadraceFileSystem, path: str) -> Callable[[], int]:
    return lambda: way(tree, path)


class OtherProcess:
    """A crowd in a process of its own."""

    def __init__(self, race: Race) -> None:
        command = [sys.executable, "-m", "tests.races.crowd", json.dumps(race.__dict__)]
        self.popen = subprocess.Popen(
            command, cwd=HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, word: str, *arguments: object) -> None:
        """Say a word; its answer is for `answer`."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps([word, *arguments]) + "\n")
        self.popen.stdin.flush()

    def answer(self) -> Tally:
        """The answer to the oldest word that was not answered yet."""
        assert self.popen.stdout is not None
        return Tally(**json.loads(self.popen.stdout.readline()))

    def kill(self) -> None:
        """As the kernel does where memory runs out."""
        self.popen.kill()

    def end(self) -> None:
        """Let it end by itself, and see that it did."""
        assert self.popen.stdin is not None and self.popen.stdout is not None
        self.popen.stdin.close()
        self.popen.wait(PATIENCE)
        self.popen.stdout.close()


def tell_all(processes: Sequence[OtherProcess], word: str, *arguments: object) -> Tally:
    """Say a word to all, and give the sum of their answers."""
    for process in processes:
        process.tell(word, *arguments)
    total = Tally()
    for process in processes:
        total.add(process.answer())
    return total


def main() -> None:
    crowd = Crowd(Race(**json.loads(sys.argv[1])))
    for line in sys.stdin:
        word, *arguments = json.loads(line)
        tally = getattr(crowd, word)(*arguments) or Tally()
        print(json.dumps(tally.as_dict()), flush=True)


if __name__ == "__main__":
    main()
