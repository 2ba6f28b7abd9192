"""`headrace:///…` for fsspec: the way in of pandas, pyarrow, Polars, DuckDB, Dask.

Reading calls go straight to the cache, without fsspec's event loop: a warm open would cost more
there than all the rest. Each also has its coroutine, for `asynchronous=True`, which does the same
on a thread.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace_cache.service import CacheService
from headrace_mounts.connect import Config, connect_any
from headrace_mounts.expanding import walk_without_links
from headrace_mounts.fsspec_reading import FileForDisk, nth, plain_copy_refusal, read_range
from headrace_mounts.fsspec_writing import WritingCalls, on_thread
from headrace_mounts.handles import HeadraceFile
from headrace_mounts.remote_settings import REMOTE_OPTIONS
from headrace_mounts.writing_handles import HeadraceWritingFile
from headrace_namespace.entry import Entry
from headrace_namespace.errors import ConfigError, NotFound, PolicyDenied
from headrace_namespace.freshness import Freshness
from headrace_namespace.naming import at_node

if TYPE_CHECKING:
    # fsspec publishes no types.
    AbstractFileSystem: Any = None
else:
    from fsspec.spec import AbstractFileSystem

#: Files that `cat_ranges` reads side by side; each read may itself fetch several ranges at once.
FILES_AT_ONCE = 8

MaxAge = str | int | float | None

#: What fsspec itself, and programs over it, give to any file system.
_FSSPEC_OPTIONS = frozenset(
    {
        "asynchronous",
        "auto_mkdir",
        "batch_size",
        "listings_expiry_time",
        "loop",
        "max_paths",
        "skip_instance_cache",
        "use_listings_cache",
    }
)


class HeadraceFileSystem(WritingCalls):
    """The tree as an fsspec file system.

    `config` is the path of a `headrace.toml`, its content as a dict, or None to find one. `node` is
    a node of another host to ask, `host:port`, as in `headrace://host:port/…`; then `token`,
    `token_file`, `token_env`, `ca`, `certificate`, `key` and `tls` may say how, else a `[[remote]]`
    of the configuration. Paths are literal. Instances are cheap: all of one configuration share one
    cache in a process, all of one node its connections.
    """

    cachable = True

    def __init__(
        self, config: Config = None, node: str | None = None, **storage_options: Any
    ) -> None:
        given = {key: storage_options.pop(key) for key in REMOTE_OPTIONS & storage_options.keys()}
        # pandas asks anew with anon=True after any PermissionError: that is then to come out again.
        if storage_options.get("anon") is True:
            del storage_options["anon"]
        unknown = storage_options.keys() - _FSSPEC_OPTIONS
        if unknown:
            # Ignored, a misspelt config= would read another configuration's data.
            raise ConfigError(
                f"storage_options has {', '.join(sorted(unknown))}, which headrace does not know",
                hint="it takes config, a headrace.toml's path or its content as a dict; or node",
            )
        super().__init__(**storage_options)  # pyright: ignore[reportUnknownMemberType] # fsspec's
        self._config, self._node, self._given = config, node, given
        # Connecting now tells of a wrong configuration where it was named.
        self._service = self._connected()

    @property
    def service(self) -> CacheService:
        """The cache behind it, the same for all instances of one configuration."""
        if not self._service.is_open:
            self._service = self._connected()
        return self._service

    def _connected(self) -> CacheService:
        return connect_any(self._config, self._node, self._given)

    # What the tree shows.

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """`name size type mtime version strong mount` of one path. Raises FileNotFoundError."""
        max_age: MaxAge = kwargs.get("max_age")
        return _info(self.service.stat(self.place(path), _freshness(max_age)))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """The children of a folder by name, or the object itself; always asked of the store.

        The listing validates the opens of its children for a few seconds (docs/freshness.md).
        """
        # Each entry goes as its facts are taken, so that only these are ever held all at once.
        entries = self.service.list(self.place(path))
        if not detail:
            return sorted(entry.path.text for entry in entries)
        return sorted(map(_info, entries), key=operator.itemgetter("name"))

    def iter_ls(self, path: str) -> Iterator[dict[str, Any]]:
        """As `ls` with detail, streamed as the store gives it, for folders of any size."""
        return (_info(entry) for entry in self.service.list(self.place(path)))

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether there is something; a store that cannot say raises, it does not count as no."""
        try:
            self.info(path, **kwargs)
        except (NotFound, NotADirectoryError):
            return False
        return True

    def isfile(self, path: str) -> bool:
        """Whether it is an object."""
        return self._is(path, "file")

    def isdir(self, path: str) -> bool:
        """Whether it is a folder."""
        return self._is(path, "directory")

    def _is(self, path: str, kind: str) -> bool:
        try:
            return bool(self.info(path)["type"] == kind)
        except NotFound:
            return False

    # fsspec's own walks, over the calls above instead of over coroutines.

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As fsspec, but a folder that cannot be listed raises unless `on_error` says otherwise.

        fsspec leaves it out, and a job would take half of a data set for the whole. What vanished
        in between is left out.
        """
        if not kwargs.pop("follow_links", True):
            return walk_without_links(self.service, self.place(path), maxdepth)
        return AbstractFileSystem.walk(
            self,
            path,
            maxdepth,
            topdown,
            _raise_unless_gone if on_error is None else on_error,
            **kwargs,
        )

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """As fsspec."""
        return AbstractFileSystem.find(self, path, *args, **kwargs)

    def glob(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """As fsspec."""
        return AbstractFileSystem.glob(self, path, *args, **kwargs)

    def du(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """As fsspec."""
        return AbstractFileSystem.du(self, path, *args, **kwargs)

    def expand_path(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any
    ) -> Any:
        """As fsspec, but what is there by the very name of a pattern is what is meant."""
        expand = partial(AbstractFileSystem.expand_path, self)
        if kwargs.pop("assume_literal", False):
            return expand(path, recursive, maxdepth, assume_literal=True, **kwargs)
        found: set[str] = set()
        paths: Any = [path] if isinstance(path, str | os.PathLike) else path
        for one in self._strip_protocol(paths):
            literal = self.is_literal(one)
            found.update(expand([one], recursive, maxdepth, assume_literal=literal, **kwargs))
        if not found:
            raise FileNotFoundError(paths)
        return sorted(found)

    # Reading.

    def open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        """An object opened for reading: `rb`, or `r` for text. `max_age` overrides the freshness.

        For writing `wb`, `xb` and `ab`, or without `b` for text; `if_version` replaces that version
        and no other. Raises FileNotFoundError, IsADirectoryError, PermissionError, FileExistsError
        and the stores' errors.
        """
        if mode == "rb" and not args and kwargs.get("compression") is None:
            if kwargs.get("for_disk"):
                return FileForDisk(self.service.open(self.place(path)))
            return self._opened(path, kwargs.get("max_age"))
        if mode[:1] in ("w", "x", "a"):
            return self.open_for_writing(path, mode, **kwargs)
        kwargs["asked_by_reader"] = True
        return AbstractFileSystem.open(self, path, mode, *args, **kwargs)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        max_age: MaxAge = None,
        asked_by_reader: bool = False,
        **kwargs: Any,
    ) -> HeadraceFile | HeadraceWritingFile:
        if mode != "rb":
            return self.writing_file(path, mode, autocommit=autocommit)
        file = self._opened(path, max_age)
        if file.restricted and not asked_by_reader:
            # fsspec's own caches (simplecache::, filecache::) open this way, and would write what
            # they read to a disk in plain.
            file.close()
            raise at_node(plain_copy_refusal(path), self.service.authority)
        return file

    def _opened(self, path: str, max_age: MaxAge = None) -> HeadraceFile:
        return HeadraceFile(self.service.open(self.place(path), _freshness(max_age)))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """The bytes of an object, or of a range of it (negative: from its end)."""
        with self._opened(path, kwargs.get("max_age")) as file:
            return read_range(file, start, end)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: int | Sequence[int | None] | None,
        ends: int | Sequence[int | None] | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[bytes | BaseException]:
        """One range of each path, in order; files are opened once and read side by side.

        An error stands in its range's place, or is raised where `on_error` is "raise".
        """
        count = len(paths)
        wanted: dict[str, list[tuple[int, int | None, int | None]]] = {}
        for index, path in enumerate(paths):
            start, end = nth(starts, index, count), nth(ends, index, count)
            wanted.setdefault(path, []).append((index, start, end))
        answers: list[bytes | BaseException] = [b""] * count

        def read_one(path: str) -> None:
            try:
                with self._opened(path, kwargs.get("max_age")) as file:
                    for index, start, end in wanted[path]:
                        answers[index] = read_range(file, start, end)
            except Exception as error:
                if on_error == "raise":
                    raise
                for index, _, _ in wanted[path]:
                    answers[index] = error

        if len(wanted) == 1:
            read_one(next(iter(wanted)))
        else:
            with ThreadPoolExecutor(min(FILES_AT_ONCE, max(len(wanted), 1))) as pool:
                list(pool.map(read_one, wanted))
        return answers

    def get_file(
        self, rpath: str, lpath: Any, *args: Any, to_disk: bool = False, **kwargs: Any
    ) -> None:
        """Copy an object to a local file (or an open one).

        A memory-only object is copied only with `to_disk=True`: the one who asks answers for it.
        """
        if not to_disk and self.isfile(rpath):
            with self._opened(rpath) as file:
                if file.restricted:
                    raise at_node(plain_copy_refusal(rpath), self.service.authority)
        kwargs["for_disk"] = not to_disk
        try:
            AbstractFileSystem.get_file(self, rpath, lpath, *args, **kwargs)
        except PolicyDenied as error:
            at_node(error, self.service.authority)
            # It became restricted while it was copied: what lies on the disk of it must not stay.
            if isinstance(lpath, str | os.PathLike) and os.path.isfile(lpath):  # pyright: ignore[reportUnknownArgumentType]
                os.unlink(lpath)  # pyright: ignore[reportUnknownArgumentType]
            raise

    # The same for event loops.

    async def _info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return await on_thread(lambda: self.info(path, **kwargs))

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        return await on_thread(lambda: self.ls(path, detail, **kwargs))

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        return await on_thread(lambda: self.exists(path, **kwargs))

    async def _isfile(self, path: str) -> bool:
        return await on_thread(lambda: self.isfile(path))

    async def _isdir(self, path: str) -> bool:
        return await on_thread(lambda: self.isdir(path))

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        return await on_thread(lambda: self.cat_file(path, start, end, **kwargs))

    async def _cat_ranges(
        self,
        paths: Sequence[str],
        starts: int | Sequence[int | None] | None,
        ends: int | Sequence[int | None] | None,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[bytes | BaseException]:
        return await on_thread(
            lambda: self.cat_ranges(paths, starts, ends, max_gap, on_error, **kwargs)
        )

    async def _get_file(self, rpath: str, lpath: Any, **kwargs: Any) -> None:
        await on_thread(lambda: self.get_file(rpath, lpath, **kwargs))


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _info(entry: Entry) -> dict[str, Any]:
    facts: dict[str, Any] = entry.facts()
    return {"name": facts.pop("path"), **facts}


def _freshness(max_age: MaxAge) -> Freshness | None:
    return None if max_age is None else Freshness.parse(max_age)
