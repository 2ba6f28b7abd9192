"""One reading of a data set: what Spark asks of it on the driver, and then in each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pyspark.sql.datasource import DataSourceReader, Filter, InputPartition
from pyspark.sql.types import StructType

from headrace_mounts.connect import Config
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_mounts.spark.data_files import Split, data_files, format_of, splits
from headrace_mounts.spark.filters import expression_of
from headrace_mounts.spark.scan import batches, matching
from headrace_mounts.spark.untyped import to_arrow_schema


class HeadraceReader(DataSourceReader):
    """Reads these columns of a data set; each split's file at the version that was planned."""

    def __init__(
        self, config: Config, roots: Sequence[str], schema: StructType, split_bytes: int
    ) -> None:
        self._config = config
        self._roots = roots
        self._schema = schema
        self._split_bytes = split_bytes
        self._filters: list[Filter] = []

    @property
    def pushFilters(  # pyright: ignore[reportIncompatibleMethodOverride] # called, it is the same
        self,
    ) -> _PushFilters:
        """Takes hints by which files, row groups and rows are left out; Spark filters again."""
        return _PushFilters(self._take)

    def partitions(self) -> Sequence[InputPartition]:
        """One for each split. The files are listed now, and their versions hold for the job."""
        files = data_files(HeadraceFileSystem(self._config), self._roots)
        kind = format_of(files)
        wanted = matching(files, self._arrow_schema(), self._keep)
        return [InputPartition(split) for split in splits(wanted, kind, self._split_bytes)]

    def read(self, partition: InputPartition) -> Iterator[Any]:
        """The record batches of one split."""
        split = partition.value
        # Spark makes one empty partition where there would be none.
        if isinstance(split, Split):
            schema = self._arrow_schema()
            tree = HeadraceFileSystem(self._config)
            yield from batches(tree, split, schema, self._keep(schema))

    def _take(self, filters: Sequence[Filter]) -> Iterable[Filter]:
        self._filters = list(filters)
        return filters

    def _keep(self, schema: Any) -> Any:
        return expression_of(self._filters, schema)

    def _arrow_schema(self) -> Any:
        """Spark takes no batch of another."""
        return to_arrow_schema(self._schema, timezone="UTC")


class _PushFilters:
    """A method that Spark does not see where it does not push filters.

    Spark refuses every reader that has an own `pushFilters`, told by its `__func__`, while
    `spark.sql.python.filterPushdown.enabled` is false, which is its default. Here nothing would be
    wrong without it: our filters are hints, so reading has to work in both cases.
    """

    __func__ = staticmethod(DataSourceReader.pushFilters)

    def __init__(self, take: Callable[[Sequence[Filter]], Iterable[Filter]]) -> None:
        self._take = take

    def __call__(self, filters: Sequence[Filter]) -> Iterable[Filter]:
        return self._take(filters)
