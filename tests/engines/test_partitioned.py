"""A data set in folders `year=…`, in a bucket, as each engine reads it: cold, and then warm."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from tests.engines.conftest import ROWS_IN_FILE, Lake
from tests.untyped import fsspec, pa, pd

duckdb: Any = import_module("duckdb")
ds: Any = import_module("pyarrow.dataset")
pl: Any = import_module("polars")

#: Each asks for three rows of 2014, the last year.
LEAST = 8 * ROWS_IN_FILE - 3
Ask = Callable[[str], list[int]]


def by_pandas(config: str) -> list[int]:
    filters = [("year", "==", 2014), ("n", ">=", LEAST)]
    options = {"config": config}
    frame = pd.read_parquet("headrace:///lake/orders", filters=filters, storage_options=options)
    return list(frame["n"])


def by_pyarrow(config: str) -> list[int]:
    dataset = _dataset(config)
    wanted = (ds.field("year") == 2014) & (ds.field("n") >= LEAST)
    return list(dataset.to_table(columns=["n"], filter=wanted)["n"].to_pylist())


def by_polars(config: str) -> list[int]:
    lazy = pl.scan_pyarrow_dataset(_dataset(config))
    return list(lazy.filter(pl.col("year") == 2014, pl.col("n") >= LEAST).collect()["n"])


def by_polars_scan(config: str) -> list[int]:
    tree = fsspec.filesystem("headrace", config=config)
    files = [tree.open(path) for path in tree.glob("/lake/orders/year=2014/*.parquet")]
    return list(pl.scan_parquet(files).filter(pl.col("n") >= LEAST).collect()["n"])


def by_duckdb(config: str) -> list[int]:
    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("headrace", config=config))
        rows = connection.sql(
            "select n from read_parquet('headrace:///lake/orders/*/*.parquet',"
            f" hive_partitioning = true) where year = 2014 and n >= {LEAST}"
        ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize("ask", [by_pandas, by_pyarrow, by_polars, by_polars_scan, by_duckdb])
def test_an_engine_fetches_a_part_once(ask: Ask, lake: Lake) -> None:
    expected = [LEAST, LEAST + 1, LEAST + 2]
    assert sorted(ask(lake.config)) == expected
    # The other year is not read at all.
    cold = lake.traffic.received_bytes
    assert cold < 0.75 * lake.stored_bytes
    lake.traffic.reset()
    assert sorted(ask(lake.config)) == expected
    assert lake.traffic.received_bytes < 0.1 * cold
    # Nor does the next process fetch what this one had.
    tree = fsspec.filesystem("headrace", config=lake.config)
    tree.service.flush()
    lake.restart()
    lake.traffic.reset()
    assert sorted(ask(lake.config)) == expected
    assert lake.traffic.received_bytes < 0.1 * cold


def test_what_pyarrow_wrote_in_folders_is_read_back(lake: Lake) -> None:
    tree = fsspec.filesystem("headrace", config=lake.config)
    table = pa.table({"year": [2013, 2013, 2014], "n": [1, 2, 3]})
    ds.write_dataset(
        table,
        "/lake/out",
        filesystem=tree,
        format="parquet",
        partitioning=ds.partitioning(pa.schema([("year", pa.int64())]), flavor="hive"),
    )
    back = pd.read_parquet(
        "headrace:///lake/out",
        filters=[("year", "==", 2013)],
        storage_options={"config": lake.config},
    )
    assert sorted(back["n"]) == [1, 2]


def _dataset(config: str) -> Any:
    tree = fsspec.filesystem("headrace", config=config)
    return ds.dataset("/lake/orders", filesystem=tree, format="parquet", partitioning="hive")
