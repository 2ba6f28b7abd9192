"""The mounts and their stores at one moment: a value, replaced as a whole when mounts change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.backends.protocol import Backend
from headrace_namespace.clock import Clock
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.errors import ConfigError, NotFound
from headrace_namespace.identity import ObjectRef
from headrace_namespace.mount_table import Mount, MountTable
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Location, Name
from headrace_namespace.roots import Roots

#: How many mounts an error names at most.
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class MountedStore:
    """A mount and the store behind it: `backend` wears every wrapper, `observed` counts.

    Each has threads of its own, so that a store that stalls holds up no other: `fetchers` for
    bytes, `looks` for stats and listings.
    """

    mount: Mount
    backend: Backend
    observed: ObservedBackend
    fetchers: Offload
    looks: Offload

    def close(self) -> None:
        """Let go of it. What is under way still ends; nothing more is taken."""
        self.fetchers.close()
        self.looks.close()
        self.backend.close()


class Tree:
    """The mount table and its stores at one moment; a change of mounts makes another."""

    def __init__(self, stores: Sequence[MountedStore], clock: Clock) -> None:
        self.table = MountTable(store.mount for store in stores)
        self.stores = {store.mount: store for store in stores}
        self._by_space: dict[str, list[MountedStore]] = {}
        for store in stores:
            self._by_space.setdefault(store.backend.space, []).append(store)
        self._roots = Roots({store.mount: store.backend for store in stores}, clock)

    def store_of(self, mount: Mount) -> MountedStore:
        """The store behind a mount. Raises NotFound where it was unmounted since."""
        store = self.stores.get(mount)
        if store is None:
            raise NotFound(f"{mount.path} was unmounted", path=mount.path.text)
        return store

    def sharing(self, space: str) -> Sequence[MountedStore]:
        """The stores whose keys may name the same objects (see `Backend.space`)."""
        return self._by_space.get(space, ())

    def names_at(self, location: Location, *, besides: Mount | None = None) -> Iterator[Name]:
        """By which names the mounts, but for one, reach what lies there; one hidden under another
        mount counts too."""
        for mount, below in self._roots.reaching(location):
            if mount is not besides:
                yield Name(mount.path.below(below), mount.path, frozenset(mount.tags))

    def reaching(self, location: Location) -> list[MountedStore]:
        """The stores in whose mounts it lies."""
        return [self.stores[mount] for mount, _ in self._roots.reaching(location)]

    def looked_at(self) -> float:
        """When it was looked at where the mounts lead, by the monotonic clock."""
        return self._roots.looked_at()

    def root(self, store: MountedStore) -> ObjectRef:
        """What the mount's own root is in its store."""
        return self._roots.of(store.mount)

    def mounted_hint(self) -> str:
        """What is mounted, or how to begin, for an error about a path that no mount answers for."""
        paths = [mount.path.text for mount in self.table.mounts]
        if not paths:
            return "nothing is mounted yet: headrace mount /data /srv/data"
        more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
        return f"mounted: {', '.join(paths[:MOST_NAMED])}{more}"


class Trees(Protocol):
    """Gives the tree as it is now. Safe to use from many threads."""

    @property
    def tree(self) -> Tree:
        """The tree as last seen; asks nobody."""
        ...

    def look(self, *, at_once: bool = False) -> Tree:
        """The tree after a look at whether mounts were made or undone, made now and then, or
        `at_once`."""
        ...

    def requests(self) -> Mapping[str, Mapping[str, int]]:
        """How often each operation was asked of each mount's store, also of those unmounted."""
        ...

    def add(self, declaration: MountDeclaration, *, over: bool, checked: bool) -> Sequence[Mount]:
        """Mount a store, for all processes; the other mounts that may reach the same objects."""
        ...

    def remove(self, path: NamespacePath) -> None:
        """Undo `add`. Raises NotFound, and ConfigError for a mount of the configuration."""
        ...

    def close(self) -> None:
        """Let go of every store."""
        ...


class FixedTree:
    """A tree that never changes."""

    def __init__(self, stores: Sequence[MountedStore], clock: Clock) -> None:
        self.tree = Tree(stores, clock)

    def look(self, *, at_once: bool = False) -> Tree:
        """The tree."""
        return self.tree

    def requests(self) -> Mapping[str, Mapping[str, int]]:
        """How often each operation was asked of each mount's store."""
        stores = self.tree.stores.values()
        return {store.mount.path.text: store.observed.requests() for store in stores}

    def add(self, declaration: MountDeclaration, *, over: bool, checked: bool) -> Sequence[Mount]:
        """Raises ConfigError: it never changes."""
        raise ConfigError("the mounts of this tree are fixed")

    def remove(self, path: NamespacePath) -> None:
        """Raises ConfigError: it never changes."""
        raise ConfigError("the mounts of this tree are fixed")

    def close(self) -> None:
        """Let go of every store."""
        for store in self.tree.stores.values():
            store.close()
