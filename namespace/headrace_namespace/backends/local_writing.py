"""Writing files of this machine: whole and at once, so that readers see the old file or the new.

Two writers of headrace's cannot lose each other's update: each locks the file that it replaces
(`flock`), looks again, and renames. Other programs, and `delete` and `rename`, are not stopped
between that look and the rename. A file that replaces another keeps its mode, and its owner where
that is permitted; not its other hard links, nor its extended attributes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress

from headrace_namespace.backends.local_files import (
    KernelErrors,
    await_writes,
    tag_of,
    unsettled_seconds,
    version_of,
)
from headrace_namespace.backends.local_new_file import NewFile, lock, remove_leftovers, unlock
from headrace_namespace.backends.protocol import Expected, There
from headrace_namespace.clock import Clock
from headrace_namespace.errors import (
    AccessRefused,
    AlreadyExists,
    FolderNotEmpty,
    HeadraceError,
    InvalidPath,
    IsFolder,
    NotFolder,
    NotFound,
    StoreMissing,
    StoreTimeout,
    VersionGone,
    WriteConflict,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion

#: The lock is held for the time of a rename; who waits longer waits for another program's.
LOCK_SECONDS = 10.0
LOCK_PAUSE_SECONDS = 0.005
#: A file that is replaced by others so many times while we look is one that is fought over.
PLACE_ROUNDS = 100


class LocalWriter:
    """The write half of a local backend whose folder is `root`. Thread-safe."""

    def __init__(self, root: str, store: str, clock: Clock) -> None:
        self.errors = KernelErrors(root, store)
        self._root = root
        self._store = store
        self._clock = clock

    def new_file(self, ref: ObjectRef, mode: int = 0o666) -> NewFile:
        """A file that is to take the place of `ref`; the folders above it are made."""
        with self.errors.writing(ref.key):
            self._make_above(ref.key)
            if os.path.isdir(ref.key):
                raise IsFolder(f"{ref.key} is a folder", store=self._store)
            return NewFile(ref.key, mode)

    def place(self, new: NewFile, size: int, expected: Expected) -> ObjectVersion:
        """Let a file of `size` bytes take its place, if its condition holds."""
        with self.errors.writing(new.path):
            self._make_above(new.path)  # they may be gone since
            new.make_durable(size)
            for _ in range(PLACE_ROUNDS):
                with self._locked(new.path) as shown:
                    self._check(new.path, shown, expected)
                    new.dress(self._clock.now(), shown)
                    try:
                        if shown is None:
                            new.name_new()
                        else:
                            new.replace()
                    except FileExistsError:
                        continue  # made since we looked
                    # Its name is the last thing that changes it: this is what `stat` will show.
                    return version_of(new.path, os.fstat(new.fd))
        raise StoreTimeout(f"{new.path} was replaced by others all the time", store=self._store)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """Copy in the kernel, or share the blocks where the file system can."""
        with self.opened(source) as fd:
            new = self.new_file(ref, stat.S_IMODE(os.fstat(fd).st_mode) & 0o777)
            try:
                self.begin_with(new, fd, source)
                return self.place(new, source.size, expected)
            finally:
                new.close()

    @contextmanager
    def opened(self, version: ObjectVersion) -> Generator[int]:
        """A descriptor of the file that is this version now. Raises VersionGone."""
        path = version.ref.key
        try:
            with self.errors.reading(path):
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (NotFound, NotFolder) as error:
            if isinstance(error, StoreMissing):
                raise
            raise self._gone(version) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def begin_with(self, new: NewFile, fd: int, base: ObjectVersion) -> None:
        """Begin a new file with the bytes of `base`, whose file is open as `fd`."""
        with self.errors.writing(new.path):
            wait = unsettled_seconds(os.fstat(fd), self._clock.now())
            if wait:
                self._clock.sleep(wait)
            await_writes(fd)
            whole = (
                tag_of(os.fstat(fd)) == base.tag
                and new.copy_from(fd, base.size)
                and tag_of(os.fstat(fd)) == base.tag
            )
        if not whole:
            raise self._gone(base)

    def rename(self, path: str, to: str) -> bool:
        """`os.rename`, in headrace's words; False across file systems."""
        self._refuse_root(path, "renamed")
        self._refuse_root(to, "replaced")
        with self.errors.writing(path):
            source = os.lstat(path)
            self._make_above(to)
            try:
                os.rename(path, to)
            except OSError as error:
                match error.errno:
                    case errno.EXDEV:
                        return False
                    case errno.EINVAL:
                        raise InvalidPath(f"{path} cannot be moved into itself") from error
                    case errno.ENOTEMPTY | errno.EEXIST:
                        raise self._not_empty(to) from error
                    case errno.ENOTDIR if stat.S_ISDIR(source.st_mode):
                        raise NotFolder(f"{to} is a file", store=self._store) from error
                    case errno.EISDIR:
                        raise IsFolder(f"{to} is a folder", store=self._store) from error
                    case _:
                        raise
        return True

    def delete(self, paths: Mapping[str, str]) -> Mapping[str, HeadraceError]:
        """Delete the files at the paths, given by key; what went wrong, by key."""
        wrong: dict[str, HeadraceError] = {}
        for key, path in paths.items():
            try:
                with self.errors.writing(path):
                    _unlink(path)
            except StoreMissing:
                raise
            except (NotFound, NotFolder):
                continue
            except HeadraceError as error:
                wrong[key] = error
        return wrong

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""
        with self.errors.writing(path):
            self._make_above(path)
            try:
                os.mkdir(path)
            except FileExistsError as error:
                raise AlreadyExists(f"{path} exists already", store=self._store) from error

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder, and in it what killed writers left."""
        self._refuse_root(path, "removed")
        with self.errors.writing(path):
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno == errno.ENOTDIR and not os.path.lexists(path):
                    raise NotFound(f"{path} does not exist", store=self._store) from error
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if not remove_leftovers(path):
                    raise self._not_empty(path) from error
                os.rmdir(path)

    def _make_above(self, path: str) -> None:
        # A folder that is not mounted now must not be made anew on the disk below it.
        if path != os.path.realpath(self._root) and not os.path.lexists(self._root):
            raise self.errors.root_missing()
        folder = os.path.dirname(path)
        try:
            os.makedirs(folder, exist_ok=True)
        except FileExistsError as error:
            raise NotFolder(f"{folder} is not a folder", store=self._store) from error

    @contextmanager
    def _locked(self, path: str) -> Generator[os.stat_result | None]:
        """What is at `path`, None for nothing, while no other writer of ours replaces it."""
        waited = 0.0
        while True:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                yield None
                return
            locked = False
            try:
                locked = lock(fd)
                now = _shown(path)
                # The file that has the name may be another by now; then its lock is asked for.
                current = now is not None and os.path.samestat(now, os.fstat(fd))
                if now is not None and not stat.S_ISREG(now.st_mode):
                    raise AccessRefused(f"{path} is no ordinary file", store=self._store)
                if locked and current:
                    yield now
                    return
            finally:
                if locked:
                    unlock(fd)
                os.close(fd)
            if not locked and current:
                if waited >= LOCK_SECONDS:
                    raise StoreTimeout(f"{path} is locked by another program", store=self._store)
                self._clock.sleep(LOCK_PAUSE_SECONDS)
                waited += LOCK_PAUSE_SECONDS

    def _check(self, path: str, shown: os.stat_result | None, expected: Expected) -> None:
        found = None if shown is None else version_of(path, shown)
        conflict: AlreadyExists | WriteConflict
        if expected is There.NOTHING and found is not None:
            conflict = AlreadyExists(f"{path} exists already", store=self._store)
        elif isinstance(expected, ObjectVersion) and (
            found is None or (found.tag, found.size) != (expected.tag, expected.size)
        ):
            conflict = WriteConflict(
                f"{path} was changed or deleted since it was read",
                store=self._store,
                hint="read it again",
            )
        else:
            return
        conflict.found = found
        raise conflict

    def _refuse_root(self, path: str, what: str) -> None:
        if os.path.normpath(path) in (os.path.normpath(self._root), os.path.realpath(self._root)):
            raise AccessRefused(
                f"{path} is the mounted folder itself, which cannot be {what} through its mount",
                store=self._store,
            )

    def _not_empty(self, path: str) -> FolderNotEmpty:
        return FolderNotEmpty(f"the folder {path} is not empty", store=self._store)

    def _gone(self, version: ObjectVersion) -> VersionGone:
        return VersionGone(
            f"{version.ref.key} was changed or deleted since it was opened",
            store=self._store,
            hint="open it again",
        )


def _shown(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except PermissionError:
        # Some systems say so of a folder.
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        raise
