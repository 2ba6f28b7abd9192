"""The socket file that one node listens at, and the lock beside it by which it is the only one.

Whether a socket's node lives can be asked by connecting; but two nodes that start at once may both
find a dead one, and the slower would take the socket away from the faster. So who binds it, or
removes it, holds a lock on a file beside it, which the system gives back when its holder dies. That
file stays: if it were removed, two could each lock one of the same name.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path

from headrace_cache.wire.channel import connected, short_name

if sys.platform != "win32":
    import fcntl

#: How long a node of an older release, which holds no lock, may take to take a connection.
ASKED_SECONDS = 1.0


#: What an address of a Unix socket holds, its zero at the end included: unix(7).
ADDRESS_BYTES = 108


class NotOurs(FileExistsError):
    """Something else has the socket's name."""


class OwnSocket:
    """A socket that listens at its file, which is this node's alone until `let_go`."""

    def __init__(self, path: Path, backlog: int, *, everybody: bool) -> None:
        """For this user alone or for `everybody` who may look into its folder, in place of one that
        nobody listens at. Raises OSError, FileExistsError where somebody does, NotOurs where
        something else is there."""
        self._path = path
        _require_room(path)
        self._lock = _locked(path)
        try:
            _clear(path)
            self.listener = _bound(path, everybody=everybody)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self.listener.listen(backlog)
            self._file = _identity(path)
        except BaseException:
            self.listener.close()
            os.close(self._lock)
            raise

    def let_go(self) -> None:
        """Remove the file, unless somebody has put another in its place; the next node may begin.
        The listener is its user's to close."""
        lock, self._lock = self._lock, -1
        if lock < 0:
            return
        with suppress(OSError):
            if _identity(self._path) == self._file:
                self._path.unlink()
        os.close(lock)


def _identity(path: Path) -> tuple[int, int]:
    shown = os.lstat(path)
    return shown.st_dev, shown.st_ino


def _locked(path: Path) -> int:
    """A descriptor that holds the lock. Raises OSError, FileExistsError where another has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FileExistsError(f"a node is running already: {path}") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_room(path: Path) -> None:
    """Looked at before the lock is made, which would stay beside what is not ours. Raises
    NotOurs where something else is there, and OSError for a name that is too long."""
    with short_name(path) as name:
        room = ADDRESS_BYTES - 1 - len(os.fsencode(name))
        if room < 0:
            most = len(os.fsencode(path.name)) + room
            said = f"the file's own name is too long: it may have {most} bytes"
            raise OSError(errno.ENAMETOOLONG, said)
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise NotOurs(f"{path} is no socket: it is not the node's to remove")


def _clear(path: Path) -> None:
    """Remove the socket of a node that was killed. Raises FileExistsError where one lives."""
    _require_room(path)
    if not path.exists():
        return
    try:
        connected(path, ASKED_SECONDS).close()
    except (ConnectionRefusedError, FileNotFoundError):
        path.unlink(missing_ok=True)
    except OSError as error:  # it has more to do than it can, or was stopped
        raise FileExistsError(f"a node is there already: {path} ({error})") from error
    else:
        raise FileExistsError(f"a node is running already: {path}")


def _bound(path: Path, *, everybody: bool) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    before = os.umask(0o111 if everybody else 0o177)
    try:
        with short_name(path) as name:
            made.bind(name)
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(before)
    return made
