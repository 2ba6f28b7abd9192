"""fsspec's calls that write, over a cache service; `fsspec_fs.py` inherits them.

A file appears whole when it is closed, and only then; in a transaction, when that ends. Many files
at a time are `tree_work.py`'s.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from headrace_cache.service import CacheService
from headrace_mounts.expanding import move_each, remove_to_depth
from headrace_mounts.fsspec_paths import TreePaths
from headrace_mounts.refusals import refuse_mounts
from headrace_mounts.tree_work import FILES_AT_ONCE, move_tree, remove_tree
from headrace_mounts.writing_handles import (
    CompressedWritingFile,
    HeadraceTextFile,
    HeadraceWritingFile,
    WritingFile,
)
from headrace_namespace.errors import IsFolder
from headrace_namespace.naming import at_node
from headrace_namespace.path import NamespacePath

if TYPE_CHECKING:
    # fsspec publishes no types.
    AbstractFileSystem: Any = None
else:
    from fsspec.spec import AbstractFileSystem

Answer = TypeVar("Answer")

#: `put_file` reads the local file in pieces of this size.
PIECE_BYTES = 8 << 20


class WritingCalls(TreePaths):
    """The writing half of the file system; each call also has its coroutine, on a thread."""

    @property
    def service(self) -> CacheService:
        """The cache behind it."""
        raise NotImplementedError

    # One file.

    def open_for_writing(
        self,
        path: str,
        mode: str,
        *,
        compression: str | None = None,
        if_version: str | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        autocommit: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """A file that is written: `w` replaces, `x` demands that nothing is there, `a` appends.

        Text without a `b` in the mode, UTF-8 where no encoding is named.
        """
        raw = self.writing_file(path, mode, autocommit=autocommit, if_version=if_version)
        file: WritingFile = raw
        if compression is not None:
            core, codecs = import_module("fsspec.core"), import_module("fsspec.compression")
            codec = core.get_compression(path, compression)
            if codec is not None:
                file = CompressedWritingFile(raw, codecs.compr[codec], mode[0])
        if "b" in mode:
            return file
        return HeadraceTextFile(file, encoding, errors, newline)

    def writing_file(
        self,
        path: str,
        mode: str,
        *,
        autocommit: bool | None = None,
        if_version: str | None = None,
    ) -> HeadraceWritingFile:
        """The binary file behind `open_for_writing`."""
        place, kind = self.place(path), mode[:1]
        if kind not in ("w", "x", "a") or set(mode[1:]) - {"b", "t"}:
            raise ValueError(f"a file is opened with r, w, x or a, and b or t, not {mode!r}")
        if if_version is not None and kind != "w":
            raise ValueError("if_version names the version that is replaced: open with mode w")
        if kind == "a":
            writer = self.service.append(place)
        else:
            writer = self.service.create(place, exclusive=kind == "x", if_version=if_version)
        in_transaction: bool = self._intrans
        commits = not in_transaction if autocommit is None else autocommit
        file = HeadraceWritingFile(writer, kind + "b", autocommit=commits)
        if not commits:
            self.transaction.files.append(file)
        return file

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write these bytes (any buffer); `mode` "create" demands that nothing is there."""
        with self.writing_file(path, "xb" if mode == "create" else "wb") as file:
            file.write(value)

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Any = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Copy a local file to the tree, in bounded memory; of a folder, only make it."""
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return
        with (
            open(lpath, "rb") as source,
            self.writing_file(rpath, "xb" if mode == "create" else "wb") as target,
        ):
            if callback is not None:
                callback.set_size(os.fstat(source.fileno()).st_size)
            piece = bytearray(PIECE_BYTES)
            with memoryview(piece) as view:
                while count := source.readinto(view):
                    target.write(view[:count])
                    if callback is not None:
                        callback.relative_update(count)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file; one that is there is emptied, or with `truncate` False refused:
        stores give no other time than that of writing."""
        if not truncate and self.exists(path):
            raise NotImplementedError(f"{path} is there, and its time cannot be set")
        self.pipe_file(path, b"")

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy one file, within its store where both lie in one; of a folder, only make it."""
        pairs: list[tuple[str, str]] | None = kwargs.get("pairs")
        if pairs is not None:  # `copy` asks fsspec only what is to be copied where
            pairs.append((path1, path2))
            return
        try:
            self.service.copy(self.place(path1), self.place(path2))
        except IsFolder:
            if not self.isdir(path1):
                raise
            self._make_like(path1, path2)

    def rm_file(self, path: str) -> None:
        """Delete one file. Raises FileNotFoundError, IsADirectoryError."""
        place = self.place(path)
        entry = self.service.stat(place)
        if entry.is_folder and not entry.link:
            folder = IsFolder(f"{place} is a folder", path=place.text)
            raise at_node(folder, self.service.authority)
        for error in self.service.delete([place]).values():
            raise error

    def created(self, path: str) -> datetime:
        """As `modified`: a version of an object is made once, and never changed."""
        return self.modified(path)

    def modified(self, path: str) -> datetime:
        """When the object was last changed, by the store's clock."""
        mtime = self.info(path)["mtime"]
        if mtime is None:
            folder = IsFolder(f"{path} is a folder", path=path)
            raise at_node(folder, self.service.authority)
        return datetime.fromtimestamp(mtime, tz=UTC)

    # Folders.

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Make a folder. Raises FileExistsError, and FileNotFoundError where its parent is not
        there and shall not be made."""
        place = self.place(path)
        if not create_parents:
            self.service.stat(place.parent)
        self.service.make_folder(place)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those above it."""
        self.service.make_folder(self.place(path), exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self.service.remove_folder(self.place(path))

    # Many files.

    def rm(
        self,
        path: str | Sequence[str],
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Delete files, and with `recursive` folders; all that can be deleted is, then the first
        error is raised."""
        if isinstance(path, str) and not recursive and self.is_literal(path):
            self.rm_file(path)
            return
        places = [NamespacePath(one) for one in self.expand_path(path, follow_links=False)]
        if not recursive:
            self._raise_first(self.service.delete(places))
            return
        for place in places:
            refuse_mounts(self.service, place)
        # A folder's own are gone with it.
        tops = [one for one in places if not any(one.is_under(up) for up in places if up != one)]
        if maxdepth is not None:
            for top in tops:
                remove_to_depth(self.service, top, maxdepth)
            return
        for work in [remove_tree(self.service, top) for top in tops]:
            work.raise_first()

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> None:
        """As fsspec, the files side by side, after the folders were made that they go into."""
        pairs = self._pairs(path1, path2, recursive, maxdepth, on_error, **kwargs)
        missing_is_fine = on_error == "ignore" or (on_error is None and recursive)

        def copy(pair: tuple[str, str]) -> None:
            try:
                self.cp_file(*pair)
            except FileNotFoundError:
                if not missing_is_fine:
                    raise

        # What something lies in is a folder, and is made first; they come sorted.
        above = {self.place(source).parent.text for source, _ in pairs}
        for source, target in pairs:
            if source in above:
                self._make_like(source, target)
        files = [pair for pair in pairs if pair[0] not in above]
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            list(pool.map(copy, files))

    def _make_like(self, source: str, target: str) -> None:
        """The folder of a copy, which takes the name of its source."""
        old, new = self.place(source), self.place(target)
        self.service.make_folder(new, exist_ok=True, like=old)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Give a file or a folder another name, in one step where its store can, else file by file.

        Into `path2`, where that is a folder or ends with a slash.
        """
        plain = isinstance(path1, str) and isinstance(path2, str) and self.is_literal(path1)
        if not plain or maxdepth is not None or (recursive and path1.endswith("/")):
            move_each(self.service, self._pairs(path1, path2, recursive, maxdepth, "raise"))
            return
        source, target = self.place(path1), self.place(path2)
        if source != target and (path2.endswith("/") or self.isdir(path2)):
            target = target.child(source.name)
        move_tree(self.service, source, target).raise_first()

    def is_literal(self, path: str) -> bool:
        """Whether a path is no pattern: it has none of `*?[`, or something has that very name."""
        return not import_module("fsspec.core").has_magic(path) or bool(self.exists(path))

    def _pairs(
        self, path1: Any, path2: Any, recursive: bool, *more: Any, **kwargs: Any
    ) -> list[tuple[str, str]]:
        """What fsspec would copy where; links to folders are not entered."""
        texts = isinstance(path1, str) and isinstance(path2, str)
        # By a file of that very name fsspec would still mean a pattern.
        if texts and not recursive and self.isfile(path1):
            source = self.place(path1)
            into = path2.endswith("/") or self.isdir(path2)
            target = self.place(path2)
            return [(source.text, (target.child(source.name) if into else target).text)]
        pairs: list[tuple[str, str]] = []
        kwargs |= {"pairs": pairs, "follow_links": False}
        AbstractFileSystem.copy(self, path1, path2, recursive, *more, **kwargs)
        # Given two lists, fsspec takes them as they are.
        return [(self.place(one).text, self.place(two).text) for one, two in pairs]

    @staticmethod
    def _raise_first(wrong: Mapping[NamespacePath, Exception]) -> None:
        for error in wrong.values():
            raise error

    # The same for event loops.

    async def _pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        await on_thread(lambda: self.pipe_file(path, value, mode))

    async def _put_file(
        self, lpath: Any, rpath: str, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        await on_thread(lambda: self.put_file(lpath, rpath, mode=mode, **kwargs))

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        await on_thread(lambda: self.cp_file(path1, path2))

    async def _copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        on_error: str | None = None,
        maxdepth: int | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        await on_thread(lambda: self.copy(path1, path2, recursive, maxdepth, on_error))

    async def _mv_file(self, path1: str, path2: str) -> None:
        await on_thread(lambda: self.mv(path1, path2))

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        await on_thread(lambda: self.rm_file(path))

    async def _rm(
        self,
        path: str | Sequence[str],
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        await on_thread(lambda: self.rm(path, recursive, maxdepth))

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        await on_thread(lambda: self.mkdir(path, create_parents))

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        await on_thread(lambda: self.makedirs(path, exist_ok))


async def on_thread(work: Callable[[], Answer]) -> Answer:
    """Do blocking work on a thread of the loop's own."""
    return await asyncio.to_thread(work)
