"""What must hold before a store is mounted: a free place in the tree, and a store that answers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from headrace_namespace.backends.protocol import Backend, Folder
from headrace_namespace.errors import (
    AlreadyExists,
    MountEmpty,
    NotFolder,
    NotFound,
    StoreMissing,
)
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath
from headrace_namespace.tree import MountedStore, Tree


def require_free(tree: Tree, path: NamespacePath, *, over: bool) -> None:
    """Raises AlreadyExists where the path is a mount, an object, or (without `over`) a folder with
    something in it, and NotFolder where an object lies on the way to it. Asks the store around."""
    for mount in tree.table.mounts:
        if mount.path.folded == path.folded:
            raise AlreadyExists(
                f"{mount.path} is mounted already: {mount.url} ({mount.source})",
                path=path.text,
                hint="unmount it first, or take another path",
            )
    around = tree.table.find(path)
    if around is None:
        return
    store = tree.stores[around]
    try:
        _require_room(store, path, over=over)
    except StoreMissing:
        return  # there is nothing that could be in the way


def _require_room(store: MountedStore, path: NamespacePath, *, over: bool) -> None:
    """No object on the way in the store around, and at `path` nothing that would be hidden."""
    around, key = store.mount.path, ""
    for name in ("", *path.relative_to(around).split("/")):
        key = f"{key}/{name}".lstrip("/")
        shown = around.below(key)
        found = store.looks.run(functools.partial(store.backend.stat, key))
        if isinstance(found, ObjectVersion) and shown != path:
            raise NotFolder(
                f"{shown} is a file, so nothing can be mounted below it", path=path.text
            )
        if isinstance(found, ObjectVersion):
            raise AlreadyExists(
                f"{path} is a file", path=path.text, hint="a mount needs a path of its own"
            )
        if found is None:
            return  # nor is anything below
    if not over and _holds_something(store, key):
        raise AlreadyExists(
            f"{path} is a folder with something in it, which the mount would hide",
            path=path.text,
            hint="take another path, or mount over it: --over",
        )


def _holds_something(store: MountedStore, key: str) -> bool:
    ref, token = store.backend.ref(key), None
    while True:
        try:
            page = store.looks.run(functools.partial(store.backend.list_page, ref, token))
        except NotFound:
            return False
        if page.children or page.unnameable:
            return True
        token = page.next_token
        if token is None:
            return False


def ask_store(backend: Backend, tree: Tree, path: NamespacePath) -> None:
    """Ask a store once what lies at its root, so that what is wrong with it is told now.

    Nothing below a prefix of a bucket yet is fine: the first write makes it. Raises what the store
    says, and NotFolder where a single file would have to hold other mounts.
    """
    try:
        found = backend.stat("")
        if isinstance(found, Folder):
            backend.list_page(backend.ref(""), None)
    except MountEmpty:
        return
    if found is None:
        raise StoreMissing(
            f"{backend.name} is neither a file nor a folder",
            store=backend.name,
            hint="check the url",
        )
    below = tree.table.names_below(path)
    if isinstance(found, ObjectVersion) and below:
        raise NotFolder(
            f"{backend.name} is a single file, and below {path} there are other mounts",
            path=path.text,
        )


def same_objects(tree: Tree, backend: Backend) -> Sequence[Mount]:
    """The mounts that may reach some of the same objects as a store that is not mounted yet."""
    root = backend.ref("").key
    return [
        store.mount for store in tree.sharing(backend.space) if _overlap(tree.root(store).key, root)
    ]


def _overlap(one: str, other: str) -> bool:
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    shallow, deep = sorted((one, other), key=len)
    return shallow == "/" or deep.startswith(shallow)
