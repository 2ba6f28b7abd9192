"""pyarrow, which publishes no types, and the two functions of PySpark that take or give its values,
as what they are to a strict checker: Any."""

from __future__ import annotations

from importlib import import_module
from typing import Any

pa: Any = import_module("pyarrow")
pc: Any = import_module("pyarrow.compute")
ds: Any = import_module("pyarrow.dataset")
pq: Any = import_module("pyarrow.parquet")
kinds: Any = import_module("pyarrow.types")

_types: Any = import_module("pyspark.sql.pandas.types")
from_arrow_schema: Any = _types.from_arrow_schema
to_arrow_schema: Any = _types.to_arrow_schema
