"""Spark with four Python workers on one cache folder, over a real bucket."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from headrace_mounts.fsspec_fs import HeadraceFileSystem
from tests.conftest import Bucket
from tests.engines.conftest import FILES, GROUP_ROWS, ROWS_IN_FILE, Lake
from tests.untyped import pd, pq

# PySpark says so of its own API over pandas, which nothing here uses.
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas")


@pytest.fixture
def source(spark: Any, lake: Lake) -> Any:
    """`spark.read` of the tree."""
    return spark.read.format("headrace").option("config", lake.config)


def write(frame: Any, lake: Lake, mode: str, path: str = "/lake/out") -> None:
    frame.write.format("headrace").option("config", lake.config).mode(mode).save(path)


def files(lake: Lake, path: str = "/lake/out") -> list[str]:
    found: list[str] = HeadraceFileSystem(lake.config).find(path)
    return found


def test_what_one_worker_fetched_the_others_find(source: Any, lake: Lake) -> None:
    frame = source.load("/lake/orders")
    assert frame.rdd.getNumPartitions() == FILES
    expected = pytest.approx(float(lake.table["x"].to_numpy().sum()))
    assert frame.selectExpr("sum(x)").first()[0] == expected
    # Once, and not once for each worker; the rest is listings and the heads of answers.
    assert lake.stored_bytes <= lake.traffic.received_bytes < 1.1 * lake.stored_bytes
    lake.traffic.reset()
    assert frame.repartition(4).selectExpr("sum(x)").first()[0] == expected
    assert lake.traffic.received_bytes < 0.1 * lake.stored_bytes


def test_a_filter_fetches_what_may_match_alone(source: Any, lake: Lake) -> None:
    frame = source.option("columns", "x,n,year").load("/lake/orders")
    assert frame.columns == ["x", "n", "year"]
    rows = frame.where(f"year = 2014 and n >= {lake.rows - 3}").collect()
    assert [row.n for row in rows] == [lake.rows - 3, lake.rows - 2, lake.rows - 1]
    # The four files of a year are looked into; of three of them, only the footers are needed.
    assert lake.traffic.received_bytes < 0.7 * lake.stored_bytes


def test_rows_are_the_same_whether_spark_pushes_filters_or_not(
    source: Any, spark: Any, lake: Lake
) -> None:
    frame = source.load("/lake/orders").where(
        f"n in (0, 7, {ROWS_IN_FILE}) or (x > 0.5 and n < 20) or year is null"
    )
    wanted = frame.where(f"n <> 7 and x is not null and n < {GROUP_ROWS}")
    counts: list[int] = []
    for pushed in ("true", "false"):
        spark.conf.set("spark.sql.python.filterPushdown.enabled", pushed)
        counts.append(wanted.count())
    spark.conf.set("spark.sql.python.filterPushdown.enabled", "true")
    first = lake.table.slice(0, 20).to_pydict()
    expected = sum(n != 7 and (n == 0 or x > 0.5) for n, x in zip(*first.values(), strict=True))
    assert counts == [expected, expected]


def test_a_large_file_is_read_by_several_tasks(source: Any, lake: Lake) -> None:
    frame = source.option("split", "256KiB").load("/lake/orders/year=2013/0.parquet")
    assert frame.rdd.getNumPartitions() > 4
    assert frame.selectExpr("count(*)", "min(n)", "max(n)").first() == (
        ROWS_IN_FILE,
        0,
        ROWS_IN_FILE - 1,
    )


def test_several_folders_are_loaded_at_once(source: Any) -> None:
    frame = source.load(["/lake/orders/year=2013", "headrace:///lake/orders/year=2014/"])
    assert frame.count() == FILES * ROWS_IN_FILE


def test_what_is_written_is_read_back(source: Any, spark: Any, lake: Lake) -> None:
    rows = [
        (n, f"w{n}", Decimal(n) / 4, datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), [n])
        for n in range(100)
    ]
    columns = "n long, s string, d decimal(10,2), day date, at timestamp, l array<long>"
    frame = spark.createDataFrame(rows, columns).repartition(4)
    write(frame, lake, "append")
    assert len(files(lake)) == 4
    back = source.load("/lake/out")
    assert back.schema.simpleString() == frame.schema.simpleString()
    assert sorted(back.collect()) == sorted(rows)
    # As any other reader has it.
    options = {"config": lake.config}
    read = pd.read_parquet("headrace:///lake/out", columns=["n"], storage_options=options)
    assert sorted(read["n"]) == list(range(100))


def test_append_adds_and_overwrite_replaces(
    source: Any, spark: Any, lake: Lake, bucket: Bucket
) -> None:
    bucket.put("lake/other/kept.txt", b"kept")
    write(spark.range(10), lake, "append")
    write(spark.range(10, 15), lake, "append")
    assert source.load("/lake/out").count() == 15
    # What is read is what is replaced: the old files stay until all of the new are there.
    write(source.load("/lake/out").where("id < 3"), lake, "overwrite")
    assert sorted(row.id for row in source.load("/lake/out").collect()) == [0, 1, 2]
    assert files(lake, "/lake/other") == ["/lake/other/kept.txt"]


def test_an_empty_result_has_its_columns(source: Any, spark: Any, lake: Lake) -> None:
    write(spark.range(10).where("id < 0"), lake, "overwrite")
    back = source.load("/lake/out")
    assert (back.columns, back.count()) == (["id"], 0)


def test_rows_are_gathered_into_large_row_groups(spark: Any, lake: Lake) -> None:
    write(spark.range(100_000).coalesce(1), lake, "append")
    (path,) = files(lake)
    with HeadraceFileSystem(lake.config).open(path) as file:
        # Spark hands over 10,000 rows at a time.
        assert pq.ParquetFile(file).metadata.num_row_groups == 1


def test_a_job_that_fails_leaves_what_was_there(spark: Any, lake: Lake) -> None:
    write(spark.range(10), lake, "append")
    before = files(lake)
    # The last of four tasks fails, in its fourth batch of rows.
    bad = spark.range(0, 160_000, 1, 4).selectExpr("if(id = 155000, raise_error('no'), id) as id")
    for mode in ("append", "overwrite"):
        with pytest.raises(Exception, match="no"):
            write(bad, lake, mode)
        assert files(lake) == before


def test_modes_and_partitions_that_cannot_be_kept_are_refused(spark: Any, lake: Lake) -> None:
    from pyspark.errors import AnalysisException

    for mode in ("errorifexists", "ignore"):
        with pytest.raises(AnalysisException, match="Append"):
            write(spark.range(1), lake, mode)
    with pytest.raises(Exception, match="partitioning"):
        frame = spark.range(1).write.format("headrace").partitionBy("id")
        frame.option("config", lake.config).mode("append").save("/lake/out")
    assert files(lake) == []
