"""What must outlive the cache and the process, small as it is: mounts made at run time, the last
good policy, records of purges, totals.

It lies in the state folder, not in the cache folder, for a cache may be deleted at any time. All
processes that share a cache folder share its ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import lmdb

from headrace_namespace.metadata.lmdb_check import set_aside
from headrace_namespace.metadata.lmdb_env import (
    IndexDamaged,
    IndexFault,
    SharedEnvironment,
    acquire,
    release,
)

_log = logging.getLogger(__name__)

#: A mount takes about 300 bytes, a purge's record 500, a policy at most some 100 KiB.
LEDGER_BYTES = 64 << 20

#: Under this key each book counts its changes, so that a watcher needs one look-up.
_GENERATION = b"\0generation"


class LedgerFault(Exception):
    """The ledger could not be read or written; the message says why."""


class LedgerDamaged(LedgerFault):
    """Its file is damaged."""


class Page(Protocol):
    """One book within a transaction: keys and values as bytes."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value in place of an earlier one."""
        ...

    def delete(self, key: bytes) -> bool:
        """Forget a key; whether it was there."""
        ...

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, by key."""
        ...


class Book(Protocol):
    """One named part of the ledger. Safe to use from many threads and processes."""

    def generation(self) -> int:
        """How often it was written, by any process. Raises LedgerFault."""
        ...

    def read(self) -> AbstractContextManager[Page]:
        """Read in one transaction. Raises LedgerFault."""
        ...

    def write(self) -> AbstractContextManager[Page]:
        """Read and write in one transaction, one at a time over all processes; nothing is written
        where the block raises. Raises LedgerFault."""
        ...


class Ledger(Protocol):
    """All books of one cache folder."""

    @property
    def lasts(self) -> bool:
        """Whether what is written outlives this process."""
        ...

    def book(self, name: str) -> Book:
        """The book of this name, made where it is missing. Raises LedgerFault."""
        ...

    def close(self) -> None:
        """Let go of it; books of it are not used afterwards."""
        ...


def open_ledger(folder: Path) -> Ledger:
    """The ledger in `folder`; where that cannot be, one in memory alone, after a warning. A damaged
    one is set aside, and said once: a new one takes its place."""
    try:
        return _opened(folder)
    except (LedgerFault, OSError) as error:
        _log.warning(
            "what headrace keeps in %s cannot be kept (%s): mounts made at run time and the last "
            "policy are forgotten with this process",
            folder,
            error,
        )
        return MemoryLedger()


def _opened(folder: Path) -> Ledger:
    try:
        return LmdbLedger(folder)
    except LedgerDamaged as error:
        if set_aside(folder):
            _log.warning(
                "what headrace kept in %s is lost (%s): mounts made at run time, the last policy, "
                "records of purges and totals; the damaged file is kept beside it as "
                "data.mdb.damaged",
                folder,
                error,
            )
        return LmdbLedger(folder)


class LmdbLedger:
    """A ledger in an LMDB environment."""

    lasts = True

    def __init__(self, folder: Path) -> None:
        """Raises LedgerFault, LedgerDamaged, OSError."""
        with _faults():
            self._environment = acquire(folder, LEDGER_BYTES)

    def book(self, name: str) -> Book:
        """The book of this name."""
        with _faults():
            return _LmdbBook(self._environment, self._environment.database(name))

    def close(self) -> None:
        """Give the environment back."""
        release(self._environment)


class MemoryLedger:
    """A ledger of this process alone: for tests, and where no folder can be written."""

    lasts = False

    def __init__(self) -> None:
        self._books: dict[str, _MemoryBook] = {}

    def book(self, name: str) -> Book:
        """The book of this name."""
        return self._books.setdefault(name, _MemoryBook())

    def close(self) -> None:
        """Nothing is to be let go of."""


class _LmdbBook:
    def __init__(self, environment: SharedEnvironment, database: Any) -> None:
        self._environment = environment
        self._database = database

    def generation(self) -> int:
        with self.read() as page:
            return int.from_bytes(page.get(_GENERATION) or b"", "big")

    @contextmanager
    def read(self) -> Generator[Page]:
        with _faults(), self._environment.read() as transaction:
            yield _LmdbPage(transaction, self._database)

    @contextmanager
    def write(self) -> Generator[Page]:
        with _faults(), self._environment.write() as transaction:
            page = _LmdbPage(transaction, self._database)
            yield page
            _count(page)


class _LmdbPage:
    def __init__(self, transaction: lmdb.Transaction[bytes], database: Any) -> None:
        self._transaction = transaction
        self._database = database

    def get(self, key: bytes) -> bytes | None:
        return self._transaction.get(key, db=self._database)

    def put(self, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._database)

    def delete(self, key: bytes) -> bool:
        return self._transaction.delete(key, db=self._database)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        with self._transaction.cursor(db=self._database) as cursor:
            for key, value in cursor:
                if key != _GENERATION:
                    yield key, value


class _MemoryBook:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._values: dict[bytes, bytes] = {}

    def generation(self) -> int:
        return int.from_bytes(self._values.get(_GENERATION, b""), "big")

    @contextmanager
    def read(self) -> Generator[Page]:
        with self._lock:
            yield _MemoryPage(self._values)

    @contextmanager
    def write(self) -> Generator[Page]:
        with self._lock:
            page = _MemoryPage(dict(self._values))
            yield page
            _count(page)
            self._values = page.values


class _MemoryPage:
    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.values[key] = value

    def delete(self, key: bytes) -> bool:
        return self.values.pop(key, None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(i for i in self.values.items() if i[0] != _GENERATION))


def _count(page: Page) -> None:
    """One change more."""
    before = int.from_bytes(page.get(_GENERATION) or b"", "big")
    page.put(_GENERATION, (before + 1).to_bytes(8, "big"))


@contextmanager
def _faults() -> Generator[None]:
    try:
        yield
    except IndexDamaged as error:
        raise LedgerDamaged(str(error)) from error
    except IndexFault as error:
        raise LedgerFault(str(error)) from error
