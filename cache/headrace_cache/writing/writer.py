"""The write journey, top to bottom.

 1. Resolve the path: which mount, which key, and by which other names it can be reached.
 2. Ask the policy, once, with all names: the placement, or a refusal.
 3. Learn what is there now, and settle the condition: nothing, one version, or anything.
 4. Gather the bytes into parts, in the memory tier where the placement lets them be there.
 5. Send each full part at once, several at a time, bounded over the whole process.
 6. What one request takes goes in one request; nothing was sent of it before.
 7. Commit: the store lets the object take its place, whole, if the condition still holds.
 8. Forget what was known of the object; the staged parts become the pages of the version that the
    store returned, sealed on the SSD where they may lie there: the next read asks for no byte.

An append begins with what is there: the store copies it where it is large, else it is read first.
A copy or a new name may never lead to a looser placement than the bytes had.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from unicodedata import normalize

from headrace_cache.holding import Holding
from headrace_cache.reading.gate import Governed
from headrace_cache.reading.open_object import OpenObject
from headrace_cache.reading.pinned import Pinned
from headrace_cache.reading.reader import Reader
from headrace_cache.writing.object_writer import PUT_BYTES, ObjectWriter, WritePlan, WriteTools
from headrace_cache.writing.sending import MOST_BYTES_UNDER_WAY, Window
from headrace_cache.writing.staging import Piece, Staging, settle
from headrace_namespace.entry import Entry
from headrace_namespace.errors import (
    AccessRefused,
    AlreadyExists,
    HeadraceError,
    IsFolder,
    NotFolder,
    NotFound,
    ReadOnly,
    TooManyOpen,
    WriteConflict,
)
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import Offload
from headrace_namespace.path import NamespacePath, other_spelling
from headrace_namespace.resolution import Resolved
from headrace_namespace.write_through import LEAST_BASE_BYTES, Expected, There, WriteThrough

#: Each may hold a part of 8 MiB and more that is not full yet: half a gigabyte at the worst.
MOST_WRITERS = 64


class Writer:
    """Writes, asking the policy first. Safe to use from many threads."""

    def __init__(
        self,
        *,
        reader: Reader,
        namespace: Namespace,
        staging: Staging,
        launcher: Offload,
        put_bytes: int = PUT_BYTES,
        most_bytes_under_way: int = MOST_BYTES_UNDER_WAY,
    ) -> None:
        self._reader = reader
        self._gate = reader.gate
        self._namespace = namespace
        self._through = WriteThrough(namespace)
        self._staging = staging
        self._launcher = launcher
        self._tools = WriteTools(
            self._through, staging, Window(most_bytes_under_way), launcher, self._keep, put_bytes
        )
        # Only the launcher's one thread changes it.
        self._open: weakref.WeakSet[ObjectWriter] = weakref.WeakSet()

    def beside(self, reader: Reader) -> Writer:
        """The writer of another reader, which judges for somebody else; all else is shared."""
        other = copy.copy(self)
        other._reader, other._gate = reader, reader.gate
        other._tools = replace(self._tools, keep=other._keep)
        return other

    def reader(self) -> Reader:
        """The reader beside it: what a copy reads with."""
        return self._reader

    def holding(self) -> Holding:
        """What looks after what is held."""
        return Holding(self._reader, self._staging.store, lambda _: ())

    @property
    def open_writers(self) -> int:
        """How many objects are being written."""
        return len(self._open)

    # Steps 1 to 3: from a path to a plan.

    def create(
        self, path: NamespacePath, *, exclusive: bool = False, if_version: str | None = None
    ) -> ObjectWriter:
        """Write an object anew, or in place of what is there."""
        governed, there = self._target(path)
        if exclusive and there is not None:
            raise AlreadyExists(f"{path} exists already", path=path.text)
        expected: Expected = There.NOTHING if exclusive else There.ANYTHING
        if if_version is not None:
            if there is None or there.tag != if_version:
                raise _conflict(path, there)
            expected = there
        return self._begin(self._plan(governed, expected))

    def append(self, path: NamespacePath) -> ObjectWriter:
        """Write an object that begins with what is there now."""
        governed, there = self._target(path)
        if there is None:
            return self._begin(self._plan(governed, There.NOTHING))
        if there.size >= LEAST_BASE_BYTES:
            return self._begin(self._plan(governed, there, base=there))
        writer = self._begin(self._plan(governed, there))
        try:
            self._pour(self._pinned(governed, there), writer)
        except BaseException:
            writer.abort()
            raise
        return writer

    def copy(
        self, source: NamespacePath, target: NamespacePath, *, exclusive: bool = False
    ) -> ObjectVersion:
        """Copy one object; by the store itself where both lie in one."""
        pinned = self._reader.pin(source)
        governed, there = self._target(target)
        if exclusive and there is not None:
            raise AlreadyExists(f"{target} exists already", path=target.text)
        self._gate.require_as_strict(pinned, governed)
        resolved = governed.resolved
        if resolved.ref == pinned.version.ref:
            return pinned.version  # onto itself
        expected = There.NOTHING if exclusive else There.ANYTHING
        if resolved.ref is not None and resolved.ref.store == pinned.version.ref.store:
            try:
                return self._through.copy(pinned.version, resolved, expected)
            except AccessRefused:
                if resolved.mount == pinned.mount:
                    raise
                # The one mount's credentials may not read what the other's may.
        writer = self._begin(self._plan(governed, expected))
        try:
            self._pour(pinned, writer)
            # The policy may have changed meanwhile, and nobody sees anything of it yet.
            governed = self._gate.govern_for_writing(resolved.path)  # looks at the policy
            self._gate.require_as_strict(self._gate.judged(pinned, anew=True), governed)
            return writer.commit()
        except BaseException:
            writer.abort()
            raise

    def rename(self, source: NamespacePath, target: NamespacePath) -> bool:
        """Give a file or folder another name in one step; False where that cannot be."""
        old, entry = self._reader.found(source)
        self._refuse_mount_point(source, "renamed")
        new, there = self._reader.for_writing(target)
        self._refuse_mount_point(target, "replaced")
        self._through.require_store(old.resolved)
        self._through.require_store(new.resolved)
        old_ref, new_ref = old.resolved.ref, new.resolved.ref
        if old_ref is None or new_ref is None or old_ref.store != new_ref.store:
            return False
        if old_ref == new_ref or _one_file(entry, there):
            # Another mount of it, a link to it, another spelling: to copy and delete would lose it.
            raise AlreadyExists(f"{source} and {target} are the same", path=target.text)
        if entry.is_folder:
            if not self._gate.folder_as_strict(old, new):
                return False
        else:
            self._gate.require_as_strict(old, new)
        if there is not None and there.is_folder and not entry.is_folder:
            raise IsFolder(f"{target} is a folder", path=target.text)
        return self._through.rename(old.resolved, new.resolved)

    def delete(self, paths: Sequence[NamespacePath]) -> Mapping[NamespacePath, HeadraceError]:
        """Delete objects, as many at a time as the store takes; what went wrong, by path."""
        wrong: dict[NamespacePath, HeadraceError] = {}
        asked: dict[NamespacePath, NamespacePath] = {}
        targets: list[Resolved] = []
        for path in paths:
            try:
                self._refuse_mount_point(path, "deleted")
                if other_spelling(path.text) is None:
                    resolved = self._gate.govern_for_writing(path).resolved
                else:  # the store may have it by another spelling
                    resolved = self._reader.for_writing(path)[0].resolved
            except HeadraceError as error:
                wrong[path] = error
            else:
                asked[resolved.path] = path
                targets.append(resolved)
        wrong.update((asked[path], error) for path, error in self._through.delete(targets).items())
        return wrong

    def lies_in(self, path: NamespacePath, folder: NamespacePath) -> bool:
        """Whether what is written to `path` comes to lie in `folder`, by whatever names both are
        given: other mounts of one store, links, Unicode spellings, mounts below the folder."""
        if path.is_under(folder):
            return True
        places = [folder] + [
            one.path for one in self._namespace.mounts if one.path.is_under(folder)
        ]
        inner = self._namespace.resolve(path).ref
        for place in places:
            outer = self._namespace.resolve(place).ref
            if inner is None or outer is None or inner.store != outer.store:
                continue
            key, root = (normalize("NFC", ref.key).rstrip("/") for ref in (inner, outer))
            if key == root or not root or key.startswith(root + "/"):
                return True
        return False

    def make_folder(
        self, path: NamespacePath, *, exist_ok: bool = False, like: NamespacePath | None = None
    ) -> None:
        """Make a folder, and those above it; `like` is the folder whose name it takes."""
        governed, there = self._reader.for_writing(path)
        if like is not None:
            self._gate.require_name_as_strict(self._gate.govern_for_writing(like), governed)
        try:
            if there is not None:
                raise AlreadyExists(f"{path} exists already", path=path.text)
            self._through.make_folder(governed.resolved)
        except AlreadyExists:
            if not exist_ok or not self._reader.found(path)[1].is_folder:
                raise

    def remove_folder(self, path: NamespacePath) -> None:
        """Remove an empty folder."""
        governed, there = self._reader.for_writing(path)
        if there is None:
            raise NotFound(f"{path} does not exist", path=path.text)
        if not there.is_folder:
            raise NotFolder(f"{path} is an object", path=path.text)
        self._refuse_mount_point(path, "removed")
        self._through.remove_folder(governed.resolved)

    def close(self) -> None:
        """Give up every object that is still being written."""
        for writer in self._launcher.run(lambda: list(self._open)):
            writer.abort()

    def _target(self, path: NamespacePath) -> tuple[Governed, ObjectVersion | None]:
        """Where a write to `path` goes, and the version there now. Raises IsFolder."""
        governed, there = self._reader.for_writing(path)
        if there is not None and there.version is None:
            raise IsFolder(f"{path} is a folder", path=path.text)
        self._through.require_store(governed.resolved)
        return governed, None if there is None else there.version

    def _plan(
        self, governed: Governed, expected: Expected, base: ObjectVersion | None = None
    ) -> WritePlan:
        resolved = governed.resolved
        stage = governed.placement.allows_memory
        return WritePlan(resolved.path, resolved, expected, stage, base)

    # Steps 4 to 7 are `ObjectWriter`'s.

    def _begin(self, plan: WritePlan) -> ObjectWriter:
        def begin() -> ObjectWriter:
            if len(self._open) >= MOST_WRITERS:
                raise TooManyOpen(
                    f"{plan.path} cannot be written yet: {MOST_WRITERS} objects are being written",
                    path=plan.path.text,
                    hint="close some of them first",
                )
            writer = ObjectWriter(self._tools, plan, self._ended)
            self._open.add(writer)
            return writer

        return self._launcher.run(begin)

    def _ended(self, writer: ObjectWriter) -> None:
        self._launcher.run(lambda: self._open.discard(writer))

    def _pour(self, pinned: Pinned, writer: ObjectWriter) -> None:
        """Write an object's bytes, read through the cache, in bounded memory."""
        reader = self._reader
        opened = OpenObject(self, reader, pinned, reader.attach(pinned))
        try:
            size, piece_bytes = pinned.version.size, self._reader.long_reads.piece_bytes
            for start in range(0, size, piece_bytes):
                with memoryview(opened.view(start, min(start + piece_bytes, size))) as piece:
                    writer.write(piece)
        finally:
            opened.close()

    # Step 8.

    def _keep(self, plan: WritePlan, version: ObjectVersion, pieces: list[Piece]) -> None:
        """Let what was staged become the version's pages, as the policy of now allows."""
        mount = plan.resolved.mount
        staged = [piece for piece in pieces if piece.buffer.extent is not None]
        if mount is None or not staged or not plan.stage:
            return
        governed = self._gate.govern_for_writing(plan.path)
        if governed.resolved.ref != version.ref:
            return  # a link was switched: by its new names it was not judged
        held = self._reader.attach(self._pinned(governed, version))
        if held.memory:
            fetchers = self._namespace.fetchers(mount)
            fetchers.run(lambda: settle(self._staging, held, staged))

    def _pinned(self, governed: Governed, version: ObjectVersion) -> Pinned:
        resolved = governed.resolved
        assert resolved.mount is not None  # an object has a mount
        return Pinned(
            resolved.path,
            resolved.mount,
            version,
            governed.placement,
            resolved.names,
            resolved.locations,
            governed.policy,
        )

    def _refuse_mount_point(self, path: NamespacePath, done: str) -> None:
        """A mount point, and a folder with mounts below it, stays where the mount table says."""
        for mount in self._namespace.mounts:
            if mount.path.is_under(path):
                what = "is a mount point" if mount.path == path else f"leads to {mount.path}"
                raise ReadOnly(
                    f"{path} {what}, and so cannot be {done}",
                    path=path.text,
                    hint="unmount it, or do this at the store itself",
                )


def _one_file(entry: Entry, there: Entry | None) -> bool:
    """Whether two entries of one store are one file. A weak tag holds the file's own number, so it
    tells what no name does: a hard link, a folder that is mounted twice by the system."""
    old, new = entry.version, None if there is None else there.version
    return old is not None and new is not None and not old.strong and old.tag == new.tag


def _conflict(path: NamespacePath, there: ObjectVersion | None) -> WriteConflict:
    now = "nothing is there" if there is None else f"its version is {there.tag}"
    return WriteConflict(
        f"{path} is not the version that was to be replaced: {now}",
        path=path.text,
        hint="read it again, and write what follows from that",
    )
