"""What headrace asks of a store. Each kind of store answers it in one file of this folder.

Every method blocks, may be called from many threads at once, and either answers, or raises an error
of `headrace_namespace.errors`: foreign errors are translated where they enter. Keys are relative to
the mount: `a/b.parquet`, and the empty key is the mount's own root. The conformance suite in
`tests/conformance/backend_suite.py` holds every backend to these sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from headrace_namespace.clock import Clock
from headrace_namespace.identity import ObjectRef, ObjectVersion


@dataclass(frozen=True, slots=True)
class Folder:
    """The answer that a key is a folder."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One child of a listed folder; a folder where it has no version.

    `settled` is False where the version that the listing shows could still change without showing
    it (a file written within the clock's grain), so that it must not stand in for a stat.
    """

    name: str
    version: ObjectVersion | None
    settled: bool = True


@dataclass(frozen=True, slots=True)
class ListPage:
    """A part of a folder's listing; `next_token` continues it, None ends it.

    `unnameable` counts the names left out because no path of the tree can spell them (`a//b`).
    """

    children: tuple[Listed, ...]
    next_token: str | None
    unnameable: int = 0


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What a backend is given by the place that builds it: never fetched by itself."""

    clock: Clock
    environ: Mapping[str, str]
    base_folder: str


class Backend(Protocol):
    """One store, seen through one mount."""

    @property
    def name(self) -> str:
        """The store in a few words for messages and errors; never a credential."""
        ...

    @property
    def stat_is_cheap(self) -> bool:
        """Whether asking for one object costs no more than a look into a table (a local file):
        then a listing never stands in for a stat."""
        ...

    def ref(self, key: str) -> ObjectRef:
        """The object's identity across mounts, made without asking a remote store. A local
        backend resolves symbolic links here."""
        ...

    @property
    def space(self) -> str:
        """What stores must have in common for their keys to name the same objects (`s3:bucket`,
        `file:`).

        It leaves out what may differ between two ways to one store (endpoint, credentials), so two
        equal keys of one space *may* be one object: enough for policy, which no alias may weaken.
        """
        ...

    def stat(self, key: str) -> ObjectVersion | Folder | None:
        """What the key is now: the object's version, a folder, or nothing (None).

        Raises StoreMissing where the mount's own bucket or folder is gone.
        """
        ...

    def trail(self, key: str) -> tuple[ObjectRef, ...]:
        """All refs by which the key leads to its object, `ref(key)` the last of them.

        A local backend names each step of a chain of symbolic links, for a link is a name too.
        """
        ...

    def list_page(self, ref: ObjectRef, token: str | None) -> ListPage:
        """The next part of a folder's children, in any order, each once.

        It takes a ref, not a key, so that what is listed is what policy judged, whatever becomes
        of a link on the way.

        `token` is None for the first part. A part holds at most a few thousand children. Raises
        NotFound where there is nothing, NotFolder where the key is an object. Names that the tree
        cannot hold (`headrace_namespace.path.can_name`) are left out.
        """
        ...

    def read_into(self, version: ObjectVersion, start: int, target: memoryview) -> None:
        """Fill all of `target` with the bytes of exactly this version from `start` on, or raise.

        `start + len(target)` is at most the version's size; `target` is writable and contiguous.
        Raises VersionGone where the object was replaced or deleted. What `target` holds after an
        error is undefined; without one it never holds bytes of another version.
        """
        ...

    def close(self) -> None:
        """Let go of connections; the backend is not used afterwards."""
        ...
