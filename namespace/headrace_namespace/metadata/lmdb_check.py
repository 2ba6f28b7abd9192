"""Whether an environment's file is as it was left, asked before LMDB follows anything in it.

LMDB trusts its pages: a bit that a disk flipped can end the process that reads it, and every one
that starts after it. So whoever opens the file while nobody else uses it looks first:

- the last user who lets go of it in order leaves a sum of its bytes in `data.sum`, and whoever is
  the next compares them, and takes the sum away;
- where there is none, because the last user was killed, another process walks through all records,
  and if that one dies, it is not this one;
- what LMDB or a reader finds wrong later leaves a mark, `data.doubt`, which whoever opens the file
  alone next takes at its word.

`check.lock` is held shared by every process that has the file open, and alone while it is looked
at. What a bad disk does to a file in use is not found here.
"""

from __future__ import annotations

import io
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import lmdb
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if sys.platform != "win32":
    import fcntl

SUM_FILE, DOUBT_FILE, LOCK_FILE = "data.sum", "data.doubt", "check.lock"

#: The number of the last transaction, the file's bytes, and the BLAKE2b-128 of the GMACs (NIST SP
#: 800-38D) of its chunks, in order.
_SUM = struct.Struct("<8sQQ16s")
_MAGIC = b"HRSUM\0\0\2"
_CHUNK_BYTES = 1 << 18
#: Every chunk under one key and nonce that everybody knows: against disks, not against people. It
#: takes 0.16 seconds a gigabyte here, where BLAKE2b alone takes 1.4.
_CHUNK_KEY, _CHUNK_NONCE = bytes(16), bytes(12)

#: A larger file is not summed: others would wait too long for it.
MOST_SUMMED_BYTES = 8 << 30

#: How long the walk may take. A file that is not walked through by then is taken as whole: it is
#: large, and most of it was seen.
WALK_SECONDS = 5.0

#: How long summing may take; with the walk less than others wait. A disk that is slower than that
#: is left to the walk.
SUM_SECONDS = 3.0

#: How long to wait for who looks at the file just now. One that is stopped must not stop others.
_LOCK_SECONDS, _POLL_SECONDS = 10.0, 0.01
#: How long to wait for others who start just now, to set a damaged file aside.
_ASIDE_SECONDS = 1.0

#: An environment that nothing was committed to.
_NO_TRANSACTION = 0

#: How the walking process ends where a record is wrong: by this status, which means nothing to any
#: other program, or by one of these signals.
_WRONG = 93
_CRASHES = (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL)

#: Reads all that is there, in a process of its own. Keys must grow, so that it ends on a loop.
_WALK = """
import sys
wrong, folder = int(sys.argv[1]), sys.argv[2]
sys.path[:] = sys.argv[3:]
import lmdb
environment = lmdb.open(folder, readonly=True, lock=False, max_dbs=64)
sys.stdout.write("reading")
sys.stdout.flush()
try:
    with environment.begin() as txn:
        for name in [key for key, _ in txn.cursor()]:
            database, before, seen = environment.open_db(name, txn=txn, create=False), b"", 0
            for key, value in txn.cursor(database):
                assert before < key
                before, seen = key, seen + 1
            assert seen == txn.stat(database)["entries"]
except (AssertionError, lmdb.Error):
    sys.exit(wrong)
"""

#: What not every system has.
_CLOSE_ON_EXEC: int = getattr(os, "O_CLOEXEC", 0)
_NEVER_WAIT: int = getattr(os, "O_NONBLOCK", 0)


class FileCheck:
    """The check of one environment's file, for as long as this process has it open."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the lock file cannot be made."""
        self._folder = folder
        #: Whether nobody else has the file open.
        self.alone = False
        self._waits_until = time.monotonic() + _LOCK_SECONDS
        self._descriptor = os.open(
            folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | _CLOSE_ON_EXEC, 0o600
        )
        try:
            if not self._lock(alone=True):
                self.share()
        except BaseException:
            self.close()
            raise

    def fault(self, environment: lmdb.Environment) -> str | None:
        """What is wrong with the file, which the environment has open and did not read yet; None
        where nothing is known to be, or others use it and looked already."""
        if (self._folder / DOUBT_FILE).exists():
            return "it was found damaged in use"
        if not self.alone:
            return None
        last = int(environment.info()["last_txnid"])
        left = self._left()
        if last == _NO_TRANSACTION:
            return None if left is None else "it is gone"
        now = self._summed(last) if left is not None and left[0] == last else None
        if now is not None:
            if left != now:
                return "its bytes changed while nobody used it"
        else:
            whole = _walks(self._folder)
            if whole is None and self._lacks(environment):
                return "it was cut short"
            if whole is False:
                return "it cannot be read through"
        self._complete(environment)
        return None

    def _lacks(self, environment: lmdb.Environment) -> int:
        """By how many bytes the file is shorter than its pages are."""
        pages = int(environment.info()["last_pgno"]) + 1
        page_bytes = int(environment.stat()["psize"])
        return max(0, pages * page_bytes - (self._folder / "data.mdb").stat().st_size)

    def _complete(self, environment: lmdb.Environment) -> None:
        """LMDB does not write pages that were taken and freed within one transaction, so that a
        whole file may end before the last of them; what touches one would be killed by a SIGBUS."""
        if self._lacks(environment):
            with (self._folder / "data.mdb").open("r+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.truncate(size + self._lacks(environment))

    def share(self) -> None:
        """Let others use the file too; nothing was written to it before. Raises OSError.

        Where somebody looks at the file for too long, go on without the lock: at worst what is
        written then is taken for damage.
        """
        if self.alone:
            self._take_sum_away()
        while not self._lock(alone=False) and time.monotonic() < self._waits_until:
            time.sleep(_POLL_SECONDS)
        # Who looked just now may have been the last user, and have left another.
        self._take_sum_away()

    def doubt(self) -> None:
        """Leave the mark: something in the file is wrong."""
        with suppress(OSError):
            (self._folder / DOUBT_FILE).touch(mode=0o600)

    def settle(self, environment: lmdb.Environment) -> None:
        """Leave the sum, where this is the last user; nobody in this process uses it any more.

        Others wait meanwhile. What fails costs the next user a walk.
        """
        if not self._lock(alone=True):
            return
        with suppress(OSError, lmdb.Error):
            last = int(environment.info()["last_txnid"])
            if last == _NO_TRANSACTION:
                return
            # After a power cut a sum must not stand beside bytes that never reached the disk.
            environment.sync(True)
            whole = self._summed(last)
            if whole is not None:
                draft = self._folder / f"{SUM_FILE}.new"
                draft.unlink(missing_ok=True)  # a pipe in its place would wait for ever
                draft.write_bytes(_SUM.pack(_MAGIC, *whole))
                draft.replace(self._folder / SUM_FILE)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)

    def _lock(self, *, alone: bool) -> bool:
        self.alone = False
        if sys.platform == "win32":
            return True
        try:
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no such locks on this file system: never alone, and nothing to wait for
            return not alone
        self.alone = alone
        return True

    def _take_sum_away(self) -> None:
        """For good, also over a power cut: who is killed while it writes leaves other bytes in free
        pages, which are no damage."""
        try:
            (self._folder / SUM_FILE).unlink()
        except (FileNotFoundError, IsADirectoryError):
            return
        if sys.platform == "win32":
            return  # folders cannot be synced there
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _left(self) -> tuple[int, int, bytes] | None:
        """The sum that is there, if any can be read."""
        try:
            # Opening a pipe in its place would wait for ever.
            descriptor = os.open(
                self._folder / SUM_FILE, os.O_RDONLY | _CLOSE_ON_EXEC | _NEVER_WAIT
            )
            try:
                magic, *left = _SUM.unpack(os.read(descriptor, _SUM.size + 1))
            finally:
                os.close(descriptor)
        except (OSError, struct.error):
            return None
        return (left[0], left[1], left[2]) if magic == _MAGIC else None

    def _summed(self, last: int) -> tuple[int, int, bytes] | None:
        """The sum of now; None for a file that is too large, or a disk that is too slow."""
        stop = time.monotonic() + SUM_SECONDS
        hasher, seen, room = blake2b(digest_size=16), 0, memoryview(bytearray(_CHUNK_BYTES))
        chunk_sum = AESGCM(_CHUNK_KEY)
        with (self._folder / "data.mdb").open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > MOST_SUMMED_BYTES:
                return None
            while count := _filled(file, room):
                hasher.update(chunk_sum.encrypt(_CHUNK_NONCE, b"", room[:count]))
                seen += count
                if time.monotonic() > stop:
                    return None
        return last, seen, hasher.digest()


def _filled(file: io.RawIOBase, room: memoryview) -> int:
    """Read until `room` is full, or the file ends: a read may give less, and where a chunk ends
    must not depend on that."""
    filled = 0
    while filled < len(room) and (count := file.readinto(room[filled:])):
        filled += count
    return filled


def in_their_place(folder: Path) -> str | None:
    """What stands where an environment's files should be: opening a pipe would wait for ever. A
    folder is somebody's, and is refused by the system."""
    for name in ("data.mdb", "lock.mdb"):
        with suppress(FileNotFoundError):
            mode = (folder / name).stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return f"{name} is no file"
    return None


def forget_file(folder: Path) -> None:
    """Remove an environment's file and what was left about it; nobody uses it. Raises OSError."""
    # The file after its sum, which would speak of another one, and before what tells of its damage.
    for name in (SUM_FILE, "data.mdb", "lock.mdb", DOUBT_FILE):
        (folder / name).unlink(missing_ok=True)


def set_aside(folder: Path) -> bool:
    """Give a damaged file another name, `data.mdb.damaged`, so that a new one is made in its place;
    False where others have it open. Raises OSError."""
    stop = time.monotonic() + _ASIDE_SECONDS
    while not (gone := _set_aside(folder)) and time.monotonic() < stop:
        time.sleep(_POLL_SECONDS)  # others who start find the damage too, and let go again
    return gone


def _set_aside(folder: Path) -> bool:
    check = FileCheck(folder)
    try:
        if check.alone:
            with suppress(FileNotFoundError):
                (folder / "data.mdb").replace(folder / "data.mdb.damaged")
            forget_file(folder)
        return check.alone
    finally:
        check.close()


def _walks(folder: Path) -> bool | None:
    """Whether all records can be read; None where that cannot be found out."""
    program = Path(sys.executable or "").name
    if getattr(sys, "frozen", False) or not program.startswith(("python", "pypy")):
        return None  # it is another program, which has Python within it
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _WALK,
        f"{_WRONG}",
        str(folder),
        *map(str, sys.path),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WALK_SECONDS,
            close_fds=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return True
    # It may also have failed before it read anything: that says nothing of the file.
    broken = done.returncode == _WRONG or (done.stdout and done.returncode in _CRASHES)
    return False if broken else None
