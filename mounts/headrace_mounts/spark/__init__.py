"""`spark.read.format("headrace")`: the tree as a Python data source of Spark.

    from headrace_mounts.spark import HeadraceDataSource
    spark.dataSource.register(HeadraceDataSource)

What passes between the cache and Spark is Arrow record batches: no row becomes a Python object.
Each of Spark's Python workers opens the cache for itself, and they share its folder; headrace has
to be installed where they run. Nothing else in headrace imports this room.
"""

from __future__ import annotations

try:
    import pyarrow as _pyarrow
    import pyspark.sql.datasource as _datasource
except ImportError as error:
    raise ImportError(
        f"headrace_mounts.spark cannot import {error.name}; it needs: pip install 'headrace[spark]'"
    ) from error

from headrace_mounts.spark.source import HeadraceDataSource

__all__ = ["HeadraceDataSource"]

# They were imported only to say at once, and clearly, what is missing.
del _datasource, _pyarrow
