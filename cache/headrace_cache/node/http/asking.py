"""What the node answers to a client of another host: the table of `wire.changes`, row by row."""

from __future__ import annotations

from collections.abc import Iterator

from headrace_cache.local_service import LocalService
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.wire import changes as c
from headrace_cache.wire import messages as m
from headrace_cache.wire import values as v
from headrace_cache.wire.routes import etag_of
from headrace_cache.wire.told import ToldEntry
from headrace_namespace.entry import Entry
from headrace_namespace.errors import NotFound, VersionGone
from headrace_namespace.freshness import CHECK
from headrace_namespace.path import NamespacePath

#: What an entry takes of a part of a listing beside its texts.
_ENTRY_BYTES = 128


def answer(service: LocalService, request: c.Asked) -> c.Answered | OpenObject:
    """The answer; of an OpenOne the object itself, for the caller to keep and to tell of. Raises
    HeadraceError, and ValueError for a request that makes no sense."""
    match request:
        case c.OpenOne(path, max_age):
            return service.open(v.path_of(path), v.freshness_of(max_age))
        case m.Stat(path, max_age):
            return m.Found(v.told_entry(service.stat(v.path_of(path), v.freshness_of(max_age))))
        case m.Explain(path):
            return v.told_explanation(service.explain(v.path_of(path)))
        case m.AskWhy(path):
            return v.told_why(service.why(v.path_of(path)))
        case m.Drop(path):
            return m.Number(service.drop(v.path_of(path)))
        case m.Pin(path):
            return m.Number(service.pin(v.path_of(path)))
        case m.Unpin(path):
            return m.Number(service.unpin(v.path_of(path)))
        case m.AskMounts():
            return m.Mounts([v.told_mount(mount) for mount in service.mounts()])
        case m.AskStatus():
            return m.ToldStatus(service.status())
        case m.AskTotals():
            return m.ToldTotals(service.totals())
        case m.Flush():
            service.flush()
            return m.Done()
        case m.List():
            raise ValueError("a listing is streamed")
        case c.WarmRange(path, version, start, stop):
            opened = version_of(service, v.path_of(path), version)
            try:
                return m.Number(opened.warm(start, stop))
            finally:
                opened.close()
        case _:
            return _change(service, request)


def _change(
    service: LocalService,
    request: c.MayWrite | c.LiesIn | c.Changing,
) -> c.Answered:
    match request:
        case c.MayWrite(path, exclusive, if_version, append):
            return _may_write(service, v.path_of(path), exclusive, if_version, append)
        case c.LiesIn(path, folder):
            return m.Number(int(service.lies_in(v.path_of(path), v.path_of(folder))))
        case c.Delete(paths):
            return c.told_wrong(service.delete([v.path_of(path) for path in paths]))
        case c.Rename(source, target):
            return m.Number(int(service.rename(v.path_of(source), v.path_of(target))))
        case c.Copy(source, target, exclusive):
            made = service.copy(v.path_of(source), v.path_of(target), exclusive=exclusive)
            return c.Made(v.told_version(made))
        case c.MakeFolder(path, exist_ok, like):
            service.make_folder(
                v.path_of(path), exist_ok=exist_ok, like=None if like is None else v.path_of(like)
            )
            return m.Done()
        case c.RemoveFolder(path):
            service.remove_folder(v.path_of(path))
            return m.Done()


def asked_for(request: c.Asked) -> NamespacePath | None:
    """The path whose store is asked, perhaps. Raises ValueError."""
    match request:
        case c.OpenOne() | m.Stat() | m.List() | m.Explain() | m.AskWhy() | m.Drop():
            return v.path_of(request.path)
        case m.Pin() | m.Unpin() | c.WarmRange() | c.MayWrite() | c.LiesIn():
            return v.path_of(request.path)
        case c.MakeFolder() | c.RemoveFolder():
            return v.path_of(request.path)
        case c.Rename() | c.Copy():
            return v.path_of(request.source)
        case c.Delete():
            return v.path_of(request.paths[0]) if request.paths else None
        case _:
            return None


def version_of(service: LocalService, path: NamespacePath, etag: str) -> OpenObject:
    """The object, where this is its version still. Raises VersionGone, NotFound, PolicyDenied."""
    opened = service.open(path)
    if etag_of(opened.version) != etag:
        opened.close()
        # What is known of it may be older than the version that is asked for.
        opened = service.open(path, CHECK)
    if etag_of(opened.version) != etag:
        opened.close()
        raise VersionGone(f"{path} was replaced", path=path.text, hint="open it again")
    return opened


def listed(entries: Iterator[Entry]) -> m.Listed:
    """The next part of a listing; `listing` is None in its last."""
    told: list[ToldEntry] = []
    taken = 0
    for entry in entries:
        told.append(v.told_entry(entry))
        version = entry.version
        taken += _ENTRY_BYTES + 2 * len(told[-1].path)
        taken += 0 if version is None else len(version.ref.key) * 2 + len(version.tag)
        if taken >= m.MOST_LISTED_BYTES:
            return m.Listed(1, told)
    return m.Listed(None, told)


def _may_write(
    service: LocalService,
    path: NamespacePath,
    exclusive: bool,
    if_version: str | None,
    append: bool,
) -> c.Writable:
    """Begin the write and give it up: whatever refuses it, refuses it now."""
    if not append:
        service.create(path, exclusive=exclusive, if_version=if_version).abort()
        return c.Writable(0, None)
    found = now(service, path)
    service.create(path).abort()
    if found is None or found.version is None:
        return c.Writable(0, None)
    return c.Writable(found.version.size, etag_of(found.version))


def now(service: LocalService, path: NamespacePath) -> Entry | None:
    """What the store shows at `path` now; None where nothing is."""
    try:
        return service.stat(path, CHECK)
    except NotFound:
        return None
