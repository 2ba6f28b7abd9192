"""Writes to the stores behind the tree, and what this process must forget after each.

Whatever changes a store goes through here: the request runs on a thread of the mount's own, so that
an interrupt of the caller's leaves nothing half done, and before it returns, what this process knew
of the object is brought up to date. A write of which nobody knows whether it was made counts as
made: what was known is forgotten.
"""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from headrace_namespace.backends.protocol import (
    LEAST_BASE_BYTES,
    MOST_DELETED,
    Expected,
    There,
    Upload,
)
from headrace_namespace.errors import HeadraceError, ReadOnly, StoreTimeout
from headrace_namespace.identity import ObjectRef, ObjectVersion
from headrace_namespace.latch import Latch
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Resolved
from headrace_namespace.tree import MountedStore

# The cache layer speaks of conditions and parts without knowing the backends.
__all__ = ["LEAST_BASE_BYTES", "Expected", "There", "UploadThrough", "WriteThrough"]

Answer = TypeVar("Answer")

#: How long a request that has begun is waited for after an interrupt: longer than a store takes to
#: answer; who cannot wait interrupts again.
INTERRUPTED_SECONDS = 10.0

#: Told when a part ended: None, or what went wrong.
PartEnded = Callable[[BaseException | None], None]


class WriteThrough:
    """Writes through the tree. Safe to use from many threads.

    Every method raises ReadOnly where no store lies at the path, and otherwise as `Backend` says,
    each error with its path and store.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def put(self, target: Resolved, data: memoryview, expected: Expected) -> ObjectVersion:
        """Write a small object whole, at once; its version."""
        store, ref = self._at(target)
        return self.make(target, lambda: store.backend.put(ref, data, expected))

    def begin_upload(
        self,
        target: Resolved,
        expected: Expected,
        base: ObjectVersion | None,
        begun: Callable[[UploadThrough], None],
    ) -> None:
        """Begin to write an object of any size.

        `begun` is given the upload on the thread that began it, so that it is known whatever
        becomes of the caller; who is given it ends it.
        """
        store, ref = self._at(target)

        def begin() -> None:
            upload = store.backend.begin_upload(ref, expected, base)
            begun(UploadThrough(self, store, target, upload))

        self._ask(store, target.path, begin)

    def copy(self, source: ObjectVersion, target: Resolved, expected: Expected) -> ObjectVersion:
        """Copy an object within its store; the copy's version."""
        store, ref = self._at(target)
        return self.make(target, lambda: store.backend.copy(source, ref, expected))

    def rename(self, source: Resolved, target: Resolved) -> bool:
        """Give a file or folder another name in its store, in one step; False where the store
        cannot, and nothing has happened."""
        store, old = self._at(source)
        _, new = self._at(target)

        def rename() -> bool:
            try:
                return store.backend.rename(source.key, new)
            finally:
                self._namespace.moved(old)
                self._namespace.moved(new)

        return self._ask(store, source.path, rename)

    def delete(self, targets: Sequence[Resolved]) -> dict[NamespacePath, HeadraceError]:
        """Delete objects, as many at a time as the store takes; what went wrong, by path."""
        wrong: dict[NamespacePath, HeadraceError] = {}
        by_mount: dict[Mount, list[Resolved]] = {}
        for target in targets:
            try:
                self._at(target)
            except HeadraceError as error:
                wrong[target.path] = error
            else:
                assert target.mount is not None  # `_at` saw to it
                by_mount.setdefault(target.mount, []).append(target)
        for mount, there in by_mount.items():
            for start in range(0, len(there), MOST_DELETED):
                some = there[start : start + MOST_DELETED]
                try:
                    wrong.update(self._delete(mount, some))
                except HeadraceError as error:
                    wrong.update((target.path, error) for target in some)
        return wrong

    def make_folder(self, target: Resolved) -> None:
        """Make an empty folder, and those above it."""
        store, _ = self._at(target)

        def make() -> None:
            try:
                store.backend.make_folder(target.key)
            finally:
                self._forget_way_to(target)

        self._ask(store, target.path, make)

    def remove_folder(self, target: Resolved) -> None:
        """Remove an empty folder."""
        store, _ = self._at(target)

        def remove() -> None:
            try:
                store.backend.remove_folder(target.key)
            finally:
                self._forget_way_to(target)

        self._ask(store, target.path, remove)

    def require_store(self, target: Resolved) -> None:
        """Raises ReadOnly where no store lies at `target`, or one that is not to be written."""
        self._at(target)

    def _at(self, target: Resolved) -> tuple[MountedStore, ObjectRef]:
        if target.mount is None or target.ref is None:
            raise ReadOnly(
                f"{target.path} cannot be written: no store lies there",
                path=target.path.text,
                hint="write below one of the mounts",
            )
        if target.mount.read_only:  # said at once, not when the bytes are sent
            raise ReadOnly(
                f"{target.path} cannot be written: {target.mount.path} is mounted read-only",
                path=target.path.text,
                hint="remove read_only = true from the mount to write there",
            )
        return self._namespace.store_of(target.mount), target.ref

    def make(self, target: Resolved, write: Callable[[], ObjectVersion]) -> ObjectVersion:
        """Do what makes a new version at `target`, and let this process know it."""
        store, ref = self._at(target)

        def make() -> ObjectVersion:
            try:
                version = write()
            except BaseException:
                self._forget_way_to(target)
                raise
            self._namespace.written(ref, version)
            return version

        return self._ask(store, target.path, make)

    def _forget_way_to(self, target: Resolved) -> None:
        """An object or folder was made or went, or may have: no earlier answer stands for it, nor
        for the folders above it, which may have come or gone with it."""
        ref = target.ref
        for _ in range(target.key.count("/") + 2):  # up to the mount's own root
            if ref is None:
                return
            self._namespace.written(ref, None)
            folder, slash, _ = ref.key.rpartition("/")
            ref = ObjectRef(ref.store, folder) if slash else None

    def _ask(self, store: MountedStore, path: NamespacePath, work: Callable[[], Answer]) -> Answer:
        """Do `work` on a thread of the store's own, and give its answer.

        Where the caller is interrupted, work that has not begun never will, and what has begun is
        waited for: it must not come to pass after the caller's next write.
        """
        given_up = begun = False
        ended = Latch()

        def begin() -> Answer:
            nonlocal begun
            begun = True  # first, so that one of both sees the other
            try:
                if given_up:
                    raise StoreTimeout("it was given up before it began")
                return work()
            finally:
                ended.open()

        try:
            return store.fetchers.run(begin)
        except HeadraceError as error:
            raise error.at(path=path.text, store=store.backend.name) from error.__cause__
        except BaseException:
            given_up = True
            if begun:
                ended.wait(INTERRUPTED_SECONDS)
            raise

    def _delete(
        self, mount: Mount, targets: Sequence[Resolved]
    ) -> Mapping[NamespacePath, HeadraceError]:
        store = self._namespace.store_of(mount)
        by_key = {target.key: target for target in targets}

        def delete() -> Mapping[str, HeadraceError]:
            try:
                return store.backend.delete(list(by_key))
            finally:
                for target in targets:
                    self._forget_way_to(target)

        wrong = self._ask(store, targets[0].path, delete)
        return {
            by_key[key].path: error.at(path=by_key[key].path.text, store=store.backend.name)
            for key, error in wrong.items()
        }


class UploadThrough:
    """An upload on its way through the tree. `send` and `abandon` return at once."""

    def __init__(
        self, through: WriteThrough, store: MountedStore, target: Resolved, upload: Upload
    ) -> None:
        self._through = through
        self._store = store
        self._target = target
        self._upload = upload
        self.parallel_parts = max(1, upload.parallel_parts)

    def part_bytes(self, index: int) -> int:
        """How long part `index` must be, unless it is the last."""
        return self._upload.part_bytes(index)

    def send(self, index: int, data: memoryview, ended: PartEnded) -> None:
        """Put a part on a thread of the store's; `ended` is told there how it went."""

        def put() -> None:
            error: BaseException | None = None
            try:
                self._upload.put_part(index, data)
            except HeadraceError as caught:
                error = caught.at(path=self._target.path.text, store=self._store.backend.name)
            except BaseException as caught:  # whatever it is, the writer must learn of it
                error = caught
            ended(error)

        self._store.fetchers.submit(put)

    def commit(self, parts: int) -> ObjectVersion:
        """Let the object take its place; its version. Raises as `Upload.commit`."""
        return self._through.make(self._target, lambda: self._upload.commit(parts))

    def abandon(self, ended: Callable[[], None]) -> None:
        """Abort it on a thread of the store's, then call `ended`; on a thread of its own where the
        store was unmounted meanwhile."""

        def abort() -> None:
            try:
                self._upload.abort()
            finally:
                ended()

        try:
            self._store.fetchers.submit(abort)
        except StoreTimeout:  # it takes no more work
            start_new_thread(abort, ())
