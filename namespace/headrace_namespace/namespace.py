"""One tree over many stores: resolve a path, learn its version, list it, read a range.

It knows nothing of caches and policy. The freshness contract is kept in `observing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from headrace_namespace.backends.protocol import ListPage
from headrace_namespace.clock import Clock
from headrace_namespace.declaration import MountDeclaration
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError, NotFolder, NotFound, VersionGone
from headrace_namespace.freshness import Freshness
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.listed import mount_point, tell_of_left_out
from headrace_namespace.listing_ahead import pages, pages_ahead
from headrace_namespace.metadata.listings import Listings
from headrace_namespace.metadata.own_writes import OwnWrites
from headrace_namespace.metadata.protocol import MetadataStore, Observation
from headrace_namespace.mount_table import Mount
from headrace_namespace.observing import LINKS_SECONDS, Observing
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Location, Name, Resolved
from headrace_namespace.roots import below_root
from headrace_namespace.tree import MountedStore, Trees

__all__ = ["MountedStore", "Namespace"]


class Namespace:
    """The tree. Safe to use from many threads."""

    def __init__(
        self,
        trees: Trees,
        metadata: MetadataStore,
        listings: Listings,
        clock: Clock,
        on_written: Callable[[], None] | None = None,
    ) -> None:
        """`on_written` is called, and must return at once, when anything was written here."""
        self._trees = trees
        self._on_written = on_written
        self._metadata = metadata
        self._listings = listings
        self._clock = clock
        self._writes = OwnWrites()
        #: The freshness contract.
        self.observing = Observing(
            trees, metadata, listings, clock, self._writes, on_changed=on_written
        )

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """The mount table's lines."""
        return self._trees.look().table.mounts

    def requests(self) -> Mapping[str, Mapping[str, int]]:
        """How often each operation was asked of each mount's store."""
        return self._trees.requests()

    def add_mount(
        self, declaration: MountDeclaration, *, over: bool = False, checked: bool = True
    ) -> Sequence[Mount]:
        """Mount a store for all processes, until it is unmounted; the other mounts that may reach
        the same objects. `over` hides what is at the path, unless `checked` the store is not asked.

        Raises AlreadyExists, ConfigError, and what the store says.
        """
        return self._trees.add(declaration, over=over, checked=checked)

    def remove_mount(self, path: NamespacePath) -> None:
        """Undo `add_mount`. Raises NotFound, and ConfigError for a mount of the configuration."""
        self._trees.remove(path)

    def store_of(self, mount: Mount) -> MountedStore:
        """The store behind a mount. Raises NotFound where it was unmounted since."""
        return self._trees.tree.store_of(mount)

    def written(self, ref: ObjectRef, version: ObjectVersion | None) -> None:
        """This process has just made this version of the object, or (None) deleted it: no earlier
        answer of the store may stand in for that."""
        folder, _, _ = str(ref).rpartition("/")
        with self._writes.lock:
            self._writes.note(folder, str(ref))
            self._listings.forget(folder)
            self._listings.forget(str(ref))
            if version is None:
                self._metadata.forget(ref)
            else:
                self._metadata.put(Observation(version, self._clock.monotonic()))
        if self._on_written is not None:
            self._on_written()

    def moved(self, ref: ObjectRef) -> None:
        """What is at `ref`, and all below it, was or may have been given another name."""
        self.written(ref, None)
        with self._writes.lock:
            self._writes.note_all()
            self._listings.forget_below(str(ref))
            self._metadata.forget_below(ref)
        if self._on_written is not None:
            self._on_written()

    def mount_of(self, path: NamespacePath) -> Mount | None:
        """The mount that answers for `path`, as far as is known without looking; no store is
        asked."""
        return self._trees.tree.table.find(path)

    def mounted(self, *, at_once: bool = False) -> object:
        """Stands for the mounts of now: the same object for as long as they stay the same.

        `at_once`: those of this moment, not of a second ago.
        """
        return self._trees.look(at_once=at_once)

    def resolve(self, path: NamespacePath) -> Resolved:
        """Where `path` leads, and by which other names; no remote store is asked.

        Raises NotFound where no mount answers for it.
        """
        tree = self._trees.look()
        mount = tree.table.find(path)
        if mount is None:
            if not tree.table.names_below(path) and path.text != "/":
                raise NotFound(
                    f"no mount answers for {path}",
                    path=path.text,
                    hint=tree.mounted_hint(),
                )
            return Resolved(path, None, "", None, (Name(path, path, frozenset()),))
        backend = tree.stores[mount].backend
        # Its names are as old as the look at where the other mounts lead: who relies on them for
        # `LINKS_SECONDS` more would rely on a link for longer than that.
        looked_at = math.inf
        if backend.stat_is_cheap:
            looked_at = min(self._clock.monotonic(), tree.looked_at())
        key = path.relative_to(mount.path)
        names = [Name(path, mount.path, frozenset(mount.tags))]
        trail = backend.trail(key)
        ref = trail[-1]
        # Without a link, its own mount knows it by this one path.
        besides = mount if len(trail) == 1 else None
        locations = tuple(Location(backend.space, step.key) for step in trail)
        for location in locations:
            names += (
                name for name in tree.names_at(location, besides=besides) if name.path != path
            )
        return Resolved(path, mount, key, ref, tuple(names), locations, looked_at)

    def names_at(self, location: Location) -> tuple[Name, ...]:
        """By which names that is reached now what lies at `location`, through whatever mounts: also
        where another mount hides it there, or where a mount's URL leads on by links."""
        tree, names = self._trees.look(), dict[Name, None]()
        for store in tree.reaching(location):
            trail = store.backend.trail("")
            below = below_root(location.key, trail[-1].key)
            for step in trail if below is not None else ():
                key = f"{step.key.rstrip('/')}/{below}" if below else step.key
                names.update(dict.fromkeys(tree.names_at(Location(location.space, key))))
        return tuple(names)

    def still(self, resolved: Resolved) -> Resolved:
        """`resolved` itself where the links on its way were looked at a moment ago, else what its
        path leads to now. It is of the mounts of now."""
        if self._clock.monotonic() - resolved.looked_at <= LINKS_SECONDS:
            return resolved
        return self.resolve(resolved.path)

    def stat(
        self, resolved: Resolved, freshness: Freshness | None = None, *, opening: bool = False
    ) -> Entry:
        """What is there now, as fresh as `freshness` (else the mount's own) demands.

        `opening` says that a version is about to be pinned: a listing may validate that only once.
        Raises NotFound.
        """
        path, mount = resolved.path, resolved.mount
        if mount is None:
            return Entry(path, None)
        version = self.observing.observe(resolved, mount, freshness, opening=opening)
        if version is None and self._trees.tree.table.names_below(path):
            return Entry(path, mount.path)
        if version is None:
            raise NotFound(
                f"{path} does not exist",
                path=path.text,
                store=self.store_of(mount).backend.name,
                hint=_escape_hint(path),
            )
        if isinstance(version, ObjectVersion):
            return Entry(path, mount.path, version)
        return Entry(path, mount.path, link=self._is_link(resolved, mount))

    def list(self, resolved: Resolved) -> Iterator[Entry]:
        """The children of a folder, part by part as the store gives them; an object as itself.

        Raises NotFound.
        """
        path, mount, tree = resolved.path, resolved.mount, self._trees.look()
        mounted = tree.table.names_below(path)
        for name, point in mounted.items():
            yield mount_point(tree, path.child(name), point)
        if mount is None:
            return
        try:
            for child in self._children(resolved, mount):
                if child.path.name not in mounted:
                    yield child
        except NotFolder:
            yield self.stat(resolved)
        except NotFound as error:
            if not mounted:
                raise error.at(path=path.text) from None

    def read_into(
        self, mount: Mount, version: ObjectVersion, start: int, target: memoryview
    ) -> None:
        """Fill `target` with this version's bytes from `start` on. Raises VersionGone."""
        store = self.store_of(mount)
        if version.ref.store != self._trees.tree.root(store).store:
            raise VersionGone(
                f"another store was mounted at {mount.path} since it was opened",
                path=mount.path.text,
                hint="open it again",
            )
        store.backend.read_into(version, start, target)

    def fetchers(self, mount: Mount) -> Offload:
        """The threads that fetch from this mount's store."""
        return self.store_of(mount).fetchers

    def close(self) -> None:
        """Let go of every store."""
        self._trees.close()

    def _is_link(self, resolved: Resolved, mount: Mount) -> bool:
        """Whether the last name leads elsewhere than into the folder that it stands in."""
        if not resolved.key or resolved.ref is None:
            return False
        above, _, name = resolved.key.rpartition("/")
        folder = self.store_of(mount).backend.ref(above).key
        return f"{folder}/{name}".strip("/").replace("//", "/") != resolved.ref.key.strip("/")

    def _children(self, resolved: Resolved, mount: Mount) -> Iterator[Entry]:
        store, now = self.store_of(mount), self._clock.monotonic()
        folder = str(resolved.ref).rstrip("/")
        mark = self._writes.mark(folder)
        for page in self._pages(resolved, store, now, mark):
            tell_of_left_out(store.backend.name, page)
            if mount.freshness.max_age_seconds > 0:
                with self._writes.lock:
                    for child in page.children if self._writes.mark(folder) == mark else ():
                        if child.version is not None and child.settled:
                            self.observing.remember(mount, Observation(child.version, now))
            for child in page.children:
                path = resolved.path.child(child.name)
                yield Entry(path, mount.path, child.version, link=child.link)

    def _pages(
        self, resolved: Resolved, store: MountedStore, now: float, mark: tuple[int, int]
    ) -> Iterator[ListPage]:
        """The parts of a listing, remembered where they may validate opens."""
        ref = resolved.ref
        assert ref is not None  # it has a mount

        def ask(token: str | None) -> ListPage:
            try:
                return store.backend.list_page(ref, token)
            except HeadraceError as error:
                raise error.at(
                    path=resolved.path.text, store=store.backend.name
                ) from error.__cause__

        def ask_and_keep(token: str | None) -> ListPage:
            folder = str(ref).rstrip("/")
            try:
                page = ask(token)
            except HeadraceError:
                self._listings.forget(folder)
                raise
            settled = {
                child.name: child.version
                for child in page.children
                if child.version is not None and child.settled
            }
            with self._writes.lock:
                if self._writes.mark(folder) == mark:
                    if token is None:  # not before: until then it may be no folder at all
                        self._listings.begin(folder, now)
                    self._listings.add(folder, now, settled)
            return page

        return pages(ask) if store.backend.stat_is_cheap else pages_ahead(ask_and_keep, store.looks)


def _escape_hint(path: NamespacePath) -> str | None:
    """A hint for those who write a URL's escapes: paths here are literal."""
    if "%" in path.text:
        return "paths are literal: write a space as a space, not as %20"
    return None
