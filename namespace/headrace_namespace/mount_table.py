"""Which mount answers for a path: longest prefix wins, mounts nest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headrace_namespace.freshness import CHECK, Freshness
from headrace_namespace.path import NamespacePath

#: A tag as mounts and policy rules write it: `key=value`, such as `pii=eu`.
TAG = re.compile(r"[^\s=*?]+=[^\s=*?]+")

#: The source of a mount that was made while processes run.
RUN_TIME = "run time"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table, without the store's options: those may hold secrets' names."""

    path: NamespacePath
    url: str
    freshness: Freshness = CHECK
    tags: tuple[str, ...] = field(default=())
    #: Whether writes are refused, whatever the store would allow.
    read_only: bool = False
    #: How long the cache may hold a byte of it after it was fetched; None for as long as it likes.
    ttl_seconds: float | None = None
    #: Tells a mount made at run time from one made later at the same path: they are never taken for
    #: one another. Empty for those of a configuration.
    mounting: str = ""
    #: Where it was declared, for people: `headrace.toml, line 3`, or `RUN_TIME`.
    source: str = field(default="", compare=False)

    def __hash__(self) -> int:
        return hash(self.path.text)  # every open looks its store up; few mounts share a path


class MountTable:
    """All mounts of a tree, by their paths."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._mounts: dict[str, Mount] = {}
        for mount in mounts:
            if mount.path.text in self._mounts:
                raise ValueError(f"two mounts have the path {mount.path}")
            self._mounts[mount.path.text] = mount

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """All mounts, by path."""
        return tuple(self._mounts[path] for path in sorted(self._mounts))

    def find(self, path: NamespacePath) -> Mount | None:
        """The mount that answers for `path`: the longest whose path leads to it; None if none."""
        folder = path
        while True:
            mount = self._mounts.get(folder.text)
            if mount is not None or folder.text == "/":
                return mount
            folder = folder.parent

    def names_below(self, folder: NamespacePath) -> Mapping[str, NamespacePath | None]:
        """The names in `folder` that mounts put there: name -> the mount's path where the name is
        the mount point itself, None where it only leads to deeper mounts."""
        names: dict[str, NamespacePath | None] = {}
        for mount in self._mounts.values():
            if mount.path == folder or not mount.path.is_under(folder):
                continue
            name = mount.path.relative_to(folder).split("/", 1)[0]
            if folder.child(name) == mount.path:
                names[name] = mount.path
            else:
                names.setdefault(name, None)
        return names
