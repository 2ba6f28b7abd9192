"""The data source itself: its options, and the reader and the writer that they ask for.

Spark makes it, and calls all of this, on the driver; the readers and writers travel to the workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pyspark.sql.datasource import DataSource
from pyspark.sql.types import StructType

from headrace_mounts.connect import Config
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_mounts.spark.data_files import SPLIT_BYTES, data_files
from headrace_mounts.spark.reader import HeadraceReader
from headrace_mounts.spark.scan import schema_of
from headrace_mounts.spark.untyped import from_arrow_schema, pa
from headrace_mounts.spark.writer import HeadraceWriter
from headrace_namespace.errors import NotFound
from headrace_namespace.path import SCHEME, NamespacePath
from headrace_namespace.units import parse_bytes


class HeadraceDataSource(DataSource):
    """Parquet, CSV and JSON lines of the tree, read; Parquet, written.

    Options: `config` (a `headrace.toml` that every worker finds under this name, or its content as
    JSON; without it each finds its own), `columns` (those to read, with commas in between: Spark
    does not tell a Python data source which it needs), `split` (a size: larger Parquet files are
    read by several tasks).
    """

    @classmethod
    def name(cls) -> str:
        """`headrace`, the name of the format."""
        return SCHEME

    def schema(self) -> StructType:
        """The columns of the data set's first file, or those of them that `columns` names."""
        tree, roots = HeadraceFileSystem(self._config()), self._roots()
        files = data_files(tree, roots)
        if not files:
            raise NotFound(
                f"there is no data in {', '.join(roots)}",
                path=roots[0],
                hint="where there may be none, say the columns: spark.read.schema(...)",
            )
        schema = schema_of(tree, files)
        columns = [name.strip() for name in self.options.get("columns", "").split(",")]
        if not any(columns):
            columns = schema.names
        if unknown := [name for name in columns if name not in schema.names]:
            raise ValueError(
                f"{', '.join(roots)} has no column {', '.join(unknown)}; "
                f"it has {', '.join(schema.names)}"
            )
        wanted: StructType = from_arrow_schema(pa.schema([schema.field(name) for name in columns]))
        return wanted

    def reader(self, schema: StructType) -> HeadraceReader:
        """What reads these columns."""
        return HeadraceReader(self._config(), self._roots(), schema, self._split_bytes())

    def writer(self, schema: StructType, overwrite: bool) -> HeadraceWriter:
        """What writes these columns into the one folder that was named."""
        (folder,) = self._roots()
        writer = HeadraceWriter(self._config(), folder, schema, overwrite)
        writer.begin()
        return writer

    def _split_bytes(self) -> int:
        text = self.options.get("split", str(SPLIT_BYTES))
        try:
            if size := parse_bytes(text):
                return size
        except ValueError as error:
            raise ValueError(f"the option split: {error}") from error
        raise ValueError("the option split must be a size above 0, as 128MiB")

    def _config(self) -> Config:
        given = self.options.get("config")
        if given is None:
            return None
        if given.lstrip().startswith("{"):
            return cast(Mapping[str, object], json.loads(given))
        # Workers may run in another folder than the driver.
        return str(Path(given).absolute())

    def _roots(self) -> list[str]:
        """The paths that were given to `load` or `save`."""
        named: Any = json.loads(self.options.get("paths", "[]")) or [self.options.get("path")]
        if named == [None]:
            raise ValueError('name what to load or save: .load("/lake/orders")')
        return [NamespacePath.parse(path).text for path in named]
