"""Mounts made while processes run, kept in the ledger, so that every process sees them in a second.

The book `mounts` maps a path to what a person wrote of the mount, variables not expanded, as JSON:

    {"mounting": "…", "base_folder": "/home/ann", "table": {"path": "/lake", "url": "s3://…", …}}

`mounting` tells one mount of a path from a later one. A secret is never among it: options name
variables and profiles, and the parser refuses the rest.

Every process looks at the book's count of changes once a second, while it is used. What changed
makes a new tree; the stores of mounts that stayed are taken over as they are, with their threads,
connections and counters. The stores of those that went are closed at once: who still has an object
of theirs open reads on what the cache holds, and is told so where it holds too little.

A process that cannot open a store shows the mount and answers for it with the reason. Where the
ledger cannot be read, the last known tree stays: to forget a mount could loosen what policy says of
another that reaches the same objects.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

from headrace_namespace.backends.protocol import Backend, BackendContext
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.errors import AlreadyExists, ConfigError, HeadraceError, NotFound
from headrace_namespace.metadata.ledger import Book, Ledger, LedgerFault
from headrace_namespace.mount_checks import ask_store, require_free, same_objects
from headrace_namespace.mount_declarations import read_written_mount
from headrace_namespace.mount_table import RUN_TIME, TAG, Mount
from headrace_namespace.path import NamespacePath, fold
from headrace_namespace.tree import MountedStore, Tree

_log = logging.getLogger(__name__)

#: How long a mount made by another process may go unseen. A look is one look-up, 5 microseconds.
LOOK_SECONDS = 1.0
#: Each costs some 20 KB in every process that uses the ledger.
MOST_MOUNTS = 1000
#: Paths that were unmounted and are still counted, those that went last: some 500 bytes each.
MOST_RETIRED = 1000
#: A key of LMDB has at most 511 bytes.
MOST_PATH_BYTES = 500
#: A person writes some hundreds; with `MOST_MOUNTS` of them the ledger is a quarter full.
MOST_RECORD_BYTES = 16 << 10


class Opener(Protocol):
    """How stores are opened: given by the place that builds this layer."""

    def open(self, declaration: MountDeclaration) -> MountedStore:
        """The store in its wrappers; touches no network. Raises ConfigError."""
        ...

    def open_bare(self, declaration: MountDeclaration) -> Backend:
        """The store alone, so that each request is made once. Raises ConfigError."""
        ...

    def stand_in(self, mount: Mount, reason: str, base_folder: str) -> MountedStore:
        """What answers for a mount whose store cannot be opened."""
        ...


@dataclass(frozen=True, slots=True)
class _Opened:
    """A record of the ledger, and the store that was opened by it; None where none was."""

    record: bytes
    store: MountedStore | None


class RunTimeMounts:
    """The tree of a configuration's mounts and those made at run time. Safe to use from many
    threads; not across a fork."""

    def __init__(
        self,
        fixed: Sequence[MountedStore],
        ledger: Ledger,
        opener: Opener,
        context: BackendContext,
        own_folders: Sequence[str],
    ) -> None:
        self._fixed = tuple(fixed)
        self._fixed_paths = {store.mount.path.folded: store.mount for store in fixed}
        self._ledger = ledger
        self._opener = opener
        self._context = context
        self._own_folders = tuple(own_folders)
        self._lock = threading.Lock()
        self._opened: Mapping[bytes, _Opened] = {}
        self._retired: dict[str, Counter[str]] = {}
        self._generation = 0
        self._complained = False
        self._tree = Tree(self._fixed, context.clock)
        self._next_look = 0.0
        self._look_now()

    @property
    def tree(self) -> Tree:
        """The tree as last seen."""
        return self._tree

    def look(self, *, at_once: bool = False) -> Tree:
        """The tree after a look into the ledger, once in `LOOK_SECONDS`, or `at_once`."""
        if at_once:
            self._look_now()
        elif self._context.clock.monotonic() >= self._next_look:
            self._look_now(only_if_due=True)
        return self._tree

    def requests(self) -> Mapping[str, Mapping[str, int]]:
        """How often each operation was asked of each mount's store, also of those unmounted."""
        with self._lock:
            counted = {path: Counter(counts) for path, counts in self._retired.items()}
            for store in self._tree.stores.values():
                path = store.mount.path.text
                counted.setdefault(path, Counter()).update(store.observed.requests())
        return {path: dict(counts) for path, counts in counted.items()}

    def add(self, declaration: MountDeclaration, *, over: bool, checked: bool) -> Sequence[Mount]:
        """Mount a store, for all processes, until `remove`; the other mounts that may reach the
        same objects.

        Raises AlreadyExists and NotFolder for its place, ConfigError for what is wrong with it, and
        what the store says where it is `checked`.
        """
        path = declaration.mount.path
        if not self._ledger.lasts:
            raise ConfigError(
                f"{path} cannot be mounted: other processes would not see it, because the state "
                "folder cannot be used",
                path=path.text,
                hint="name another state_folder under [cache]",
            )
        record = self._record(declaration)
        tree = self._look_now()
        require_free(tree, path, over=over)
        backend = self._opener.open_bare(self._declaration(path, record))
        try:
            others = same_objects(tree, backend)
            if checked:
                ask_store(backend, tree, path)
        finally:
            backend.close()
        try:
            self._write(path, record)
        except LedgerFault as error:
            raise ConfigError(f"{path} cannot be mounted: {error}", path=path.text) from error
        self._look_now()
        return others

    def remove(self, path: NamespacePath) -> None:
        """Undo `add`, for all processes. Raises NotFound, ConfigError."""
        try:
            with self._book().write() as page:
                there = page.delete(_key(path))
        except LedgerFault as error:
            raise ConfigError(f"{path} cannot be unmounted: {error}", path=path.text) from error
        tree = self._look_now()
        if there:
            return
        found = next((m for m in tree.table.mounts if m.path == path), None)
        if found is not None:
            raise ConfigError(
                f"{path} was not mounted at run time: it stands in {found.source}",
                path=path.text,
                hint="delete its [[mount]] there",
            )
        raise NotFound(f"nothing is mounted at {path}", path=path.text, hint=tree.mounted_hint())

    def close(self) -> None:
        """Let go of every store."""
        with self._lock:
            stores = list(self._tree.stores.values())
        for store in stores:
            store.close()

    # The ledger.

    def _book(self) -> Book:
        return self._ledger.book("mounts")

    def _record(self, declaration: MountDeclaration) -> bytes:
        record = {
            "mounting": secrets.token_hex(8),
            "base_folder": declaration.base_folder,
            "table": declaration.written,
        }
        raw = json.dumps(record).encode()
        path = declaration.mount.path
        if len(raw) > MOST_RECORD_BYTES:
            raise ConfigError(f"{path}: a mount takes at most {MOST_RECORD_BYTES} bytes")
        if len(_key(path)) > MOST_PATH_BYTES:
            raise ConfigError(
                f"{path.text[:40]}…: the path of a mount made at run time has at most "
                f"{MOST_PATH_BYTES} bytes"
            )
        return raw

    def _write(self, path: NamespacePath, record: bytes) -> None:
        with self._book().write() as page:
            keys = [key for key, _ in page.items()]
            if any(fold(_path_of(key)) == path.folded for key in keys):
                raise AlreadyExists(f"{path} was mounted just now", path=path.text)
            if len(keys) >= MOST_MOUNTS:
                raise ConfigError(f"{MOST_MOUNTS} mounts were made at run time; no more fit")
            page.put(_key(path), record)

    def _look_now(self, *, only_if_due: bool = False) -> Tree:
        with self._lock:
            now = self._context.clock.monotonic()
            if only_if_due and now < self._next_look:
                return self._tree
            self._next_look = now + LOOK_SECONDS
            try:
                book = self._book()
                # Read before the records: they may be newer, and are then read once more.
                generation = book.generation()
                if generation != self._generation:
                    with book.read() as page:
                        records = dict(page.items())
                    self._rebuild(records)
                    self._generation = generation
            except LedgerFault as error:
                if not self._complained:
                    _log.error("mounts made at run time cannot be read, the tree stays: %s", error)
                self._complained = True
            else:
                self._complained = False
            return self._tree

    def _rebuild(self, records: Mapping[bytes, bytes]) -> None:
        """Another tree, in one step; within the lock."""
        before, opened = self._opened, dict[bytes, _Opened]()
        for key, record in records.items():
            known = before.get(key)
            if known is not None and known.record == record:
                opened[key] = known
            else:
                opened[key] = _Opened(record, self._open(key, record))
        stores = (each.store for each in opened.values() if each.store is not None)
        tree, old = Tree([*self._fixed, *stores], self._context.clock), self._tree
        self._tree, self._opened = tree, opened
        came, went = tree.stores.keys() - old.stores.keys(), old.stores.keys() - tree.stores.keys()
        if came or went:
            _log.info("the mounts changed", extra={"came": _named(came), "went": _named(went)})
        for mount in went:
            store = old.stores[mount]
            self._retire(store)
            store.close()

    def _retire(self, store: MountedStore) -> None:
        """Count on what its mount asked of it, though it goes."""
        path = store.mount.path.text
        counts = self._retired.pop(path, Counter())
        counts.update(store.observed.requests())
        while len(self._retired) >= MOST_RETIRED:
            del self._retired[next(iter(self._retired))]
        self._retired[path] = counts

    def _open(self, key: bytes, record: bytes) -> MountedStore | None:
        """The store of a record; None where the configuration mounts another at its path."""
        try:
            path = NamespacePath.parse(_path_of(key))
        except HeadraceError as error:
            _log.error("a mount made at run time has no path of the tree: %s", error)
            return None
        other = self._fixed_paths.get(path.folded)
        if other is not None:
            _log.warning("%s was mounted at run time; here %s holds", path, other.source)
            return None
        try:
            return self._opener.open(self._declaration(path, record))
        except Exception as error:  # whatever is wrong with it, the other mounts must go on
            _log.error("the mount %s, made at run time, cannot be used here: %s", path, error)
            mount, base_folder = _as_far_as_known(path, record)
            return self._opener.stand_in(mount, str(error), base_folder)

    def _declaration(self, path: NamespacePath, record: bytes) -> MountDeclaration:
        """Raises ConfigError, and ValueError or KeyError for what no version of ours wrote."""
        content = json.loads(record)
        context = replace(self._context, base_folder=str(content["base_folder"]))
        found = read_written_mount(
            cast("Mapping[str, object]", content["table"]),
            f"mount {path}",
            context,
            self._own_folders,
            mounting=str(content["mounting"]),
        )
        if found.mount.path != path:
            raise ValueError(f"the record is that of {found.mount.path}")
        return found


def _named(mounts: Iterable[Mount]) -> list[str]:
    """Their paths, for the log; as many as a line takes."""
    return [mount.path.text for mount in sorted(mounts, key=lambda each: each.path.text)][:100]


def _key(path: NamespacePath) -> bytes:
    return path.text.encode("utf-8", "surrogateescape")


def _path_of(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _as_far_as_known(path: NamespacePath, record: bytes) -> tuple[Mount, str]:
    """What can be told of a mount that could not be read whole: its tags still make rules hold."""
    try:
        content = cast("dict[str, object]", json.loads(record))
        table = cast("dict[str, object]", content["table"])
        tags = tuple(map(str, cast("list[object]", table.get("tags", []))))
        mount = Mount(
            path,
            str(table.get("url", "")),
            tags=tuple(filter(TAG.fullmatch, tags)),
            mounting=str(content["mounting"]),
            source=RUN_TIME,
        )
        return mount, str(content["base_folder"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return Mount(path, "", source=RUN_TIME), "/"
