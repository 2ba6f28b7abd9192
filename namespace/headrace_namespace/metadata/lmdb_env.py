"""The one place in a process that opens LMDB environments.

LMDB's locks belong to a process and a file, so the same environment must never be opened twice in
one process; two services that share a folder must share the environment too. That is why this room
keeps a table at module level, the one exception to "no globals": the thing it counts, the open
environments of this process, exists once per process whether we like it or not. An environment must
not be used across a fork either, so the table empties itself in the child.

Commits leave out one of their two fsyncs (`metasync=False`): the data pages are synced before the
meta page that names them is written, so a power cut loses at most the last transaction and never
leaves a torn index. `sync=False` would be faster and is not used: without it the disk may reorder
the two writes, and the index could come back damaged. `writemap` is not used either: with it a full
disk is a SIGBUS instead of an error.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from headrace_namespace.metadata.lmdb_check import FileCheck, in_their_place

#: Threads of all processes that may read at once; each slot is 64 bytes of the lock file, which is
#: then 64 KiB. 126, LMDB's own choice, is too few for a machine with 64 workers of several threads.
MAX_READERS = 1022

#: Named databases in one environment; a few more than any room of ours uses.
MAX_DATABASES = 12

#: What LMDB's lock file takes on disk with `MAX_READERS`, for those who keep a hard bound.
LOCK_FILE_BYTES = (MAX_READERS + 2) * 64

#: How long to wait for this process's own transactions before taking over a map that another
#: process has grown. Transactions here take milliseconds; ten seconds means that one is stuck.
RESIZE_WAIT_SECONDS = 10.0

#: How long a fork waits for this process's own transactions to end (see `_before_fork`).
FORK_WAIT_SECONDS = 10.0

#: A map has at least this many bytes, below which LMDB cannot hold a handful of databases.
LEAST_MAP_BYTES = 1 << 20


class IndexFault(Exception):
    """The environment could not do it: disk error, full disk, too many readers, or gone."""


class IndexFull(IndexFault):
    """The environment's map has no room for what was to be written; nothing was."""


class IndexDamaged(IndexFault):
    """The file is not an LMDB environment, or it is found broken; whoever opens it alone next is
    told at once (`lmdb_check.py`)."""


_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.BadDbiError,
    lmdb.BadTxnError,  # its first error: an inner page was wrong
    lmdb.PageFullError,
    lmdb.CursorFullError,
    struct.error,
)


def _translated(error: Exception, path: Path) -> IndexFault:
    if isinstance(error, lmdb.MapFullError):
        return IndexFull(f"the index {path} is full")
    if isinstance(error, _DAMAGE):
        return IndexDamaged(f"the index {path} is damaged: {error}")
    return IndexFault(f"the index {path} cannot be used: {error}")


class SharedEnvironment:
    """One open environment; made by `acquire` and given back by `release`, never closed otherwise.

    Safe to use from many threads. After a fork the child's copy refuses every transaction with
    IndexFault; acquire it anew there.
    """

    def __init__(
        self, path: Path, key: str, environment: lmdb.Environment, check: FileCheck
    ) -> None:
        self.path = path
        self.key = key
        self.holders = 1
        self._check = check
        self._environment: lmdb.Environment | None = environment
        self._databases: dict[str, Any] = {}
        #: Threads that are within LMDB, and how deep.
        self._inside: dict[int, int] = {}
        self._resizing = False
        self._forking = False
        self._gate = threading.Condition()

    @contextmanager
    def read(self) -> Generator[lmdb.Transaction[bytes]]:
        """A read transaction. Raises IndexFault and its kinds in place of LMDB's own errors, and
        IndexDamaged for a record within it that `struct` cannot take apart."""
        with self._transaction(write=False) as transaction:
            yield transaction

    @contextmanager
    def write(self) -> Generator[lmdb.Transaction[bytes]]:
        """A write transaction: one at a time over all processes; commits unless it raises."""
        with self._transaction(write=True) as transaction:
            yield transaction

    def database(self, name: str) -> Any:
        """The handle of the named database, made where it is missing; not within a transaction."""
        known = self._databases.get(name)
        if known is None:
            with self.write() as transaction:
                assert self._environment is not None
                known = self._environment.open_db(name.encode(), txn=transaction)
            self._databases[name] = known
        return known

    def map_bytes(self) -> int:
        """The most bytes that the environment's file may grow to."""
        with self._use() as environment:
            return int(environment.info()["map_size"])

    def clear_dead_readers(self) -> int:
        """Free the reader slots of killed processes, which would keep old pages alive; how many."""
        with self._use() as environment:
            return int(environment.reader_check())

    def sync(self) -> None:
        """Return when the last commit too is on the disk, which commits do not wait for. Raises
        IndexFault."""
        with self._use() as environment:
            environment.sync(True)

    def _opened(self) -> lmdb.Environment:
        environment = self._environment
        if environment is None:
            raise IndexFault(f"the index {self.path} was closed, or belongs to a parent process")
        return environment

    @contextmanager
    def _transaction(self, *, write: bool) -> Generator[lmdb.Transaction[bytes]]:
        with self._use() as environment, self._begin(environment, write=write) as transaction:
            yield transaction

    @contextmanager
    def _use(self) -> Generator[lmdb.Environment]:
        """The environment, in use: it is neither resized nor forked meanwhile."""
        self._enter()
        try:
            yield self._opened()
        except (lmdb.Error, struct.error) as error:
            fault = _translated(error, self.path)
            if isinstance(fault, IndexDamaged):
                self._check.doubt()
            raise fault from error
        finally:
            self._leave()

    def _begin(self, environment: lmdb.Environment, *, write: bool) -> lmdb.Transaction[bytes]:
        try:
            return environment.begin(write=write)
        except lmdb.MapResizedError:
            self._adopt_size(environment)
        except lmdb.ReadersFullError:
            environment.reader_check()
        return environment.begin(write=write)

    def _enter(self) -> None:
        me = threading.get_ident()
        with self._gate:
            # Who is inside already may go deeper, or those who wait for it would wait for ever.
            free = self._gate.wait_for(
                lambda: me in self._inside or not (self._resizing or self._forking),
                RESIZE_WAIT_SECONDS,
            )
            if not free:
                raise IndexFault(f"the index {self.path} is stuck while its map grows")
            self._inside[me] = self._inside.get(me, 0) + 1

    def _leave(self) -> None:
        me = threading.get_ident()
        with self._gate:
            depth = self._inside.pop(me, 1) - 1
            if depth:
                self._inside[me] = depth
            if self._resizing or self._forking:
                self._gate.notify_all()

    def threads_inside(self) -> frozenset[int]:
        """The threads of this process that have a transaction, or wait for one."""
        with self._gate:
            return frozenset(self._inside)

    def _others_are_out(self) -> bool:
        return not self._inside.keys() - {threading.get_ident()}

    def _adopt_size(self, environment: lmdb.Environment) -> None:
        """Follow a map that another process has grown; needs every other transaction to end."""
        with self._gate:
            if self._resizing:  # another thread is at it, and waits for us to step aside
                depth = self._inside.pop(threading.get_ident())
                self._gate.notify_all()
                done = self._gate.wait_for(lambda: not self._resizing, RESIZE_WAIT_SECONDS)
                self._inside[threading.get_ident()] = depth
                if not done:
                    raise IndexFault(f"the index {self.path} is stuck while its map grows")
                return
            self._resizing = True
            try:
                if not self._gate.wait_for(self._others_are_out, RESIZE_WAIT_SECONDS):
                    raise IndexFault(f"the index {self.path} is stuck while its map grows")
                environment.set_mapsize(0)
            finally:
                self._resizing = False
                self._gate.notify_all()

    def close(self) -> None:
        """Close it, whoever holds it; for `release` alone."""
        environment, self._environment = self._environment, None
        self._databases.clear()
        try:
            if environment is not None:
                self._check.settle(environment)
        finally:
            self._let_go(environment)

    def _let_go(self, environment: lmdb.Environment | None) -> None:
        if environment is not None:
            environment.close()
        self._check.close()

    def pause_for_fork(self) -> None:
        """Let no transaction begin, and wait until no other thread has one; for this module
        alone."""
        with self._gate:
            self._forking = True
            self._gate.wait_for(self._others_are_out, FORK_WAIT_SECONDS)

    def resume_after_fork(self) -> None:
        """Let transactions begin again, in the parent; for this module alone."""
        with self._gate:
            self._forking = False
            self._gate.notify_all()

    def drop_in_child(self) -> None:
        """Close the child's copy after a fork; for this module alone."""
        # Fresh lock first: a thread of the parent may have held the old one at the fork.
        self._gate = threading.Condition()
        self._forking = self._resizing = False
        if not self._others_are_out():
            # A transaction of a thread that is no more: LMDB's own locks are taken for ever, and
            # closing would wait for them. Leave it; the child finds its tier off.
            _abandoned.append(self._environment)
            self._environment = None
        environment, self._environment = self._environment, None
        self._databases.clear()
        self._let_go(environment)  # the lock on the file stays with the parent


_table: dict[str, SharedEnvironment] = {}
_table_lock = threading.Lock()
#: Environments that a child must neither use nor close.
_abandoned: list[lmdb.Environment | None] = []


def acquire(path: Path, map_bytes: int) -> SharedEnvironment:
    """The environment in the folder `path`, opened once per process; give it back by `release`.

    The folder and the file are made where missing, for this user only. `map_bytes` is the most the
    file may grow to; where the environment is open already, its first opener's number holds.
    Raises IndexFault, IndexDamaged, and OSError for the folder.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = os.path.realpath(path)
    with _table_lock:
        shared = _table.get(key)
        if shared is not None:
            shared.holders += 1
            return shared
        stranger = in_their_place(path)
        if stranger is not None:
            raise IndexDamaged(f"the index {path} is damaged: {stranger}")
        _reserve_lock_file(path)
        check = FileCheck(path)
        try:
            environment = _opened(path, map_bytes, check)
        except BaseException:
            check.close()
            raise
        shared = _table[key] = SharedEnvironment(path, key, environment, check)
        return shared


def _opened(path: Path, map_bytes: int, check: FileCheck) -> lmdb.Environment:
    """The environment, looked at. Raises IndexFault and its kinds, OSError."""
    try:
        environment = lmdb.open(
            str(path),
            map_size=max(map_bytes, LEAST_MAP_BYTES),
            max_dbs=MAX_DATABASES,
            max_readers=MAX_READERS,
            metasync=False,
            mode=0o600,
            # Look-ups are random; reading around them would fill memory with what nobody asked.
            readahead=False,
        )
    except lmdb.Error as error:
        raise _translated(error, path) from error
    try:
        environment.reader_check()
        wrong = check.fault(environment)
        if wrong is not None:
            check.doubt()  # for who starts just now, and is not alone
            raise IndexDamaged(f"the index {path} is damaged: {wrong}")
        check.share()
    except BaseException as error:
        environment.close()
        if isinstance(error, lmdb.Error):
            raise _translated(error, path) from error
        raise
    return environment


def _reserve_lock_file(path: Path) -> None:
    """Take the lock file's room on the disk before LMDB maps it: in a hole, a full disk would be a
    SIGBUS instead of an error (seen on a full tmpfs). Raises OSError."""
    if not hasattr(os, "posix_fallocate"):
        return
    # Closing it drops no lock of ours: in this process the environment is not open.
    descriptor = os.open(path / "lock.mdb", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, LOCK_FILE_BYTES)
    finally:
        os.close(descriptor)


def release(shared: SharedEnvironment) -> None:
    """Give an environment back; the last holder's release closes it. Ends no transaction."""
    with _table_lock:
        if _table.get(shared.key) is not shared:
            return  # inherited through a fork and dropped already
        shared.holders -= 1
        if shared.holders == 0:
            del _table[shared.key]
            shared.close()


def _before_fork() -> None:
    """Wait until no thread is within LMDB.

    A thread that is would leave LMDB's own locks taken in the child, where it does not exist: the
    child's `close` would then wait for ever (seen in a pool of forked workers).
    """
    _table_lock.acquire()
    for shared in _table.values():
        shared.pause_for_fork()


def _after_fork_in_parent() -> None:
    for shared in _table.values():
        shared.resume_after_fork()
    _table_lock.release()


def _after_fork_in_child() -> None:
    """Close what the parent had open; the parent is not disturbed."""
    global _table_lock
    _table_lock = threading.Lock()
    for shared in _table.values():
        shared.drop_in_child()
    _table.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
