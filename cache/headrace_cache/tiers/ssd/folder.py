"""The SSD tier's folder: who uses it, whether what lies there is ours, and starting it anew.

    folder/opening.lock    held while a process opens the folder
    folder/users.lock      held shared by every tier that uses the folder
    folder/index/          the LMDB environment (`records.py`; checked by `lmdb_check.py`)
    folder/pages/          the segment files (`segments.py`)

A folder is started anew, never repaired, and only by a process that can lock `users.lock` alone.
`opening.lock` is what makes the change from alone to shared safe: a lock cannot be exchanged for
another in one step.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from headrace_cache.tiers.ssd.ages import Ages
from headrace_cache.tiers.ssd.file_lock import try_lock
from headrace_cache.tiers.ssd.index import SsdIndex
from headrace_cache.tiers.ssd.key_swap import KeyFile
from headrace_cache.tiers.ssd.keyring import Keyring
from headrace_cache.tiers.ssd.limits import Limits
from headrace_cache.tiers.ssd.pins import Pins
from headrace_cache.tiers.ssd.records import KeyRecord, pack_format
from headrace_cache.tiers.ssd.sealing import KeyWrap, ObjectIds, new_data_key
from headrace_cache.tiers.ssd.segments import SegmentFiles, SegmentReader
from headrace_cache.tiers.ssd.space import Space
from headrace_cache.tiers.ssd.tables import Tables, Transaction
from headrace_namespace.clock import Clock
from headrace_namespace.metadata.lmdb_check import forget_file
from headrace_namespace.metadata.lmdb_env import (
    IndexDamaged,
    SharedEnvironment,
    acquire,
    release,
)

_log = logging.getLogger(__name__)

#: Opening takes milliseconds, after a crash with thousands of segments perhaps a second. Ten
#: seconds mean that its holder is stopped; the tier is then off rather than stuck with it.
_OPENING_WAIT_SECONDS = 10.0
_OPENING_POLL_SECONDS = 0.01

#: What wrapping the identity key binds it to.
IDENTITY_PURPOSE = b"headrace identity key"

#: The first key-encryption key of a folder; a rotation counts on.
_FIRST_KEY_NUMBER = 1


class FolderUnusable(Exception):
    """The folder cannot be used by this process now; the message says why."""


@dataclass(slots=True)
class OpenFolder:
    """A folder in use, and the rooms that work in it."""

    path: Path
    clock: Clock
    environment: SharedEnvironment
    tables: Tables
    limits: Limits
    space: Space
    index: SsdIndex
    reader: SegmentReader
    ids: ObjectIds
    ages: Ages
    pins: Pins
    key_file: KeyFile
    keyring: Keyring
    users_lock: int

    def close(self) -> None:
        """Let go of all files; nobody may be using them."""
        self.reader.close()
        release(self.environment)
        os.close(self.users_lock)

    def abandon_in_child(self) -> None:
        """Close what a fork inherited. The environment drops itself in the child; the parent's
        lock is on the open file that it still holds."""
        self.reader.abandon_in_child()
        os.close(self.users_lock)


class _Stranger(Exception):
    """What lies in the folder is not ours to read; the message says why."""


class _OtherKey(_Stranger):
    """It was sealed under a key that we do not have."""


def open_folder(folder: Path, limits: Limits, key_file: KeyFile, clock: Clock) -> OpenFolder:
    """Use the folder, made where it is missing and started anew where it cannot be read.

    Raises FolderUnusable, IndexFault, OSError, and ConfigError for the key file.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with opening_lock(folder, clock):
        users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            alone = try_lock(users, exclusive=True)
            opened = _open_or_start_anew(folder, limits, key_file, clock, users, alone=alone)
            if not try_lock(users, exclusive=False):
                opened.reader.close()
                release(opened.environment)
                raise FolderUnusable(f"the cache folder {folder} is locked by another program")
            return opened
        except BaseException:
            os.close(users)
            raise


@contextmanager
def opening_lock(folder: Path, clock: Clock) -> Generator[None]:
    """Nobody else opens the folder or changes its key meanwhile. Raises FolderUnusable, OSError."""
    opening = os.open(folder / "opening.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(opening, folder, clock)
        yield
    finally:
        os.close(opening)


def _wait_for(opening: int, folder: Path, clock: Clock) -> None:
    stop = clock.monotonic() + _OPENING_WAIT_SECONDS
    while not try_lock(opening, exclusive=True):
        if clock.monotonic() > stop:
            raise FolderUnusable(
                f"another process has been opening the cache folder {folder} "
                f"for {_OPENING_WAIT_SECONDS:.0f} seconds"
            )
        clock.sleep(_OPENING_POLL_SECONDS)


def _open_or_start_anew(
    folder: Path, limits: Limits, key_file: KeyFile, clock: Clock, users: int, *, alone: bool
) -> OpenFolder:
    known_key = True
    try:
        return _open(folder, limits, key_file, clock, users, alone=alone)
    except (_Stranger, IndexDamaged, struct.error) as error:
        if not alone:
            raise FolderUnusable(
                f"the cache folder {folder} is in use by another process, and {error}"
            ) from error
        _log.warning("the cache folder %s starts empty: %s", folder, error)
        known_key = not isinstance(error, _OtherKey)
    _clear(folder)
    if known_key:
        # What was cleared away lies on the disk for a while, and no purge would find it any more.
        # A key file that cannot be written is said at the first purge.
        with suppress(OSError):
            key_file.overwrite(new_data_key())
    return _open(folder, limits, key_file, clock, users, alone=True)


def _open(
    folder: Path, limits: Limits, key_file: KeyFile, clock: Clock, users: int, *, alone: bool
) -> OpenFolder:
    files = SegmentFiles(folder / "pages")
    data = folder / "index" / "data.mdb"
    index_bytes = data.stat().st_size if data.exists() else 0
    if index_bytes > limits.index_bytes:
        raise _Stranger("its index is larger than the limit allows")
    if not index_bytes and files.listed():
        raise IndexDamaged("its index is gone")
    environment = acquire(folder / "index", limits.index_bytes)
    try:
        tables = Tables(environment)
        space = Space(tables, files, limits)
        key = settled_key(tables, key_file)
        with environment.write() as txn:
            record, identity_key = _identified(tables, txn, key)
            space.settle(txn)
    except BaseException:
        release(environment)
        raise
    keyring = Keyring(tables, key_file, clock, record, key)
    return OpenFolder(
        path=folder,
        clock=clock,
        environment=environment,
        tables=tables,
        limits=limits,
        space=space,
        index=SsdIndex(tables, keyring, space, limits),
        reader=SegmentReader(files),
        ids=ObjectIds(identity_key),
        ages=Ages(tables, space),
        pins=Pins(tables, limits),
        key_file=key_file,
        keyring=keyring,
        users_lock=users,
    )


def settled_key(tables: Tables, key_file: KeyFile) -> bytes:
    """The key-encryption key; a change of it that a crash broke off is completed, or undone where
    the index does not know of it."""
    key = key_file.load_or_make()
    with tables.environment.read() as txn:
        found, record = tables.format(txn), tables.key(txn)
    if found == pack_format() and record is not None:
        for candidate in key_file.candidates():
            if candidate != key and KeyWrap(candidate).fingerprint == record.fingerprint:
                # A power cut must not take back what the old key's end depends on.
                tables.environment.sync()
                key_file.overwrite(candidate)
                key = candidate
    key_file.wipe_next()
    return key


def _identified(tables: Tables, txn: Transaction, key: bytes) -> tuple[KeyRecord, bytes]:
    """The folder's key record and identity key; both made in a new folder."""
    wrap = KeyWrap(key)
    found = tables.format(txn)
    record = tables.key(txn) if found in (None, pack_format()) else None
    if found is None and record is None:
        identity_key = new_data_key()
        wrapped = wrap.wrap(identity_key, IDENTITY_PURPOSE)
        record = KeyRecord(_FIRST_KEY_NUMBER, wrap.fingerprint, wrapped)
        tables.put_format(txn)
        tables.put_key(txn, record)
        return record, identity_key
    if found != pack_format():
        raise _Stranger("it was written by another version of headrace")
    if record is None or record.fingerprint != wrap.fingerprint:
        raise _OtherKey("it was sealed under another key than that of the key file")
    known_key = wrap.unwrap(record.wrapped_identity_key, IDENTITY_PURPOSE)
    if known_key is None:
        raise IndexDamaged("its identity key does not open")
    return record, known_key


def _clear(folder: Path) -> None:
    """Remove the index and the segments, and nothing that is not ours."""
    forget_file(folder / "index")
    files = SegmentFiles(folder / "pages")
    for segment in files.listed():
        files.remove(segment)
