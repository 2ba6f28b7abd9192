"""Libraries that publish no types, or partial ones, as what they are to a strict checker: Any."""

from __future__ import annotations

from importlib import import_module
from typing import Any

boto3: Any = import_module("boto3")
fsspec: Any = import_module("fsspec")
np: Any = import_module("numpy")
pa: Any = import_module("pyarrow")
pd: Any = import_module("pandas")
pq: Any = import_module("pyarrow.parquet")
pa_fs: Any = import_module("pyarrow.fs")
