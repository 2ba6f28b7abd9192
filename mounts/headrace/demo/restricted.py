"""Where the bytes of a memory-only path are, and where they are not: looked for, not believed.

Two files of the bucket are alike but for one text each, their canary. One is restricted by the
policy, the other is not. Both are read; then every file that headrace keeps is searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from headrace_cache.service import CacheService, Status
from headrace_mounts.connect import connect, disconnect_all
from headrace_namespace.path import NamespacePath

#: The search reads this much at a time, with an overlap, so that no canary hides between two reads.
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of one file after it was read: by the cache's own books, and by the search.

    `fetched`, `fetched_again` and `fetched_after_restart` are the bytes that came from the store
    at the first reading, the second, and the first of a new service over the same folder.
    """

    path: str
    persistence: str
    bytes: int
    fetched: int
    fetched_again: int
    fetched_after_restart: int
    memory_objects: int
    ssd_objects: int
    files_with_canary: int


@dataclass(frozen=True, slots=True)
class Search:
    """How many files were searched, and whether the search found the canaries where they are."""

    files: int
    finds_what_is_there: bool


def read_and_search(
    config: Path,
    open_file: tuple[str, str],
    restricted: tuple[str, str],
    folders: Sequence[Path],
    control: Path,
) -> tuple[tuple[Kept, Kept], Search, Status]:
    """Read two files (path and canary of each), then search every file below `folders`.

    `control` is a file that this writes with both canaries in plain, to see that the search works.
    The status is that of the cache when both were read.
    """
    pair = (open_file, restricted)
    service = connect(config)
    reads = [_read(service, path) for path, _ in pair]
    # A new service has an empty memory: what it need not fetch, it found sealed on the disk.
    disconnect_all()
    # Searched now, while no process changes the files.
    searched = list(_files(folders))
    holding = {canary: sum(_holds(file, canary) for file in searched) for _, canary in pair}
    service = connect(config)
    first, second = (
        Kept(
            path=path,
            persistence=service.explain(NamespacePath.parse(path)).persistence,
            bytes=read.size,
            fetched=read.after.bytes_fetched - read.before.bytes_fetched,
            fetched_again=read.again.bytes_fetched - read.after.bytes_fetched,
            fetched_after_restart=_fetched_by_reading(service, path),
            memory_objects=_objects(read.after, "memory") - _objects(read.before, "memory"),
            ssd_objects=_objects(read.after, "ssd") - _objects(read.before, "ssd"),
            files_with_canary=holding[canary],
        )
        for (path, canary), read in zip(pair, reads, strict=True)
    )
    control.write_text("\n".join(canary for _, canary in pair))
    found = all(_holds(control, canary) for _, canary in pair)
    return (first, second), Search(len(searched), found), reads[-1].again


@dataclass(frozen=True, slots=True)
class _Read:
    """A file read twice: its size, and the cache's status before, between and afterwards."""

    size: int
    before: Status
    after: Status
    again: Status


def _read(service: CacheService, path: str) -> _Read:
    before = service.status()
    size = _read_whole(service, path)
    service.flush()
    after = service.status()
    _read_whole(service, path)
    return _Read(size, before, after, service.status())


def _fetched_by_reading(service: CacheService, path: str) -> int:
    before = service.status().bytes_fetched
    _read_whole(service, path)
    return service.status().bytes_fetched - before


def _read_whole(service: CacheService, path: str) -> int:
    with closing(service.open(NamespacePath.parse(path))) as opened:
        return len(opened.read_at(0, opened.version.size))


def _objects(status: Status, tier: str) -> int:
    usage = status.tiers.get(tier)
    return usage.objects if usage else 0


def _files(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        yield from (place for place in sorted(folder.rglob("*")) if place.is_file())


def _holds(file: Path, canary: str) -> bool:
    """Whether the canary can be read in the file."""
    wanted, overlap = canary.encode(), b""
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            if wanted in overlap + piece:
                return True
            overlap = piece[-len(wanted) :]
    return False
