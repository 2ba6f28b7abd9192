"""Files read as Arrow record batches of a wanted schema, past the row groups that cannot match."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from headrace_mounts.spark.arrow_types import plain_schema
from headrace_mounts.spark.data_files import DataFile, Split, format_of, key_names
from headrace_mounts.spark.untyped import ds, pa, pc
from headrace_namespace.errors import VersionGone

_FORMATS: dict[str, Callable[[], Any]] = {
    "parquet": ds.ParquetFileFormat,
    "csv": ds.CsvFileFormat,
    "json": ds.JsonFileFormat,
}
_NUMBER = re.compile(r"-?\d{1,9}")


def schema_of(tree: Any, files: Sequence[DataFile]) -> Any:
    """The plain schema of a data set: that of its first file (a Parquet file's footer), then the
    columns that the folders of all its files name."""
    with tree.open(files[0].path) as file:
        physical = _FORMATS[format_of(files)]().make_fragment(file).physical_schema
    fields = {field.name: field for field in physical}
    for name in key_names(files):
        numbers = all(_NUMBER.fullmatch(dict(file.keys)[name] or "0") for file in files)
        fields[name] = pa.field(name, pa.int32() if numbers else pa.string())
    return plain_schema(pa.schema(list(fields.values())))


def matching(files: Sequence[DataFile], schema: Any, keep_of: Callable[[Any], Any]) -> Any:
    """The files whose folders do not say that no row matches.

    `keep_of` gives the filter over the columns of a schema, or None.
    """
    names = [name for name in key_names(files) if name in schema.names]
    known = pa.schema([schema.field(name) for name in names])
    keep = keep_of(known)
    if keep is None:
        return files
    columns = [[dict(file.keys)[name] for file in files] for name in names]
    values = [
        pa.array(texts, pa.string()).cast(known.field(name).type)
        for name, texts in zip(names, columns, strict=True)
    ]
    table = pa.table([*values, range(len(files))], names=[*names, ""])
    return [files[index] for index in table.filter(keep)[""].to_pylist()]


def batches(tree: Any, split: Split, schema: Any, keep: Any) -> Iterator[Any]:
    """The split's rows that `keep` keeps, as record batches of exactly this schema; columns that
    the file has not are null. Raises VersionGone where the file is not the one that was listed."""
    with tree.open(split.file.path) as file:
        if file.version != split.file.version:
            raise VersionGone(
                f"{split.file.path} was replaced after the job had been planned",
                path=split.file.path,
                hint="run the job again",
            )
        kind = format_of([split.file])
        fragment = _FORMATS[kind]().make_fragment(file, partition_expression=_keys(split, schema))
        if kind == "parquet":
            groups = [group.id for group in fragment.row_groups]
            ours = [group for group in groups if split.holds(_begin(fragment, group))]
            fragment = fragment.subset(row_group_ids=ours)
            if keep is not None:
                fragment = fragment.subset(filter=keep, schema=schema)
        for batch in fragment.to_batches(schema=schema, filter=keep):
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _begin(fragment: Any, group: int) -> int:
    first = fragment.metadata.row_group(group).column(0)
    return int(first.dictionary_page_offset or first.data_page_offset)


def _keys(split: Split, schema: Any) -> Any:
    """What a file's folders say of all its rows."""
    said = ds.scalar(True)
    for name, value in split.file.keys:
        if name in schema.names:
            column, kind = pc.field(name), schema.field(name).type
            literal = pa.scalar(value, pa.string()).cast(kind)
            said = said & (column.is_null() if value is None else column == literal)
    return said
