"""The cache of this host's node, as a `CacheService`; without the node, a cache of this process.

What is read goes through the node, which owns memory and SSD for all. What is written goes from
this process to its store, with its own credentials, and the node is told. When the node ends, opens
go on through a cache of this process, with one warning, until a node is there again; what is open
goes on from the memory that it has, and then likewise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.remote.ahead import MOST_NAMES, Ahead
from headrace_cache.remote.connection import NodeConnection, NodeGone, NodeSilent
from headrace_cache.remote.node_object import NodeObject
from headrace_cache.remote.node_writer import NodeWriter
from headrace_cache.remote.opens import opened_at
from headrace_cache.remote.untold import Untold
from headrace_cache.service import (
    CacheService,
    OpenObject,
    OpenWriter,
    Status,
    Totals,
    Why,
)
from headrace_cache.wire import messages as m
from headrace_cache.wire import values as v
from headrace_namespace.clock import Clock
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.entry import Entry
from headrace_namespace.errors import ConfigError, HeadraceError
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer", bound=m.Answer)

#: How long a node that is gone is not looked for again.
RETRY_SECONDS = 2.0
#: The same of one that is there and silent, to which each look is lost time (`CONNECT_SECONDS`):
#: twice as long after each, up to this.
MOST_RETRY_SECONDS = 60.0


class NodeService:
    """The tree, read through the node's cache. Safe to use from many threads and forks."""

    def __init__(
        self,
        socket_file: Path,
        release: str,
        fingerprint: str,
        own: Callable[[], CacheService],
        clock: Clock,
        *,
        by_user: int | None = None,
        most_copied_bytes: int = 0,
    ) -> None:
        """`own` opens a cache of this process; `by_user` may run the node, beside this process's
        own user and root; `most_copied_bytes` bounds what this process keeps itself, for views, of
        memory that the node wants back. Raises NodeGone where no node is there, and
        ConfigError where it serves another configuration or speaks another protocol."""
        self._file = socket_file
        self._hello = (release, fingerprint, by_user, most_copied_bytes)
        self._open_own = own
        self._clock = clock
        self._lock = threading.Lock()
        self._own: CacheService | None = None
        self._closed = False
        self._retry_at = 0.0
        self._retry_seconds = RETRY_SECONDS
        self._ahead = Ahead()
        self._untold = Untold()
        self._connection: NodeConnection | None = self._connected()

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return not self._closed

    @property
    def authority(self) -> None:
        """It is this host's tree."""
        return None

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is."""
        asked = m.Stat(v.told_path(path), v.told_age(freshness))
        found = self._asked(asked, m.Found)
        return self.own().stat(path, freshness) if found is None else v.entry_of(found.entry)

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder, streamed."""
        given: set[str] = set()
        objects: list[str] = []
        node = self._node()
        if node is not None:
            try:
                for entry in self._listed(node, path):
                    given.add(entry.path.text)
                    if entry.version is not None and len(objects) <= MOST_NAMES:
                        objects.append(entry.path.name)
                    yield entry
            except NodeGone as error:
                self._lost(error)
            else:
                self._ahead.listed(path, objects)
                return
        for entry in self.own().list(path):
            if entry.path.text not in given:
                yield entry

    def _listed(self, node: NodeConnection, path: NamespacePath) -> Iterator[Entry]:
        """What the node lists. Raises NodeGone too."""
        listed = node.ask(m.List(v.told_path(path)), m.Listed)
        try:
            while True:
                for told in listed.entries:
                    yield v.entry_of(told)
                if listed.listing is None:
                    return
                listed = node.ask(m.ListMore(listed.listing, stop=False), m.Listed)
        finally:
            if listed.listing is not None and not node.gone:
                with suppress(HeadraceError, NodeGone):  # it has ended then
                    node.ask(m.ListMore(listed.listing, stop=True), m.Listed)

    def open(self, path: NamespacePath, freshness: Freshness | None = None) -> OpenObject:
        """The object, its version pinned; without a call where that stands for a while."""
        node = self._connection
        if freshness is None and node is not None:
            hold = node.leases.take(path.text)
            if hold is not None:
                return NodeObject(self._opened_anew, hold)
        node = self._node()
        if node is not None:
            try:
                return NodeObject(self._opened_anew, opened_at(node, self._ahead, path, freshness))
            except NodeGone as error:
                self._lost(error)
        return self.own().open(path, freshness)

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and why."""
        told = self._asked(m.Explain(v.told_path(path)), m.Explained)
        return self.own().explain(path) if told is None else v.explanation_of(told)

    def create(
        self, path: NamespacePath, *, exclusive: bool = False, if_version: str | None = None
    ) -> OpenWriter:
        """Write an object anew, or in place of what is there."""
        writer = self.own().create(path, exclusive=exclusive, if_version=if_version)
        return NodeWriter(writer, self._changed)

    def append(self, path: NamespacePath) -> OpenWriter:
        """Write an object that begins with what is there now."""
        return NodeWriter(self.own().append(path), self._changed)

    def copy(
        self, source: NamespacePath, target: NamespacePath, *, exclusive: bool = False
    ) -> ObjectVersion:
        """Copy one object; the new version."""
        try:
            return self.own().copy(source, target, exclusive=exclusive)
        finally:
            self._changed(target)

    def rename(self, source: NamespacePath, target: NamespacePath) -> bool:
        """Give a file or folder another name in one step; False where that cannot be."""
        try:
            return self.own().rename(source, target)
        finally:
            self._changed(source, target)

    def lies_in(self, path: NamespacePath, folder: NamespacePath) -> bool:
        """Whether what is written to `path` comes to lie in `folder`, by whatever names."""
        return self.own().lies_in(path, folder)

    def delete(self, paths: Sequence[NamespacePath]) -> Mapping[NamespacePath, HeadraceError]:
        """Delete objects; what went wrong, by path."""
        try:
            return self.own().delete(paths)
        finally:
            self._changed(*paths)

    def make_folder(
        self, path: NamespacePath, *, exist_ok: bool = False, like: NamespacePath | None = None
    ) -> None:
        """Make a folder, and those above it."""
        try:
            self.own().make_folder(path, exist_ok=exist_ok, like=like)
        finally:
            self._changed(path)

    def remove_folder(self, path: NamespacePath) -> None:
        """Remove an empty folder."""
        try:
            self.own().remove_folder(path)
        finally:
            self._changed(path)

    def drop(self, path: NamespacePath) -> int:
        """Forget what the cache holds of the object's version of now; how many bytes."""
        told = self._asked(m.Drop(v.told_path(path)), m.Number)
        return self.own().drop(path) if told is None else told.value

    def pin(self, path: NamespacePath) -> int:
        """Bring the object into the SSD tier whole and keep it there; its bytes."""
        told = self._asked(m.Pin(v.told_path(path)), m.Number)
        return self.own().pin(path) if told is None else told.value

    def unpin(self, path: NamespacePath) -> int:
        """Let a pinned object leave again when its turn comes; its bytes, 0 if it was not."""
        told = self._asked(m.Unpin(v.told_path(path)), m.Number)
        return self.own().unpin(path) if told is None else told.value

    def why(self, path: NamespacePath) -> Why:
        """Why the object's bytes are where they are."""
        told = self._asked(m.AskWhy(v.told_path(path)), m.ToldWhy)
        return self.own().why(path) if told is None else v.why_of(told)

    def mounts(self) -> Sequence[Mount]:
        """The mount table."""
        told = self._asked(m.AskMounts(), m.Mounts)
        return self.own().mounts() if told is None else [v.mount_of(each) for each in told.mounts]

    def add_mount(
        self, declaration: MountDeclaration, *, over: bool = False, checked: bool = True
    ) -> Sequence[Mount]:
        """Mount a store, for every process, the node too; the others that may reach its objects."""
        try:
            return self.own().add_mount(declaration, over=over, checked=checked)
        finally:
            self._changed(declaration.mount.path)

    def remove_mount(self, path: NamespacePath) -> None:
        """Undo `add_mount`."""
        try:
            self.own().remove_mount(path)
        finally:
            self._changed(path)

    def status(self) -> Status:
        """What the node holds and has done."""
        self._tell_counts()
        told = self._asked(m.AskStatus(), m.ToldStatus)
        return self.own().status() if told is None else v.status_of(told, str(self._file))

    def totals(self) -> Totals:
        """What all processes that share the cache folder have done."""
        self._tell_counts()
        told = self._asked(m.AskTotals(), m.ToldTotals)
        return self.own().totals() if told is None else told.totals

    def flush(self) -> None:
        """Return when the next process will find warm what was read and may be kept."""
        if self._own is not None:
            self._own.flush()
        self._asked(m.Flush(), m.Done)

    def close(self) -> None:
        """Let go of the node, and of what this process has by itself."""
        with self._lock:
            self._closed = True
            node, self._connection = self._connection, None
            own, self._own = self._own, None
        if node is not None:
            node.close()
        if own is not None:
            own.close()

    def after_fork_in_child(self) -> None:
        """The session is the parent's: begin one of our own at the next use."""
        self._lock = threading.Lock()
        self._untold.after_fork_in_child()
        self._ahead = Ahead()  # so too the lock of this one
        node, self._connection = self._connection, None
        self._retry_at = 0.0
        if node is not None:
            node.abandon_in_child()
        if self._own is not None:
            self._own.after_fork_in_child()

    def own(self) -> CacheService:
        """A cache of this process, for what the node does not do, or cannot now."""
        with self._lock:
            if self._closed:
                raise ConfigError("this headrace service was closed", hint="connect again")
            if self._own is None:
                self._own = self._open_own()
            return self._own

    def _connected(self) -> NodeConnection:
        return NodeConnection(self._file, *self._hello)

    def _node(self) -> NodeConnection | None:
        """The session of now; None where there is no node."""
        node = self._connection
        if node is not None and not node.gone:
            return node
        with self._lock:
            if self._closed:
                raise ConfigError("this headrace service was closed", hint="connect again")
            node = self._connection
            if node is not None and not node.gone:
                return node
            if self._clock.monotonic() < self._retry_at:
                return None
            try:
                self._connection = found = self._connected()
            except (NodeGone, HeadraceError) as error:
                found = None
                longer = min(2 * self._retry_seconds, MOST_RETRY_SECONDS)
                again = isinstance(error, NodeSilent) and node is None  # not lost just now
                self._retry_seconds = longer if again else RETRY_SECONDS
                self._retry_at = self._clock.monotonic() + self._retry_seconds
                if node is not None:
                    _log.warning("%s; going on with a cache of this process", error)
                self._connection = None
            else:
                self._retry_seconds = RETRY_SECONDS
        if found is not None and self._untold:
            try:
                self._untold.tell(lambda changed: found.ask(changed, m.Done))
            except NodeGone as error:
                self._lost(error)
                return None
        return found

    def _asked(self, request: m.Request, kind: type[Answer]) -> Answer | None:
        """The node's answer; None where there is no node."""
        node = self._node()
        if node is None:
            return None
        try:
            return node.ask(request, kind)
        except NodeGone as error:
            self._lost(error)
            return None

    def _tell_counts(self) -> None:
        """What was read without a call is to be counted in what is told next."""
        node = self._node()
        if node is not None:
            with suppress(NodeGone):
                node.tell_counts()

    def _lost(self, error: NodeGone) -> None:
        """The node has ended under a request."""
        with self._lock:
            if self._connection is not None and self._connection.gone:
                self._connection = None
                self._retry_at = self._clock.monotonic() + self._retry_seconds
                _log.warning("%s; going on with a cache of this process", error)

    def _opened_anew(self, path: NamespacePath) -> OpenObject:
        return self.open(path)

    def _changed(self, *paths: NamespacePath) -> None:
        """Tell the node that this process has changed what is at these paths; when there is one
        again, where there is none now."""
        self._untold.add(v.told_path(path) for path in paths)
        with self._lock:
            if self._connection is not None:
                self._connection.leases.clear()
        node = self._node()
        if node is None:
            return
        with suppress(HeadraceError):  # what the store said of the change matters more
            try:
                self._untold.tell(lambda changed: node.ask(changed, m.Done))
            except NodeGone as error:
                self._lost(error)
