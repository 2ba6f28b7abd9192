"""What a listing shows beside the store's own children, and what it leaves out."""

from __future__ import annotations

import logging

from headrace_namespace.backends.protocol import ListPage
from headrace_namespace.entry import Entry
from headrace_namespace.errors import HeadraceError
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath
from headrace_namespace.tree import Tree

_log = logging.getLogger(__name__)


def mount_point(tree: Tree, path: NamespacePath, point: NamespacePath | None) -> Entry:
    """How a mount point shows in its parent: never waiting for a store that may be far."""
    mount = tree.table.find(point) if point is not None else None
    store = tree.stores.get(mount) if mount is not None else None
    if store is not None and store.backend.stat_is_cheap:
        try:
            found = store.backend.stat("")
        except HeadraceError:
            found = None  # it is still a mount point; opening it will say what is wrong
        if isinstance(found, ObjectVersion):
            return Entry(path, point, found)
    return Entry(path, point)


def tell_of_left_out(store: str, page: ListPage) -> None:
    """Say what a listing cannot show; without names, for a restricted one must not reach a log."""
    for count, what in (
        (page.unnameable, "names that no path can spell (such as a//b)"),
        (page.hidden, "folders of which an object has the very name"),
    ):
        if count:
            _log.warning("%s: a listed folder holds %d %s; they are left out", store, count, what)
