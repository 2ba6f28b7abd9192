"""The tree, read and written through a node of another host: `CacheService` over HTTP.

Nothing is done without the node: this host may have neither the configuration nor the stores'
credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn
from urllib.parse import quote_from_bytes

from headrace_cache.access import NodeAddress
from headrace_cache.policy.explanation import PolicyExplanation
from headrace_cache.remote.http_client import HttpNodeClient
from headrace_cache.remote.http_object import HttpObject
from headrace_cache.remote.http_writer import HttpWriter
from headrace_cache.service import OpenObject, OpenWriter, Status, Totals, Why
from headrace_cache.wire import changes as c
from headrace_cache.wire import messages as m
from headrace_cache.wire import routes
from headrace_cache.wire import values as v
from headrace_cache.wire.told import ToldEntry
from headrace_namespace.clock import Clock
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.entry import Entry
from headrace_namespace.errors import ConfigError, HeadraceError, StoreUnavailable
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath

#: Bytes of a listing that are read at once, so that who takes its entries slowly keeps no
#: connection of the node waiting; some 100,000 entries.
READ_AT_ONCE_BYTES = 16 << 20
#: How often a longer listing may be cut short and begun anew.
MOST_LISTING_CUTS = 3


class HttpNodeService:
    """The tree of a node of another host. Safe to use from many threads and forks."""

    def __init__(self, address: NodeAddress, release: str, clock: Clock) -> None:
        """Asks nobody yet. Raises ConfigError where a certificate cannot be used."""
        self._node = HttpNodeClient(address, release, clock)
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return not self._closed

    @property
    def authority(self) -> str:
        """The node, `host:port`."""
        return self._node.address.authority

    def stat(self, path: NamespacePath, freshness: Freshness | None = None) -> Entry:
        """What `path` is."""
        asked = m.Stat(v.told_path(path), v.told_age(freshness))
        return v.entry_of(self._client().ask(asked, m.Found).entry)

    def list(self, path: NamespacePath) -> Iterator[Entry]:
        """The children of a folder, streamed."""
        client, given = self._client(), set[bytes]()
        for cuts in range(1 + MOST_LISTING_CUTS):
            try:
                for told in self._listed(client, path):
                    if told.path not in given:
                        given.add(told.path)
                        yield v.entry_of(told)
                return
            except HeadraceError as error:
                cut = isinstance(error, StoreUnavailable) and not error.answered
                if not cut or not given or cuts == MOST_LISTING_CUTS:
                    client.named(error, path)
                    raise

    def _listed(self, client: HttpNodeClient, path: NamespacePath) -> Iterator[ToldEntry]:
        parts = client.listed(m.List(v.told_path(path)))
        at_once: list[m.Listed] = []
        taken = 0
        for part in parts:
            at_once.append(part)
            taken += m.MOST_LISTED_BYTES
            if taken >= READ_AT_ONCE_BYTES:
                break
        for part in at_once:
            yield from part.entries
        for part in parts:
            yield from part.entries

    def open(self, path: NamespacePath, freshness: Freshness | None = None) -> OpenObject:
        """The object, its version pinned."""
        client = self._client()
        asked = c.OpenOne(v.told_path(path), v.told_age(freshness))
        return HttpObject(client, client.ask(asked, c.OpenedOne))

    def explain(self, path: NamespacePath) -> PolicyExplanation:
        """What the policy decides of `path`, and why."""
        return v.explanation_of(self._client().ask(m.Explain(v.told_path(path)), m.Explained))

    def create(
        self, path: NamespacePath, *, exclusive: bool = False, if_version: str | None = None
    ) -> OpenWriter:
        """Write an object anew, or in place of what is there."""
        client = self._client()
        asked = c.MayWrite(v.told_path(path), exclusive, if_version, append=False)
        client.ask(asked, c.Writable)
        headers: dict[str, str] = {"If-None-Match": "*"} if exclusive else {}
        if if_version is not None:
            headers[routes.TAG_HEADER] = quote_from_bytes(v.raw(if_version))
        return HttpWriter(client, path, headers, 0)

    def append(self, path: NamespacePath) -> OpenWriter:
        """Write an object that begins with what is there now."""
        client = self._client()
        asked = c.MayWrite(v.told_path(path), exclusive=False, if_version=None, append=True)
        told = client.ask(asked, c.Writable)
        headers = {routes.APPEND_HEADER: "true"}
        if told.version is None:
            headers["If-None-Match"] = "*"
        else:
            headers["If-Match"] = f'"{told.version}"'
        return HttpWriter(client, path, headers, told.size)

    def copy(
        self, source: NamespacePath, target: NamespacePath, *, exclusive: bool = False
    ) -> ObjectVersion:
        """Copy one object; the new version."""
        asked = c.Copy(v.told_path(source), v.told_path(target), exclusive)
        return v.version_of(self._client().ask(asked, c.Made).version)

    def rename(self, source: NamespacePath, target: NamespacePath) -> bool:
        """Give a file or folder another name in one step; False where that cannot be."""
        asked = c.Rename(v.told_path(source), v.told_path(target))
        return self._client().ask(asked, m.Number).value != 0

    def lies_in(self, path: NamespacePath, folder: NamespacePath) -> bool:
        """Whether what is written to `path` comes to lie in `folder`, by whatever names."""
        asked = c.LiesIn(v.told_path(path), v.told_path(folder))
        return self._client().ask(asked, m.Number).value != 0

    def delete(self, paths: Sequence[NamespacePath]) -> Mapping[NamespacePath, HeadraceError]:
        """Delete objects; what went wrong, by path."""
        client, wrong = self._client(), dict[NamespacePath, HeadraceError]()
        for request in c.deletions(paths):
            wrong |= c.wrong_of(client.ask(request, c.Wrong))
        return {path: client.named(error, path) for path, error in wrong.items()}

    def make_folder(
        self, path: NamespacePath, *, exist_ok: bool = False, like: NamespacePath | None = None
    ) -> None:
        """Make a folder, and those above it; `like` is the folder whose name it takes."""
        told = None if like is None else v.told_path(like)
        self._client().ask(c.MakeFolder(v.told_path(path), exist_ok, told), m.Done)

    def remove_folder(self, path: NamespacePath) -> None:
        """Remove an empty folder."""
        self._client().ask(c.RemoveFolder(v.told_path(path)), m.Done)

    def drop(self, path: NamespacePath) -> int:
        """Forget what the cache holds of the object's version of now; how many bytes."""
        return self._client().ask(m.Drop(v.told_path(path)), m.Number).value

    def pin(self, path: NamespacePath) -> int:
        """Bring the object into the node's SSD tier whole and keep it there; its bytes."""
        return self._client().ask(m.Pin(v.told_path(path)), m.Number).value

    def unpin(self, path: NamespacePath) -> int:
        """Let a pinned object leave again when its turn comes; its bytes, 0 if it was not."""
        return self._client().ask(m.Unpin(v.told_path(path)), m.Number).value

    def why(self, path: NamespacePath) -> Why:
        """Why the object's bytes are where they are."""
        return v.why_of(self._client().ask(m.AskWhy(v.told_path(path)), m.ToldWhy))

    def mounts(self) -> Sequence[Mount]:
        """The node's mount table."""
        told = self._client().ask(m.AskMounts(), m.Mounts)
        return [v.mount_of(each) for each in told.mounts]

    def add_mount(
        self, declaration: MountDeclaration, *, over: bool = False, checked: bool = True
    ) -> Sequence[Mount]:
        """Raises ConfigError: a store's credentials are the node's own matter."""
        self._refuse_mounts()

    def remove_mount(self, path: NamespacePath) -> None:
        """Raises ConfigError."""
        self._refuse_mounts()

    def _refuse_mounts(self) -> NoReturn:
        raise ConfigError(
            f"mounts of {self._node.where} are not made or undone from here",
            hint="do it on the node's host, by its configuration",
        )

    def status(self) -> Status:
        """What the node holds and has done."""
        told = self._client().ask(m.AskStatus(), m.ToldStatus)
        return v.status_of(told, str(self._node.address.endpoint))

    def totals(self) -> Totals:
        """What all processes that share the node's cache folder have done."""
        return self._client().ask(m.AskTotals(), m.ToldTotals).totals

    def flush(self) -> None:
        """Return when what the node has read would outlive it, where that may be kept."""
        self._client().ask(m.Flush(), m.Done)

    def close(self) -> None:
        """Let go of the connections; the node stays as it is."""
        self._closed = True
        self._node.close()

    def after_fork_in_child(self) -> None:
        """Nothing to do: the pool of connections begins anew by itself."""

    def _client(self) -> HttpNodeClient:
        if self._closed:
            raise ConfigError("this headrace service was closed", hint="connect again")
        return self._node
