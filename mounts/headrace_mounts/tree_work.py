"""Whole folders removed, copied and moved: many files at a time, their listing streamed.

A symbolic link to a folder is never walked through: removing removes the link, and copying leaves
it out and says so. So nothing outside of a tree is changed, and no circle is followed. Ctrl-C stops
between files: each is there whole, or not at all.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from headrace_cache.service import CacheService
from headrace_mounts.refusals import link_refusal, refuse_into_itself, refuse_mounts
from headrace_namespace.entry import Entry
from headrace_namespace.errors import (
    FolderNotEmpty,
    HeadraceError,
    NotFolder,
    NotFound,
)
from headrace_namespace.path import NamespacePath

#: Files copied side by side: a small file costs a few round trips, in which others may go on.
FILES_AT_ONCE = 16
#: Objects deleted by one request, where the store takes so many.
DELETED_AT_ONCE = 1000
#: Errors that are held with their paths; all are counted.
MOST_ERRORS = 1000

#: What is done with one object and the path that it goes to.
_Do = Callable[[CacheService, Entry, NamespacePath, "_Tally"], None]

#: Told after each step, on the caller's thread: objects and bytes done so far.
Note = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """One path on which the work failed, and why."""

    path: NamespacePath
    error: HeadraceError


@dataclass(frozen=True, slots=True)
class Work:
    """What was done: objects and bytes; `failed` are the first `MOST_ERRORS` failures of
    `failures`."""

    objects: int
    bytes: int
    failed: tuple[Failure, ...]
    failures: int

    def raise_first(self) -> None:
        """Raise the first failure, where there is one."""
        if self.failed:
            raise self.failed[0].error


def remove_tree(
    service: CacheService,
    path: NamespacePath,
    note: Note | None = None,
    *,
    jobs: int = FILES_AT_ONCE,
) -> Work:
    """Delete an object, or a folder with all in it, `jobs` requests at once. Raises NotFound."""
    entry = service.stat(path)
    refuse_mounts(service, path)
    tally = _Tally(note)
    if not entry.is_folder or entry.link:
        _delete(service, [entry], tally)
        return tally.work()
    folders: list[NamespacePath] = []
    steps = (
        functools.partial(_delete, service, some, tally)
        for some in _batches(_removable(service, path, folders, tally))
    )
    _run(steps, tally, jobs)
    for folder in reversed(folders):
        _remove_folder(service, folder, tally)
    return tally.work()


def copy_tree(
    service: CacheService,
    source: NamespacePath,
    target: NamespacePath,
    note: Note | None = None,
    *,
    exclusive: bool = False,
    jobs: int = FILES_AT_ONCE,
) -> Work:
    """Copy an object to `target`, or what is in a folder into the folder `target`, which is made,
    `jobs` objects at once.

    `exclusive`: what is there already stays, and counts as failed. Raises NotFound, and InvalidPath
    where a folder would be copied into itself.
    """
    tally = _Tally(note)
    entry = service.stat(source)
    copy = functools.partial(_copy, exclusive=exclusive)
    if entry.is_folder:
        refuse_into_itself(service, source, target)
        _run(_steps(service, source, target, copy, [], tally), tally, jobs)
    else:
        copy(service, entry, target, tally)
    return tally.work()


def move_tree(
    service: CacheService,
    source: NamespacePath,
    target: NamespacePath,
    note: Note | None = None,
    *,
    merge: bool = False,
    jobs: int = FILES_AT_ONCE,
) -> Work:
    """Give an object or a folder another name: in one step where its store can (it then counts as
    one object), else file by file, `jobs` at once. A file takes the place of a file.

    `merge`: a folder whose new name a folder with something in it has already is moved into that,
    file by file.

    Files that could not be moved stay where they were. Raises NotFound, and InvalidPath where a
    folder would be moved into itself.
    """
    tally = _Tally(note)
    entry = service.stat(source)
    if source == target:
        return tally.work()
    refuse_mounts(service, source)
    if entry.is_folder and not entry.link:
        refuse_into_itself(service, source, target)
    if _renamed(service, source, target, merge):
        tally.done(1, entry.size)
    elif entry.is_folder and entry.link:
        tally.fail(source, link_refusal(service, source))  # what it leads to is not its to move
    elif not entry.is_folder:
        _move(service, entry, target, tally)
    else:
        folders: list[NamespacePath] = []
        _run(_steps(service, source, target, _move, folders, tally), tally, jobs)
        for folder in reversed(folders):
            if not tally.failures:  # else some of them are not empty, and are meant to stay
                _remove_folder(service, folder, tally)
    return tally.work()


class _Tally:
    """What was done so far. Safe to use from many threads; `tell` is for the caller's."""

    def __init__(self, note: Note | None) -> None:
        self._note = note
        self._lock = threading.Lock()
        self._objects = 0
        self._bytes = 0
        self._failed: list[Failure] = []
        self.failures = 0

    def done(self, objects: int, count: int) -> None:
        with self._lock:
            self._objects += objects
            self._bytes += count

    def fail(self, path: NamespacePath, error: HeadraceError) -> None:
        with self._lock:
            self.failures += 1
            if len(self._failed) < MOST_ERRORS:
                self._failed.append(Failure(path, error))

    def tell(self) -> None:
        if self._note is not None:
            self._note(self._objects, self._bytes)

    def work(self) -> Work:
        self.tell()
        return Work(self._objects, self._bytes, tuple(self._failed), self.failures)


def _run(steps: Iterator[Callable[[], None]], tally: _Tally, jobs: int) -> None:
    """Do the steps side by side, a bounded number of them taken from `steps` at a time."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="headrace-tree")
    try:
        under_way: set[Future[None]] = set()
        for step in steps:
            under_way.add(pool.submit(step))
            while len(under_way) >= 2 * jobs:
                under_way = _some_done(under_way, tally)
        while under_way:
            under_way = _some_done(under_way, tally)
    finally:
        # Interrupted: what has begun ends whole, what has not begun does not begin.
        pool.shutdown(wait=True, cancel_futures=True)


def _some_done(under_way: set[Future[None]], tally: _Tally) -> set[Future[None]]:
    done, left = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()  # a fault of ours must not pass unseen
    tally.tell()
    return left


def _removable(
    service: CacheService, path: NamespacePath, folders: list[NamespacePath], tally: _Tally
) -> Iterator[Entry]:
    """The objects and links below a folder; the folders go into `folders`, each before those in
    it."""
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        folders.append(folder)
        for entry in _children(service, folder, tally):
            if entry.is_folder and not entry.link:
                waiting.append(entry.path)
            else:
                yield entry


def _children(service: CacheService, folder: NamespacePath, tally: _Tally) -> Iterator[Entry]:
    try:
        yield from service.list(folder)
    except NotFound:
        return  # it went meanwhile
    except HeadraceError as error:
        tally.fail(folder, error)


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == DELETED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _delete(service: CacheService, entries: list[Entry], tally: _Tally) -> None:
    wrong = service.delete([entry.path for entry in entries])
    for path, error in wrong.items():
        tally.fail(path, error)
    gone = [entry for entry in entries if entry.path not in wrong]
    tally.done(len(gone), sum(entry.size for entry in gone))


def _remove_folder(service: CacheService, folder: NamespacePath, tally: _Tally) -> None:
    try:
        service.remove_folder(folder)
    except (NotFound, NotFolder):
        return  # of some stores a folder is gone with the last object in it
    except HeadraceError as error:
        tally.fail(folder, error)


def _steps(
    service: CacheService,
    source: NamespacePath,
    target: NamespacePath,
    do: _Do,
    folders: list[NamespacePath],
    tally: _Tally,
) -> Iterator[Callable[[], None]]:
    """One step for each object below `source`; the folders are made as the walk comes to them, and
    go into `folders`, each before those in it."""
    waiting = [source]
    while waiting:
        folder = waiting.pop()
        folders.append(folder)
        new = target.below(folder.relative_to(source))
        try:
            service.make_folder(new, exist_ok=True, like=folder)
        except HeadraceError as error:
            tally.fail(new, error)
            continue
        for entry in _children(service, folder, tally):
            if not entry.is_folder:
                to = new.child(entry.path.name)
                yield functools.partial(do, service, entry, to, tally)
            elif not entry.link:
                waiting.append(entry.path)
            else:
                tally.fail(entry.path, link_refusal(service, entry.path))


def _copy(
    service: CacheService,
    entry: Entry,
    target: NamespacePath,
    tally: _Tally,
    *,
    exclusive: bool = False,
) -> None:
    try:
        version = service.copy(entry.path, target, exclusive=exclusive)
    except HeadraceError as error:
        tally.fail(entry.path, error)
    else:
        tally.done(1, version.size)


def _move(service: CacheService, entry: Entry, target: NamespacePath, tally: _Tally) -> None:
    try:
        if not service.rename(entry.path, target):
            service.copy(entry.path, target)
            for error in service.delete([entry.path]).values():
                raise error
    except HeadraceError as error:
        tally.fail(entry.path, error)
    else:
        tally.done(1, entry.size)


def _renamed(
    service: CacheService, source: NamespacePath, target: NamespacePath, merge: bool
) -> bool:
    try:
        return service.rename(source, target)
    except FolderNotEmpty:
        if not merge:
            raise
        return False
