"""Folders of this machine: `file:///x`, or a plain path relative to the configuration's folder.

A file's version is what the kernel shows of a change: inode, size, modification and change time.
Those times move in steps; a write within the same step as the last shows nothing. So bytes are read
only of files whose last change is older than a step, and not while the write that set them is still
under way: then the same times mean the same bytes.
"""

from __future__ import annotations

import bisect
import errno
import json
import os
import stat
from collections.abc import Mapping, Sequence
from io import FileIO

from headrace_namespace.backends.local_files import (
    STORE,
    KernelErrors,
    await_writes,
    tag_of,
    unsettled_seconds,
    version_of,
)
from headrace_namespace.backends.local_listings import HeldListings
from headrace_namespace.backends.local_new_file import is_hidden
from headrace_namespace.backends.local_upload import LocalUpload
from headrace_namespace.backends.local_writing import LocalWriter
from headrace_namespace.backends.protocol import (
    BackendContext,
    Expected,
    Folder,
    Listed,
    ListPage,
)
from headrace_namespace.clock import Clock
from headrace_namespace.config import Table
from headrace_namespace.errors import (
    HeadraceError,
    InvalidPath,
    NotFolder,
    NotFound,
    StoreMissing,
    VersionGone,
)
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.path import can_name

#: A file that changed during each of so many waits is one that is being written.
SETTLE_ROUNDS = 5
#: As S3's pages; 1,000 children are stat'ed in about 3 ms.
PAGE_CHILDREN = 1000
#: As many links on one way as the kernel follows.
MOST_LINKS = 40


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
        self._errors = KernelErrors(root, self.name)
        self._listings = HeldListings()
        self._writer = LocalWriter(root, self.name, clock)

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
            wait = unsettled_seconds(found[1], self._clock.now())
            if wait == 0:
                break
            self._clock.sleep(wait)
        else:
            found = self._look(key)
            if found is None or not stat.S_ISREG(found[1].st_mode):
                return None
        return version_of(*found)

    def shows(self, key: str, version: ObjectVersion) -> bool:
        """One `os.lstat`: a link in the file's place shows itself, and so is none. A file that was
        changed just now is for `stat`, which waits."""
        try:
            shown = os.lstat(self.shown_by(key))
        except (OSError, ValueError):
            return False
        return (
            tag_of(shown) == version.tag
            and stat.S_ISREG(shown.st_mode)
            and not unsettled_seconds(shown, self._clock.now())
        )

    def shown_by(self, key: str) -> str:
        """See `Backend`."""
        return f"{self._root}/{key}" if key else self._root

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """The next 1,000 children by name.

        The names are read at once (50 ms for 100,000), the files behind them looked at page by
        page. A token is the last name given: names that are no longer held are scanned anew.
        """
        folder = ref.key
        with self._errors.reading(folder):
            if token is None:
                names = sorted(os.listdir(folder))
            else:
                after = str(json.loads(token))
                names = self._listings.take(folder, after) or sorted(os.listdir(folder))
                names = names[bisect.bisect_right(names, after) :]
            part, rest = names[:PAGE_CHILDREN], names[PAGE_CHILDREN:]
        children = tuple(filter(None, (self._child(folder, name) for name in part)))
        if not rest:
            return ListPage(children, None)
        self._listings.hold(folder, rest)
        return ListPage(children, json.dumps(part[-1]))

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """Read between two looks at the file that must both show this version."""
        path = version.ref.key
        target = target.cast("B")
        try:
            with self._errors.reading(path):
                file = FileIO(path, opener=_open_at_once)
        except (NotFound, NotFolder) as error:
            raise self._gone(version) from error
        try:
            with self._errors.reading(path):
                wait = unsettled_seconds(os.fstat(file.fileno()), self._clock.now())
                if wait:
                    self._clock.sleep(wait)
                await_writes(file.fileno())
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

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """Write a file that has no name until it is whole; see `local_writing`."""
        new = self._writer.new_file(ref)
        try:
            with self._writer.errors.writing(ref.key):
                new.write(data, 0)
            return self._writer.place(new, data.nbytes, expected)
        finally:
            new.close()

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> LocalUpload:
        """Parts of 8 MiB go into a file that has no name until `commit`."""
        return LocalUpload(self._writer, ref, expected, base)

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """Copy in the kernel, or share the blocks where the file system can."""
        return self._writer.copy(source, ref, expected)

    def rename(self, key: str, to: ObjectRef) -> bool:
        """`os.rename`; False across file systems."""
        return self._writer.rename(self._path(key), to.key)

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """Unlink one by one."""
        paths: dict[str, str] = {}
        wrong: dict[str, HeadraceError] = {}
        for key in keys:
            try:
                paths[key] = self._path(key)
            except InvalidPath as error:
                wrong[key] = error
        return {**wrong, **self._writer.delete(paths)}

    def make_folder(self, key: str) -> None:
        """`os.makedirs`."""
        self._writer.make_folder(self._path(key))

    def remove_folder(self, key: str) -> None:
        """`os.rmdir`."""
        self._writer.remove_folder(self._path(key))

    def close(self) -> None:
        """Forget the listings under way."""
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
            with self._errors.reading(path):
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
        if not can_name(name) or is_hidden(name):
            return None
        path = f"{folder.rstrip('/')}/{name}"
        try:
            shown = os.lstat(path)
            if link := stat.S_ISLNK(shown.st_mode):
                path = os.path.realpath(path)
                shown = os.stat(path)
        except OSError:
            # Gone since the names were read, or a link that leads nowhere or where we may not look.
            return None
        if stat.S_ISDIR(shown.st_mode):
            return Listed(name, None, link=link)
        if not stat.S_ISREG(shown.st_mode):
            return None
        settled = unsettled_seconds(shown, self._clock.now()) == 0
        return Listed(name, version_of(path, shown), settled, link)

    def _check(self, version: ObjectVersion, shown: os.stat_result) -> None:
        if not stat.S_ISREG(shown.st_mode) or tag_of(shown) != version.tag:
            raise self._gone(version)

    def _gone(self, version: ObjectVersion) -> VersionGone:
        return VersionGone(
            f"{version.ref.key} was changed or deleted since it was opened",
            store=self.name,
            hint="open it again",
        )


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: in the file's place there may be a pipe by now, without a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no such pipes
