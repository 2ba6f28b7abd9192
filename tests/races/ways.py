"""The ways in which programs read an object through headrace; each says which version it got.

Each opens the object once, so that all that it reads must be of one version.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from headrace_mounts.fsspec_fs import HeadraceFileSystem
from tests.races.blocks import WrongBytes, version_in

Way = Callable[[HeadraceFileSystem, str], int]


def read_all(tree: HeadraceFileSystem, path: str) -> int:
    with tree.open(path) as file:
        return version_in(file.read())


def read_into_pieces(tree: HeadraceFileSystem, path: str) -> int:
    whole = bytearray()
    piece = bytearray(random.randrange(100_000, 1_500_000))
    with tree.open(path) as file:
        while count := file.readinto(piece):
            whole += piece[:count]
        assert len(whole) == file.size
    return version_in(whole)


def read_here_and_there(tree: HeadraceFileSystem, path: str) -> int:
    versions: set[int] = set()
    with tree.open(path) as file:
        for _ in range(8):
            start = random.randrange(file.size - 4096)
            file.seek(start)
            versions.add(version_in(file.read(random.randrange(64, 4096)), start))
    return _only(versions)


def ranges(tree: HeadraceFileSystem, path: str) -> int:
    size = tree.info(path)["size"]
    starts = sorted(random.randrange(size - 70_000) for _ in range(5))
    stops = [start + random.randrange(64, 70_000) for start in starts]
    found: Any = tree.cat_ranges([path] * len(starts), starts, stops, on_error="raise")
    return _only({version_in(data, start) for data, start in zip(found, starts, strict=True)})


def view(tree: HeadraceFileSystem, path: str) -> int:
    with tree.open(path) as file:
        return version_in(file.read_buffer())


def cat_in_a_loop(tree: HeadraceFileSystem, path: str) -> int:
    return version_in(asyncio.run(tree._cat_file(path)))  # pyright: ignore[reportPrivateUsage]


def arrow_table(tree: HeadraceFileSystem, path: str) -> int:
    from tests.races.tables import version_by_arrow  # as all of its imports: only where needed

    return version_by_arrow(path, tree)


def pandas_table(tree: HeadraceFileSystem, path: str) -> int:
    from tests.races.tables import version_by_pandas

    return version_by_pandas(path, tree)


#: Of an object of blocks, and of one that is a table.
OF_BLOCKS: Mapping[str, Way] = {
    way.__name__: way
    for way in (
        *(read_all, read_into_pieces, read_here_and_there),
        *(ranges, view, cat_in_a_loop),
    )
}
OF_TABLE: Mapping[str, Way] = {way.__name__: way for way in (arrow_table, pandas_table)}


def _only(versions: set[int]) -> int:
    if len(versions) != 1:
        raise WrongBytes(f"one open file gave the versions {sorted(versions)}")
    return versions.pop()
