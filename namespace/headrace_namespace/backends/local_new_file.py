"""A file on its way: it has no name until it is whole, so that nobody sees less and a crash leaves
nothing behind.

Where the system has no unnamed files (O_TMPFILE: Linux, and most of its file systems), the file has
a hidden name of its own until then, which listings leave out. A process that is killed leaves that
name; the lock that each such file is held by shows that its writer is gone.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from contextlib import suppress

#: The hidden names; listings leave out exactly these.
_HIDDEN = re.compile(r"\.headrace-[0-9a-f]{16}\.part")

#: What a file system says that has no unnamed files.
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS)
#: What one says that has no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
#: What the kernel says where it cannot copy between these two files.
_NO_COPYING = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
#: As much as is copied by a program where the kernel cannot.
_COPY_BYTES = 1 << 20


def is_hidden(name: str) -> bool:
    """Whether a file of this name is one on its way."""
    return _HIDDEN.fullmatch(name) is not None


class NewFile:
    """A new file in the folder of `path`, with `mode` less the umask. Raises OSError.

    Its bytes may be written from several threads at once; the rest is one thread's.
    """

    def __init__(self, path: str, mode: int = 0o666) -> None:
        self.path = path
        self._folder = os.path.dirname(path)
        self._hidden: str | None = None
        self._lost: OSError | None = None
        self.fd = self._unnamed(mode)
        if self.fd < 0:
            self._hidden = self._hidden_path()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
            self.fd = os.open(self._hidden, flags, mode)
        try:
            lock(self.fd)  # nobody else has it: succeeds at once
        except BaseException:
            self.close()
            raise

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        data = data.cast("B")
        written = 0
        while written < len(data):
            written += os.pwrite(self.fd, data[written:], offset + written)

    def copy_from(self, fd: int, size: int) -> bool:
        """Begin with the first `size` bytes of another file, shared where the file system can;
        False where it ended before."""
        copied = 0
        in_kernel = hasattr(os, "copy_file_range")
        while copied < size:
            if in_kernel:
                try:
                    count = os.copy_file_range(fd, self.fd, size - copied, copied, copied)
                except OSError as error:
                    if error.errno not in _NO_COPYING:
                        raise
                    in_kernel = False
                    continue
            else:
                count = os.pwrite(
                    self.fd, os.pread(fd, min(_COPY_BYTES, size - copied), copied), copied
                )
            if not count:
                return False
            copied += count
        return True

    def make_durable(self, size: int) -> None:
        """Cut it to `size`, and bring its bytes to the disk.

        They are there before the name is: after a loss of power the name leads to the old file or
        to the new one, each whole. Which of them is not forced: that would cost as much again.
        """
        if self._lost is not None:
            raise self._lost
        os.ftruncate(self.fd, size)
        try:
            os.fsync(self.fd)
        except OSError as error:
            # The kernel has dropped what it could not write; asked again, it would say all is well.
            self._lost = error
            raise

    def dress(self, now: float, replaced: os.stat_result | None) -> None:
        """Give it its time, and what it keeps of the file that it replaces.

        The time is the precise clock's: the kernel's own moves in steps of some milliseconds, so a
        later write within the same step would look like ours.
        """
        if replaced is not None:
            self._take_after(replaced)
        nanoseconds = int(now * 1e9)
        os.utime(self.fd, ns=(nanoseconds, nanoseconds))

    def name_new(self) -> None:
        """Give it its name where nothing has it. Raises FileExistsError."""
        try:
            self._link(self.path)
        except OSError as error:
            if error.errno not in _NO_LINKS or self._hidden is None:
                raise
            # A file system without hard links: a short moment lies between look and rename.
            if os.path.lexists(self.path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path) from error
            self._rename()

    def replace(self) -> None:
        """Give it its name instead of the file that has it."""
        if self._hidden is None:
            hidden = self._hidden_path()
            self._link(hidden)
            self._hidden = hidden
        self._rename()

    def close(self) -> None:
        """Let go of it; what has not got its name is gone."""
        if self.fd < 0:
            return
        if self._hidden is not None:
            with suppress(OSError):
                os.unlink(self._hidden)
            self._hidden = None
        unlock(self.fd)
        os.close(self.fd)
        self.fd = -1

    def _unnamed(self, mode: int) -> int:
        """A file without a name, -1 where there is no such thing."""
        flag = getattr(os, "O_TMPFILE", None)
        if flag is None or not os.path.isdir("/proc/self/fd"):
            return -1
        try:
            return os.open(self._folder, flag | os.O_RDWR | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno in _NO_UNNAMED:
                return -1  # a folder that is not there shows itself at the next attempt
            raise

    def _hidden_path(self) -> str:
        return f"{self._folder.rstrip('/')}/.headrace-{secrets.token_hex(8)}.part"

    def _link(self, path: str) -> None:
        if self._hidden is not None:
            os.link(self._hidden, path, follow_symlinks=False)
            os.unlink(self._hidden)
            self._hidden = None
            return
        # A folder's descriptor is asked for so that Python follows the link in /proc; the path is
        # absolute, so that any descriptor will do.
        os.link(f"/proc/self/fd/{self.fd}", path, src_dir_fd=self.fd)

    def _rename(self) -> None:
        assert self._hidden is not None
        os.rename(self._hidden, self.path)
        self._hidden = None

    def _take_after(self, replaced: os.stat_result) -> None:
        own = os.fstat(self.fd)
        mode = replaced.st_mode & 0o7777
        if (own.st_uid, own.st_gid) != (replaced.st_uid, replaced.st_gid):
            try:
                os.fchown(self.fd, replaced.st_uid, replaced.st_gid)
            except OSError:
                # Only root may give a file away. What runs as its owner must not become ours.
                mode &= 0o777
        os.fchmod(self.fd, mode)


def lock(fd: int) -> bool:
    """Take the file's lock; False where another holds it. True, too, where there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF):
            raise
    return True


def unlock(fd: int) -> None:
    """Give the file's lock back. Closing is not enough: a child that was forked meanwhile has the
    same lock by its own copy of the descriptor, and would keep it for as long as it lives."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)


def remove_leftovers(folder: str) -> bool:
    """Remove files on their way whose writers are gone; whether the folder is empty now."""
    for name in os.listdir(folder):
        if not is_hidden(name):
            return False
        path = f"{folder}/{name}"
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if not lock(fd):
                    return False
                try:
                    os.unlink(path)
                finally:
                    unlock(fd)
            finally:
                os.close(fd)
    return True
