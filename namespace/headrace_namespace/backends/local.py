"""Folders of this machine: `file:///x`, or a plain path relative to the configuration's folder.

A file's version is what the kernel shows of a change: inode, size, modification and change time.
Those times move in steps; a write within the same step as the last shows nothing. So bytes are read
only of files whose last change is older than a step: then the same times mean the same bytes.
"""

from __future__ import annotations

import bisect
import errno
import json
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO

from headrace_namespace.backends.protocol import (
    BackendContext,
    Folder,
    Listed,
    ListPage,
)
from headrace_namespace.clock import Clock
from headrace_namespace.config import Table
from headrace_namespace.errors import (
    AccessRefused,
    HeadraceError,
    InvalidPath,
    NameTooLong,
    NotFolder,
    NotFound,
    StoreMissing,
    StoreUnavailable,
    VersionGone,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.path import can_name

#: The kernel's file times move with its tick, 10 ms at the slowest (CONFIG_HZ=100); twice that.
GRAIN_SECONDS = 0.020
#: A file that changed during each of so many waits is one that is being written.
SETTLE_ROUNDS = 5
#: As S3's pages; 1,000 children are stat'ed in about 3 ms.
PAGE_CHILDREN = 1000
#: As many links on one way as the kernel follows.
MOST_LINKS = 40
#: Listings whose remaining names are held (100,000 names take 10 MB); others scan anew.
MOST_LISTINGS = 8

STORE = "file://"


def open_local(url: str, options: Table, context: BackendContext) -> LocalBackend:
    """The folder (or single file) at `url`. Raises ConfigError; there are no options."""
    options.done()
    path = url.removeprefix("file://")
    if path != url and not path.startswith("/"):
        raise options.error_beside(
            "url",
            f"{url!r} names a host; only files of this machine can be mounted",
            "write three slashes: file:///folder",
        )
    if not path or "\0" in path:
        raise options.error_beside("url", f"{url!r} names no folder")
    return LocalBackend(os.path.normpath(os.path.join(context.base_folder, path)), context.clock)


class LocalBackend:
    """A folder of this machine. Symbolic links are followed, out of the folder too. Thread-safe."""

    def __init__(self, root: str, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        # Sorted names still to be listed, by folder, of the listings that are under way.
        self._listings: OrderedDict[str, list[str]] = OrderedDict()

    @property
    def name(self) -> str:
        """The folder."""
        return f"file://{self._root}"

    @property
    def stat_is_cheap(self) -> bool:
        """Microseconds."""
        return True

    def ref(self, key: str) -> ObjectRef:
        """The file's real path, so that a link and its target are one object."""
        return ObjectRef(STORE, self._real(key))

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        """The real path, and before it each path by which symbolic links lead there.

        As the kernel goes: name by name, a link's target taking the place of what led to it.
        """
        path, found = os.path.abspath(self._path(key)), self.ref(key)
        if path == found.key:
            return (found,)  # no link on the way
        steps: list[str] = []
        names, real = path.split("/")[1:], ""
        while names and len(steps) < MOST_LINKS:
            step = f"{real}/{names[0]}"
            try:
                target = os.readlink(step)
            except OSError:  # no link, or nothing there
                real, names = step, names[1:]
                continue
            steps.append("/".join((step, *names[1:])))
            joined = os.path.normpath(os.path.join(real or "/", target, *names[1:]))
            names, real = joined.split("/")[1:], ""
        return (*(ObjectRef(STORE, step) for step in steps), found)

    @property
    def space(self) -> str:
        """All files of this machine."""
        return "file:"

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """What is there now; waits some milliseconds where a file was changed just now.

        Nothing (None) for what is neither file nor folder, and for broken links.
        """
        for _ in range(SETTLE_ROUNDS):
            found = self._look(key)
            if found is None or stat.S_ISDIR(found[1].st_mode):
                return None if found is None else Folder()
            wait = self._unsettled_seconds(found[1])
            if wait == 0:
                break
            self._clock.sleep(wait)
        else:
            found = self._look(key)
            if found is None or not stat.S_ISREG(found[1].st_mode):
                return None
        return _version(*found)

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """The next 1,000 children by name.

        The names are read at once (50 ms for 100,000), the files behind them looked at page by
        page. A token is the last name given: names that are no longer held are scanned anew.
        """
        folder = ref.key
        with self._errors(folder):
            if token is None:
                names = sorted(os.listdir(folder))
            else:
                after = str(json.loads(token))
                names = self._take(folder, after) or sorted(os.listdir(folder))
                names = names[bisect.bisect_right(names, after) :]
            part, rest = names[:PAGE_CHILDREN], names[PAGE_CHILDREN:]
        children = tuple(filter(None, (self._child(folder, name) for name in part)))
        if not rest:
            return ListPage(children, None)
        self._hold(folder, rest)
        return ListPage(children, json.dumps(part[-1]))

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """Read between two looks at the file that must both show this version."""
        path = version.ref.key
        target = target.cast("B")
        try:
            with self._errors(path):
                file = FileIO(path, opener=_open_at_once)
        except (NotFound, NotFolder) as error:
            raise self._gone(version) from error
        try:
            with self._errors(path):
                wait = self._unsettled_seconds(os.fstat(file.fileno()))
                if wait:
                    self._clock.sleep(wait)
                self._check(version, os.fstat(file.fileno()))
                file.seek(start)
                filled = 0
                while filled < len(target):
                    count = file.readinto(target[filled:])
                    if not count:
                        raise self._gone(version)
                    filled += count
                self._check(version, os.fstat(file.fileno()))
        finally:
            file.close()

    def close(self) -> None:
        """Forget the listings under way."""
        with self._lock:
            self._listings.clear()

    def _path(self, key: str) -> str:
        path = f"{self._root.rstrip('/')}/{key}" if key else self._root
        try:
            raw = os.fsencode(path)
        except UnicodeEncodeError:
            raise InvalidPath("the name holds a lone surrogate, which no file can") from None
        if b"\0" in raw:
            raise InvalidPath("the name holds a NUL character, which no file can")
        return path

    def _real(self, key: str) -> str:
        return os.path.realpath(self._path(key))

    def _look(self, key: str) -> tuple[str, os.stat_result] | None:
        """The real path of a file or folder and what it shows, None where neither is there."""
        path = self._path(key)
        try:
            with self._errors(path):
                real = os.path.realpath(path)
                shown = os.stat(path)
        except StoreMissing:
            raise
        except (NotFound, NotFolder) as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ELOOP:
                raise
            return None
        if stat.S_ISREG(shown.st_mode) or stat.S_ISDIR(shown.st_mode):
            return real, shown
        return None

    def _child(self, folder: str, name: str) -> Listed | None:
        if not can_name(name):
            return None
        path = f"{folder.rstrip('/')}/{name}"
        try:
            shown = os.lstat(path)
            if stat.S_ISLNK(shown.st_mode):
                path = os.path.realpath(path)
                shown = os.stat(path)
        except OSError:
            # Gone since the names were read, or a link that leads nowhere or where we may not look.
            return None
        if stat.S_ISDIR(shown.st_mode):
            return Listed(name, None)
        if not stat.S_ISREG(shown.st_mode):
            return None
        settled = self._unsettled_seconds(shown) == 0
        return Listed(name, _version(path, shown), settled)

    def _unsettled_seconds(self, shown: os.stat_result) -> float:
        """How long until a further change must show; 0 where it must already."""
        age = self._clock.now() - shown.st_ctime_ns / 1e9
        # A time far in the future is another clock's: a change now would show as going back.
        return GRAIN_SECONDS - age if -GRAIN_SECONDS < age < GRAIN_SECONDS else 0.0

    def _check(self, version: ObjectVersion, shown: os.stat_result) -> None:
        if not stat.S_ISREG(shown.st_mode) or _tag(shown) != version.tag:
            raise self._gone(version)

    def _gone(self, version: ObjectVersion) -> VersionGone:
        return VersionGone(
            f"{version.ref.key} was changed or deleted since it was opened",
            store=self.name,
            hint="open it again",
        )

    def _hold(self, folder: str, names: list[str]) -> None:
        with self._lock:
            self._listings[folder] = names
            self._listings.move_to_end(folder)
            while len(self._listings) > MOST_LISTINGS:
                self._listings.popitem(last=False)

    def _take(self, folder: str, after: str) -> list[str] | None:
        """The names held for the listing that stands at `after`.

        Two listings of one folder share the place: one that stands elsewhere scans anew.
        """
        with self._lock:
            names = self._listings.get(folder)
            if names is None or names[0] <= after:
                return None
            return self._listings.pop(folder)

    @contextmanager
    def _errors(self, path: str) -> Generator[None]:
        """Say in headrace's words what the kernel says of `path`."""
        try:
            yield
        except HeadraceError:
            raise
        except OSError as error:
            raise self._translated(path, error) from error

    def _translated(self, path: str, error: OSError) -> HeadraceError:
        store = self.name
        match error.errno:
            case errno.ENOENT:
                if not os.path.lexists(self._root):
                    return StoreMissing(
                        f"the mounted folder {self._root} does not exist",
                        store=store,
                        hint="create it, or mend the mount's url",
                    )
                return NotFound(f"{path} does not exist", store=store)
            case errno.ENOTDIR:
                return NotFolder(f"{path} is not a folder", store=store)
            case errno.ELOOP:
                return NotFound(f"{path} leads through symbolic links in a circle", store=store)
            case errno.EACCES | errno.EPERM:
                return AccessRefused(
                    f"{path} may not be read by this user",
                    store=store,
                    hint="it needs read permission, and every folder above it execute permission",
                )
            case errno.ENAMETOOLONG:
                return NameTooLong(f"{path} is longer than the file system allows", store=store)
            case _:
                return StoreUnavailable(f"{path}: {error.strerror}", store=store)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: in the file's place there may be a pipe by now, without a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such pipes


def _tag(shown: os.stat_result) -> str:
    return f"{shown.st_ino}-{shown.st_size}-{shown.st_mtime_ns}-{shown.st_ctime_ns}"


def _version(path: str, shown: os.stat_result) -> ObjectVersion:
    return ObjectVersion(
        ObjectRef(STORE, path),
        _tag(shown),
        shown.st_size,
        strong=False,
        mtime=shown.st_mtime_ns / 1e9,
    )
