"""Which files a data set is made of, and how they are split into the tasks that read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

#: Spark's own default for a split of a file. Smaller ones cost a task each, larger ones leave
#: workers idle at a job's end.
SPLIT_BYTES = 128 << 20

_FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}


#: How Hive, Spark and pyarrow name the folder of the rows that have no value in the column.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a data set, at the version that the listing showed.

    `keys` are the columns that its folders name, and their values: `year=2013/` is ("year", "2013")
    """

    path: str
    version: str
    size: int
    keys: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """What one task reads: the row groups of a file that begin from `start` to before `stop`.

    `stop` is None in a file's last split, so that none can be left out.
    """

    file: DataFile
    start: int = 0
    stop: int | None = None

    def holds(self, offset: int) -> bool:
        """Whether the row group that begins at `offset` is this split's to read."""
        return self.start <= offset and (self.stop is None or offset < self.stop)


def data_files(tree: Any, roots: Iterable[str]) -> list[DataFile]:
    """The files of a data set by path: all below its roots (clean paths) but hidden and empty ones.

    Hidden is, as everywhere in Spark, what begins with `_` or `.`: markers and unfinished work.
    Raises FileNotFoundError where nothing has the path of a root.
    """
    found: dict[str, DataFile] = {}
    for root in roots:
        facts = tree.info(root)
        is_folder = facts["type"] == "directory"
        below_root = tree.find(root, detail=True) if is_folder else {root: facts}
        for path, facts in below_root.items():
            below = path.removeprefix(root).split("/")
            if facts["size"] and not any(map(_is_hidden, below)):
                keys = tuple(_key(folder) for folder in below[:-1] if "=" in folder)
                found[path] = DataFile(path, facts["version"], facts["size"], keys)
    return [found[path] for path in sorted(found)]


def key_names(files: Sequence[DataFile]) -> list[str]:
    """The columns that the folders of every file name."""
    first = [name for name, _ in files[0].keys] if files else []
    return [name for name in first if all(name in dict(file.keys) for file in files)]


def format_of(files: Iterable[DataFile]) -> str:
    """`parquet`, `csv` or `json` (lines), by the files' suffixes; Parquet where they say nothing.

    Raises ValueError where they differ.
    """
    formats = {
        _FORMATS.get(PurePosixPath(file.path).suffix.lower(), "parquet"): file.path
        for file in files
    }
    if len(formats) > 1:
        raise ValueError(
            f"a data set has files of one kind, but here are {' and '.join(formats.values())}; "
            "load them apart"
        )
    return next(iter(formats), "parquet")


def splits(files: Iterable[DataFile], kind: str, split_bytes: int) -> Iterator[Split]:
    """One split of each file, several of a Parquet file that is larger than one.

    Row groups are not looked at here: a job over thousands of files would wait for each footer.
    """
    for file in files:
        stops = range(split_bytes, file.size, split_bytes) if kind == "parquet" else ()
        start = 0
        for stop in stops:
            yield Split(file, start, stop)
            start = stop
        yield Split(file, start)


def _key(folder: str) -> tuple[str, str | None]:
    name, _, value = folder.partition("=")
    return unquote(name), None if value == NO_VALUE else unquote(value)


def _is_hidden(name: str) -> bool:
    # A partition's folder may have a column's name that begins so.
    return name.startswith(("_", ".")) and "=" not in name
