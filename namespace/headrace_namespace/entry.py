"""What the tree shows of one path: the value behind `ls`, `stat` and fsspec's `info`."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_namespace.identity import ObjectVersion
from headrace_namespace.path import NamespacePath


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of the tree: an object where it has a version, else a folder.

    `mount` is the mount that it belongs to, None for a folder that only leads to mounts. An object
    that policy does not let this process look at shows in its folder's listing with its name alone:
    its version is `withheld`. Leaving it out would let a job take a part for the whole.
    """

    path: NamespacePath
    mount: NamespacePath | None
    version: ObjectVersion | None = None
    withheld: bool = False
    #: Whether a listing found it to be a symbolic link: who walks a tree to change it stops here.
    link: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder."""
        return self.version is None and not self.withheld

    @property
    def size(self) -> int:
        """Bytes of the object; 0 for a folder."""
        return self.version.size if self.version else 0

    def facts(self) -> dict[str, str | int | float | bool | None]:
        """The names that users rely on: `path type size mtime version strong mount`."""
        version = self.version
        return {
            "path": self.path.text,
            "type": "directory" if self.is_folder else "file",
            "size": None if self.withheld else self.size,
            "mtime": version.mtime if version else None,
            "version": version.tag if version else None,
            "strong": version.strong if version else None,
            "mount": self.mount.text if self.mount else None,
        }
