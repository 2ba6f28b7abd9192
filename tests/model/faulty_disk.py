"""A disk under the SSD tier that fails as disks do: full, broken, read-only, torn."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import lmdb
import pytest

from headrace_cache.tiers.ssd import folder, key_file, key_swap, segments, space
from headrace_namespace.metadata.lmdb_env import SharedEnvironment

#: What may fail, and how.
CALLS = ("open", "pwrite", "preadv", "fsync", "write", "unlink", "index write", "index read")
ERRNOS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE)
_ROOMS = (folder, key_file, key_swap, segments, space)


class FaultyDisk:
    """The `os` that the tier's rooms see; the calls named in `failing` raise its errno."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        #: Whether writes and reads transfer one byte less than they were asked for.
        self.short = False
        self.fired = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self.ask("open")
        return os.open(path, flags, mode)

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        self.ask("pwrite")
        cut = len(data) - 1 if self.short and len(data) > 1 else len(data)
        return os.pwrite(descriptor, data[:cut], offset)

    def preadv(self, descriptor: int, targets: Sequence[memoryview], offset: int) -> int:
        self.ask("preadv")
        target = targets[0]
        cut = len(target) - 1 if self.short and len(target) > 1 else len(target)
        return os.preadv(descriptor, [target[:cut]], offset)

    def write(self, descriptor: int, data: bytes) -> int:
        self.ask("write")
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self.ask("fsync")
        os.fsync(descriptor)

    def unlink(self, path: Any) -> None:
        self.ask("unlink")
        os.unlink(path)

    def ask(self, call: str) -> None:
        """Raises OSError where this call is to fail."""
        number = self.failing.get(call)
        if number is not None:
            self.fired += 1
            raise OSError(number, os.strerror(number))


@contextmanager
def faulty(disk: FaultyDisk) -> Generator[None]:
    """While it lasts, the SSD tier's files and index lie on this disk."""
    real = SharedEnvironment._transaction  # pyright: ignore[reportPrivateUsage]

    @contextmanager
    def transaction(self: SharedEnvironment, *, write: bool) -> Generator[Any]:
        if self.path.name == "index":  # not the ledger's
            call = "index write" if write else "index read"
            try:
                disk.ask(call)
            except OSError as error:
                with self._use():  # pyright: ignore[reportPrivateUsage]
                    raise lmdb.DiskError(str(error)) from error
        with real(self, write=write) as open_transaction:
            yield open_transaction

    with pytest.MonkeyPatch.context() as patch:
        for room in _ROOMS:
            if hasattr(room, "os"):
                patch.setattr(room, "os", disk)
        patch.setattr(SharedEnvironment, "_transaction", transaction)
        yield


def damage(file: os.PathLike[str], place: int) -> None:
    """Flip one bit of a file."""
    size = os.stat(file).st_size
    if size == 0:
        return
    with open(file, "r+b") as opened:
        opened.seek(place % size)
        byte = opened.read(1)[0]
        opened.seek(place % size)
        opened.write(bytes([byte ^ 1 << place % 8]))
