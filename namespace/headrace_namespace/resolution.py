"""What a path of the tree leads to, before any store was asked: the mount, the key, all names."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from headrace_namespace.identity import ObjectRef
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath


@dataclass(frozen=True, slots=True)
class Name:
    """One name by which an object can be reached: its path, the mount, and the mount's tags.

    None means that it could not be found out; policy then takes the strictest view.
    """

    path: NamespacePath
    mount: NamespacePath | None
    tags: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Location:
    """Where an object lies, by whatever mounts it is reached: `space` is that of its backend, `key`
    the object's full name there. Names come and go with mounts; a location stays."""

    space: str
    key: str

    @property
    def folder(self) -> Location:
        """The folder that it lies in."""
        return Location(self.space, self.key.rpartition("/")[0])


@dataclass(frozen=True, slots=True)
class Resolved:
    """A path and where it leads. `mount` and `ref` are None for a folder that only leads to mounts.

    `names` holds every name of the same object that the mount table gives it, this one first:
    another mount of the same bucket, the target of a symbolic link. They hold for `ref` alone: a
    version of another ref (a link that was switched since) must be resolved anew. `locations` is
    where the object lies, and before it each location from which a link led there.

    `looked_at` is when the links on the way were looked at, in seconds of the monotonic clock; inf
    where the store has none.
    """

    path: NamespacePath
    mount: Mount | None
    key: str
    ref: ObjectRef | None
    names: tuple[Name, ...]
    locations: tuple[Location, ...] = ()
    looked_at: float = field(default=math.inf, compare=False)
