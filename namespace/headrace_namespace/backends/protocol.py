"""What headrace asks of a store. Each kind of store answers it in one file of this folder.

Every method blocks, may be called from many threads at once, and either answers, or raises an error
of `headrace_namespace.errors`: foreign errors are translated where they enter. Keys are relative to
the mount: `a/b.parquet`, and the empty key is the mount's own root. The conformance suite in
`tests/conformance/backend_suite.py` and the write suite beside it hold every backend to these
sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from headrace_namespace.clock import Clock
from headrace_namespace.errors import HeadraceError
from headrace_namespace.identity import ObjectRef, ObjectVersion


@dataclass(frozen=True, slots=True)
class Folder:
    """The answer that a key is a folder."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One child of a listed folder; a folder where it has no version.

    `settled` is False where the version that the listing shows could still change without showing
    it (a file written within the clock's grain), so that it must not stand in for a stat. `link`
    says that the name is a symbolic link: what lies in it has other names.
    """

    name: str
    version: ObjectVersion | None
    settled: bool = True
    link: bool = False


@dataclass(frozen=True, slots=True)
class ListPage:
    """A part of a folder's listing; `next_token` continues it, None ends it.

    `unnameable` counts the names left out because no path of the tree can spell them (`a//b`), and
    `hidden` the folders left out because an object has their very name, which a path can mean once.
    """

    children: tuple[Listed, ...]
    next_token: str | None
    unnameable: int = 0
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What a backend is given by the place that builds it: never fetched by itself."""

    clock: Clock
    environ: Mapping[str, str]
    base_folder: str


class There(Enum):
    """What must be there for a write to be made, where no one version is meant."""

    ANYTHING = "anything"
    NOTHING = "nothing"


#: The condition of a write: anything may be there, nothing may, or exactly this version must.
Expected: TypeAlias = There | ObjectVersion

#: What an upload may begin with has at least so many bytes: S3's smallest part is 5 MiB.
LEAST_BASE_BYTES = 8 << 20

#: The most keys that one `Backend.delete` is given: as many as one request of S3 takes.
MOST_DELETED = 1000


class Upload(Protocol):
    """A new object on its way, part by part; nobody sees any of it before `commit`.

    The parts together are the object: each but the last has exactly `part_bytes(index)` bytes, and
    the last at least one. End an upload by `commit` or `abort`, in any case.
    """

    @property
    def parallel_parts(self) -> int:
        """How many parts may be put at the same time; 1 where they must come in order."""
        ...

    def part_bytes(self, index: int) -> int:
        """How long part `index` must be, unless it is the last."""
        ...

    def put_part(self, index: int, data: memoryview) -> None:
        """Send one part. The same part may be put again after an error, and takes the place of
        what was sent before. Raises StoreFull where the store cannot hold so much."""
        ...

    def commit(self, parts: int) -> ObjectVersion:
        """Let the object of parts 0 to `parts` (exclusive) take its place, whole and at once; the
        version that the store gives it. Without parts it is the base alone, or an empty object.

        Raises WriteConflict or AlreadyExists where the upload's condition does not hold; the
        upload is then over, and what was there stays. After another error, whether it was made is
        unknown, and `commit` may be tried again or `abort` called. Tried again, it knows what it
        made before, and does not take that for another's.
        """
        ...

    def abort(self) -> None:
        """Give it up, and let the store forget its parts. Does nothing after the end; never
        raises."""
        ...


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

    def shows(self, key: str, version: ObjectVersion) -> bool:
        """Whether one cheap look shows that the key still is this very version, which an earlier
        `stat` gave. False wherever that cannot be told so: `stat` says, and raises. Never raises.
        """
        ...

    def shown_by(self, key: str) -> str | None:
        """The file of this machine that `shows` looks at, by `os.lstat` and nothing else; None
        where there is none."""
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

    def put(self, ref: ObjectRef, data: memoryview, expected: Expected) -> ObjectVersion:
        """Write a small object whole, at once, and return the version that the store gives it.

        Who reads meanwhile gets the old object or the new one, whole. A local store makes the
        folders above it. Raises WriteConflict or AlreadyExists where the condition does not hold,
        IsFolder where a folder is in the way (a store that can hold both may not notice), ReadOnly,
        StoreFull. A conflict's `found` is the object that is there. A kept condition is atomic
        where the store offers that; where it does not, the backend's docstring says how near it
        comes.
        """
        ...

    def begin_upload(
        self, ref: ObjectRef, expected: Expected, base: ObjectVersion | None = None
    ) -> Upload:
        """Begin to write an object of any size, in bounded memory.

        With `base`, a version in this same store of at least `LEAST_BASE_BYTES`, the new object
        begins with its bytes, which the store copies by itself. Raises VersionGone where the base
        was replaced; else as `put`.
        """
        ...

    def copy(self, source: ObjectVersion, ref: ObjectRef, expected: Expected) -> ObjectVersion:
        """Copy an object within this store (`source.ref.store` is `ref.store`), without its bytes
        coming here. Onto itself it may do nothing. Raises VersionGone where the source was
        replaced; else as `put`."""
        ...

    def rename(self, key: str, to: ObjectRef) -> bool:
        """Give a file, or a folder with all in it, another name in this store, in one step.

        False where the store cannot do that in one step; nothing has happened then. The folders
        above `to` are made. A file takes the place of a file, a folder that of an empty one. A
        symbolic link is renamed itself. Raises NotFound, IsFolder (a file onto a folder), NotFolder
        (a folder onto a file), FolderNotEmpty, InvalidPath (a folder into itself), AccessRefused
        (the mount's own root).
        """
        ...

    def delete(self, keys: Sequence[str]) -> Mapping[str, HeadraceError]:
        """Delete objects (a symbolic link itself, not what it leads to), at most `MOST_DELETED`.

        Those that were not there count as deleted. Returns what went wrong by key, and raises where
        nothing could be asked at all. A folder's key answers IsFolder, or counts as not there.
        """
        ...

    def make_folder(self, key: str) -> None:
        """Make an empty folder, and those above it. Raises AlreadyExists."""
        ...

    def remove_folder(self, key: str) -> None:
        """Remove an empty folder. Raises NotFound, NotFolder, FolderNotEmpty, AccessRefused (the
        mount's own root)."""
        ...

    def close(self) -> None:
        """Let go of connections; the backend is not used afterwards."""
        ...
