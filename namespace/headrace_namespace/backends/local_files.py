"""What a file of this machine shows of itself: its version, and what the kernel's errors mean."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from headrace_namespace.errors import (
    AccessRefused,
    HeadraceError,
    IsFolder,
    NameTooLong,
    NotFolder,
    NotFound,
    ReadOnly,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion

STORE = "file://"

#: The kernel's file times move with its tick, 10 ms at the slowest (CONFIG_HZ=100); twice that.
GRAIN_SECONDS = 0.020


def tag_of(shown: os.stat_result) -> str:
    """What the kernel shows of a change: inode, size, modification and change time."""
    return f"{shown.st_ino}-{shown.st_size}-{shown.st_mtime_ns}-{shown.st_ctime_ns}"


def looks_of(tag: str) -> tuple[int, int, int, int]:
    """What `still_looks` compares a file of this tag with. Raises ValueError for another's."""
    inode, size, mtime, ctime = map(int, tag.split("-"))
    return inode, size, mtime, ctime


def still_looks(path: str, looks: tuple[int, int, int, int]) -> bool:
    """Whether the file looks so still; in one call, and with nothing made that can be spared."""
    try:
        shown = os.lstat(path)
    except (OSError, ValueError):
        return False
    inode, size, mtime, ctime = looks
    return (
        shown.st_mtime_ns == mtime
        and shown.st_ctime_ns == ctime
        and shown.st_ino == inode
        and shown.st_size == size
    )


def version_of(path: str, shown: os.stat_result) -> ObjectVersion:
    """The version of the file at the real path `path`."""
    return ObjectVersion(
        ObjectRef(STORE, path),
        tag_of(shown),
        shown.st_size,
        strong=False,
        mtime=shown.st_mtime_ns / 1e9,
    )


def unsettled_seconds(shown: os.stat_result, now: float) -> float:
    """How long until a further change must show; 0 where it must already."""
    age = now - shown.st_ctime_ns / 1e9
    # A time far in the future is another clock's: a change now would show as going back.
    return GRAIN_SECONDS - age if -GRAIN_SECONDS < age < GRAIN_SECONDS else 0.0


def await_writes(file: int) -> None:
    """Return when every write that the kernel had begun on this open file is done.

    A file's times are set as a write begins: a long one (seconds, on a busy machine) may be half
    done when they are old already. To look for data a file system takes the lock that a write holds
    to its end (ext4, tmpfs, btrfs; XFS takes it for every read).
    """
    with suppress(OSError):  # an empty file has none, and some file systems cannot look
        os.lseek(file, 0, os.SEEK_DATA)


class KernelErrors:
    """Says in headrace's words what the kernel says below the mounted folder `root`."""

    def __init__(self, root: str, store: str) -> None:
        self._root = root
        self._store = store

    @contextmanager
    def reading(self, path: str) -> Generator[None]:
        """Translate what goes wrong while `path` is read."""
        try:
            yield
        except HeadraceError:
            raise
        except OSError as error:
            raise self._translated(path, error, self._not_readable) from error

    @contextmanager
    def writing(self, path: str) -> Generator[None]:
        """Translate what goes wrong while `path` is written."""
        try:
            yield
        except HeadraceError:
            raise
        except OSError as error:
            raise self._translated(path, error, self.not_writable) from error

    def root_missing(self) -> StoreMissing:
        """The mounted folder is not there."""
        return StoreMissing(
            f"the mounted folder {self._root} does not exist",
            store=self._store,
            hint="create it, or mend the mount's url",
        )

    def not_writable(self, path: str) -> AccessRefused:
        """The user may not write at `path`."""
        return AccessRefused(
            f"{path} may not be written by this user",
            store=self._store,
            hint="the file, where there is one, and the folder need write permission",
        )

    def _not_readable(self, path: str) -> AccessRefused:
        return AccessRefused(
            f"{path} may not be read by this user",
            store=self._store,
            hint="it needs read permission, and every folder above it execute permission",
        )

    def _translated(
        self, path: str, error: OSError, refused: Callable[[str], AccessRefused]
    ) -> HeadraceError:
        store = self._store
        match error.errno:
            case errno.ENOENT:
                if not os.path.lexists(self._root):
                    return self.root_missing()
                return NotFound(f"{path} does not exist", store=store)
            case errno.ENOTDIR:
                return NotFolder(f"{path} is not a folder", store=store)
            case errno.EISDIR:
                return IsFolder(f"{path} is a folder", store=store)
            case errno.ELOOP:
                return NotFound(f"{path} leads through symbolic links in a circle", store=store)
            case errno.EACCES | errno.EPERM:
                return refused(path)
            case errno.EROFS:
                return ReadOnly(
                    f"{path} lies on a file system that is mounted read-only", store=store
                )
            case errno.ENOSPC | errno.EDQUOT:
                return StoreFull(
                    f"there is no room for {path}: {error.strerror}",
                    store=store,
                    hint="free some space, or raise the quota",
                )
            case errno.EFBIG:
                return StoreFull(
                    f"{path} would be larger than this file system or process may make it",
                    store=store,
                )
            case errno.ENAMETOOLONG:
                return NameTooLong(f"{path} is longer than the file system allows", store=store)
            case _:
                return StoreUnavailable(f"{path}: {error.strerror}", store=store)
