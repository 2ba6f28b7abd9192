"""One writing of a data set: a Parquet file by each task, and the end of the job by the driver.

Who touches what. The driver first puts an empty mark, `_writing-<job>`, which no reader takes for
data. Each task writes one file, seen whole or not at all, under a name of its own, and then looks
for the mark. At the job's end the driver takes the mark away, lists the folder, and deletes the
job's files that no task has reported: all, where the job failed. So a task that Spark gave up, or
ran twice, leaves nothing: it either wrote before that listing, or finds no mark and deletes its
file itself.

There is no step that shows all files of a job at once: stores have none. A reader that lists while
the job runs may see some of the new files, and in an overwrite the old ones beside them. What was
there before stays until all of the new is there. A driver that is killed leaves the mark and what
its tasks wrote, all named `*-<job>*`.
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
        self._mark = f"{folder}/_writing-{self._job}"

    def begin(self) -> None:
        """The job's first step, on the driver."""
        HeadraceFileSystem(self._config).pipe_file(self._mark, b"")

    def write(self, iterator: Iterator[Any]) -> Written:
        """One file with the rows of a task."""
        task = TaskContext.get()
        assert task is not None
        part = task.partitionId()
        # The first part is written even without a row, so that an empty result has its columns.
        first = next(iterator, None)
        if first is None and part > 0:
            return Written(None)
        attempt = task.taskAttemptId()
        path = f"{self._folder}/part-{part:05d}-{attempt}-{self._job}.parquet"
        schema = to_arrow_schema(self._schema, timezone="UTC")
        tree = HeadraceFileSystem(self._config)
        with (
            tree.open(path, "wb") as file,
            pq.ParquetWriter(file, schema) as parquet,
        ):
            for group in _row_groups(first, iterator):
                parquet.write_table(pa.Table.from_batches(group).cast(schema))
        if not tree.exists(self._mark, max_age=0):
            tree.rm_file(path)
            raise RuntimeError(f"the job that wrote {path} has ended without this task")
        return Written(path)

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """All tasks are done: take away what they did not report, and what is replaced."""
        written = {message.path for message in messages if isinstance(message, Written)}
        self._end(lambda path: path not in written and (self._overwrite or self._is_ours(path)))

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """The job failed: take away what it wrote, also where a task could not tell of it."""
        self._end(self._is_ours)

    def _is_ours(self, path: str) -> bool:
        return path.endswith(f"-{self._job}.parquet")

    def _end(self, unwanted: Callable[[str], bool]) -> None:
        """Take the mark away, then the unwanted files: all that can be, then raises the first
        error."""
        tree = HeadraceFileSystem(self._config)
        gone = dict(tree.service.delete([NamespacePath(self._mark)]))
        paths = [NamespacePath(path) for path in tree.find(self._folder) if unwanted(path)]
        for error in (gone | dict(tree.service.delete(paths))).values():
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
