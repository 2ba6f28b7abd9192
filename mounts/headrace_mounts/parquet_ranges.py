"""Which bytes of a Parquet file hold some of its columns, from its footer alone."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from headrace_cache.service import OpenObject
from headrace_namespace.errors import ConfigError, HeadraceError

#: The footer's length (4 bytes) and the magic word stand at the very end.
TAIL_BYTES = 8
MAGIC = b"PAR1"


def require_pyarrow() -> None:
    """Raises ConfigError, naming what to install, where pyarrow is missing."""
    _parquet()


def column_ranges(opened: OpenObject, columns: Sequence[str]) -> Iterator[tuple[int, int]]:
    """From where to where (exclusive) the footer and these columns lie, the footer first.

    Whoever brings each range before he asks for the next has what is read here counted as brought.
    A column is named by its top name, or by a nested one's whole dotted path. Raises HeadraceError
    where the object is no Parquet file, or has no such column.
    """
    size, path = opened.version.size, opened.path
    yield max(0, size - TAIL_BYTES), size
    tail = opened.read_at(size - TAIL_BYTES, size) if size >= TAIL_BYTES else b""
    if tail[4:] != MAGIC:
        raise HeadraceError(f"{path} is not a Parquet file, so it has no columns", path=path.text)
    begin = max(0, size - TAIL_BYTES - int.from_bytes(tail[:4], "little"))
    yield begin, size
    try:
        footer = _parquet().read_metadata(io.BytesIO(opened.read_at(begin, size)))
    except Exception as error:  # pyarrow's own errors, whatever they are in this version
        raise HeadraceError(f"{path} has a damaged footer: {error}", path=path.text) from error
    names = [str(footer.schema.column(i).path) for i in range(footer.num_columns)]
    wanted = set[int]()
    for column in columns:
        hits = [i for i, n in enumerate(names) if n == column or n.startswith(column + ".")]
        if not hits:
            tops = dict.fromkeys(name.split(".")[0] for name in names)
            raise HeadraceError(
                f"{path} has no column {column!r}", path=path.text, hint=f"it has {', '.join(tops)}"
            )
        wanted.update(hits)
    for group in range(footer.num_row_groups):
        for index in sorted(wanted):
            chunk = footer.row_group(group).column(index)
            start = int(chunk.data_page_offset)
            if chunk.dictionary_page_offset is not None:
                start = min(start, int(chunk.dictionary_page_offset))
            yield start, start + int(chunk.total_compressed_size)


def _parquet() -> Any:
    # pyarrow publishes no types, and is only there for those who want it.
    try:
        return import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "to choose columns of Parquet files headrace needs pyarrow",
            hint="install it with: pip install pyarrow, or pip install 'headrace[demo]'",
        ) from error
