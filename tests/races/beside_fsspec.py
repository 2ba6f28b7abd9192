"""`python -m tests.races.beside_fsspec`: one race, run by headrace and by fsspec's own caches.

Readers, one after the other, read one object that is cold and slow to come; each round a new one.
Told are how many of them got right bytes, and how often the store was read. The store gives out
64 KiB at a time: one piece for each reader that has come, and the rest when all have.
"""

from __future__ import annotations

import argparse
import collections
import tempfile
import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from headrace_namespace.identity import ObjectVersion
from tests.fakes.local_cache import Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend
from tests.races.blocks import BLOCK_BYTES, body

if TYPE_CHECKING:
    # fsspec publishes no types.
    MemoryFileSystem: Any = None
else:
    from fsspec.implementations.memory import MemoryFileSystem

fsspec: Any = import_module("fsspec")

BLOCKS = (8 << 20) // BLOCK_BYTES
SIZE = BLOCKS * BLOCK_BYTES
PIECE_BYTES = 1 << 16
PATIENCE = 60.0
DATA = body(7, BLOCKS)


class Pace:
    """How far the store has come, and which readers have."""

    def __init__(self, readers: int) -> None:
        self.reads = 0
        self._readers = readers
        self._come = self._given = 0
        self._changed = threading.Condition()

    def come(self, number: int) -> None:
        """Reader `number` starts, when as many pieces were given."""
        with self._changed:
            self._changed.wait_for(lambda: self._given >= number, PATIENCE)
            self._come += 1
            self._changed.notify_all()

    def begin(self) -> None:
        """The store is read once more."""
        with self._changed:
            self.reads += 1

    def give(self) -> None:
        """Return when the next piece may be given."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._come == self._readers or self._given < self._come, PATIENCE
            )
            self._given += 1
            self._changed.notify_all()


class PacedBackend(MemoryBackend):
    """The store for headrace."""

    def __init__(self, pace: Pace) -> None:
        super().__init__("memory:paced")
        self._pace = pace
        self.set("x", DATA)

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        self._pace.begin()
        for at in range(0, len(target), PIECE_BYTES):
            self._pace.give()
            piece = DATA[start + at : start + min(at + PIECE_BYTES, len(target))]
            target[at : at + len(piece)] = piece


class PacedFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec publishes no types
    """The same store for fsspec."""

    protocol = "paced"
    cachable = False
    store: dict[str, Any] = {}
    pseudo_dirs = [""]

    def __init__(self, pace: Pace) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] # fsspec's
        self._pace = pace
        self.pipe_file("/x", DATA)

    def get_file(self, rpath: str, lpath: str, callback: object = None, **kwargs: object) -> None:
        """Copy an object, piece by piece, as remote file systems do."""
        self._pace.begin()
        with open(lpath, "wb", buffering=0) as file:
            for at in range(0, SIZE, PIECE_BYTES):
                self._pace.give()
                file.write(DATA[at : at + PIECE_BYTES])


#: What a contestant is asked for: how each reader of a round reads.
Contestant = Callable[[Pace, str], Callable[[], bytes]]


def headrace(pace: Pace, folder: str) -> Callable[[], bytes]:
    service = Rig({"/lake": PacedBackend(pace)}, memory_bytes=64 << 20).service
    return lambda: whole(service.open(path("/lake/x")))


def of_fsspec(protocol: str, *, shared: bool) -> Contestant:
    """One of fsspec's caches: readers share one instance, or each has his own over one folder, as
    processes have."""

    def make(pace: Pace, folder: str) -> Callable[[], bytes]:
        store = PacedFileSystem(pace)

        def cache() -> Any:
            return fsspec.filesystem(
                protocol, fs=store, cache_storage=folder, skip_instance_cache=True
            )

        one = cache()

        def read() -> bytes:
            with (one if shared else cache()).open("/x", "rb") as file:
                return bytes(file.read())

        return read

    return make


CONTESTANTS: dict[str, Contestant] = {
    "headrace": headrace,
    "simplecache": of_fsspec("simplecache", shared=False),
    "simplecache, one instance": of_fsspec("simplecache", shared=True),
    "filecache": of_fsspec("filecache", shared=False),
    "filecache, one instance": of_fsspec("filecache", shared=True),
}


def race(contestant: Contestant, readers: int) -> tuple[collections.Counter[str], int]:
    """One round: the readers' answers by kind, and how often the store was read."""
    pace = Pace(readers)
    answers: list[str] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        read = contestant(pace, folder)

        def run(number: int) -> None:
            pace.come(number)
            answers.append(_kind_of(read))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return collections.Counter(answers), pace.reads


def _kind_of(read: Callable[[], bytes]) -> str:
    try:
        data = read()
    except Exception as error:
        return type(error).__name__
    if data == DATA:
        return "right"
    return "too short" if len(data) < SIZE else "wrong"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    of = given.readers * given.rounds
    print(
        f"{of} reads: {given.rounds} rounds of {given.readers} readers, fsspec {fsspec.__version__}"
    )
    print(f"{'':28}{'right':>8}{'store reads':>14}   otherwise")
    for name, contestant in CONTESTANTS.items():
        answers: collections.Counter[str] = collections.Counter()
        reads = 0
        for _ in range(given.rounds):
            found, asked = race(contestant, given.readers)
            answers += found
            reads += asked
        right = answers.pop("right", 0)
        others = ", ".join(f"{count} {kind}" for kind, count in answers.most_common())
        print(f"{name:28}{right:>8}{reads:>14}   {others or '-'}")


if __name__ == "__main__":
    main()
