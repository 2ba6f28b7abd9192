"""One writing of a data set: a Parquet file by each task, and the end of the job by the driver.

Who touches what: a task writes one file, named for the job and the task's part of the data. It is
seen whole or not at all, and a part that Spark runs twice writes the same name: no row is doubled.
The driver then takes away what an overwrite replaces, or, where the job failed, what it wrote.

There is no step that shows all files of a job at once: stores have none. A reader that lists while
the job runs may see some of the new files, and in an overwrite the old ones beside them. What was
there before stays until all of the new is there. A driver that is killed leaves what the tasks
wrote; it is named `part-*-<job>`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark import TaskContext
from pyspark.sql.datasource import DataSourceArrowWriter, WriterCommitMessage
from pyspark.sql.types import StructType

from headrace_mounts.connect import Config
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_mounts.spark.untyped import pa, pq, to_arrow_schema
from headrace_namespace.path import NamespacePath

#: Spark hands over 10,000 rows at a time; a row group of its own for each would make Parquet's
#: statistics and compression useless. As memory is counted before encoding, files get less.
ROW_GROUP_BYTES = 128 << 20


@dataclass(frozen=True)
class Written(WriterCommitMessage):
    """What a task tells the driver: the file that it wrote, None where it had no row."""

    path: str | None


class HeadraceWriter(DataSourceArrowWriter):
    """Writes a job's rows into a folder; with `overwrite`, in place of all that is in it."""

    def __init__(self, config: Config, folder: str, schema: StructType, overwrite: bool) -> None:
        self._config = config
        self._folder = folder
        self._schema = schema
        self._overwrite = overwrite
        self._job = uuid.uuid4().hex

    def write(self, iterator: Iterator[Any]) -> Written:
        """One file with the rows of a task."""
        task = TaskContext.get()
        assert task is not None
        part = task.partitionId()
        # The first part is written even without a row, so that an empty result has its columns.
        first = next(iterator, None)
        if first is None and part > 0:
            return Written(None)
        path = f"{self._folder}/part-{part:05d}-{self._job}.parquet"
        schema = to_arrow_schema(self._schema, timezone="UTC")
        with (
            HeadraceFileSystem(self._config).open(path, "wb") as file,
            pq.ParquetWriter(file, schema) as parquet,
        ):
            for group in _row_groups(first, iterator):
                parquet.write_table(pa.Table.from_batches(group).cast(schema))
        return Written(path)

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """All tasks are done: take away what is replaced."""
        if self._overwrite:
            written = {message.path for message in messages if isinstance(message, Written)}
            self._remove(lambda path: path not in written)

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """The job failed: take away what it wrote, also where a task could not tell of it."""
        self._remove(lambda path: path.endswith(f"-{self._job}.parquet"))

    def _remove(self, chosen: Callable[[str], bool]) -> None:
        """Delete the chosen files of the folder; all that can be, then raises the first error."""
        tree = HeadraceFileSystem(self._config)
        paths = [NamespacePath(path) for path in tree.find(self._folder) if chosen(path)]
        for error in tree.service.delete(paths).values():
            raise error


def _row_groups(first: Any, others: Iterator[Any]) -> Iterator[Sequence[Any]]:
    """The batches, as many at a time as make a row group."""
    group: list[Any] = [] if first is None else [first]
    for batch in others:
        if sum(batch.nbytes for batch in group) >= ROW_GROUP_BYTES:
            yield group
            group = []
        group.append(batch)
    if group:
        yield group
