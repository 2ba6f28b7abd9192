"""The Spark data source without Spark's JVM: its files, splits, types, filters and batches.

What needs a running Spark is in tests/engines/test_spark.py.
"""

from __future__ import annotations

import datetime
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import datasource as spark
from pyspark.sql.types import LongType, StructType

from headrace_mounts.connect import disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_mounts.spark import HeadraceDataSource
from headrace_mounts.spark.data_files import DataFile, Split, data_files, format_of, splits
from headrace_mounts.spark.filters import expression_of
from headrace_mounts.spark.untyped import to_arrow_schema
from headrace_mounts.spark.writer import HeadraceWriter
from headrace_namespace.errors import NotFound, VersionGone
from tests.untyped import pa, pq

# PySpark says so of its own API over pandas, which nothing here uses.
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas")

ROWS = 1000
NUMBERS = StructType().add("n", LongType())
TABLE = pa.table(
    {
        "n": pa.array(range(ROWS), pa.int64()),
        "word": pa.array([f"w{n:04d}" for n in range(ROWS)]).dictionary_encode(),
        "x": pa.array([None if n % 10 == 0 else n / 4 for n in range(ROWS)], pa.float64()),
    }
)


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    (tmp_path / "silo").mkdir()
    return tmp_path / "silo"


@pytest.fixture
def config(silo: Path, tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "headrace.toml"
    file.write_text(
        f'[[mount]]\npath = "/lake"\nurl = "{silo}"\n[cache]\nfolder = "cache"\n'
        'memory = "64MiB"\nssd = "64MiB"\nkey_file = "keys/key"\n'
    )
    yield str(file)
    disconnect_all()
    HeadraceFileSystem.clear_instance_cache()


def put(file: Path, table: Any, rows_in_group: int = 100) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=rows_in_group)


def source(config: str, path: str = "/lake", **options: str) -> HeadraceDataSource:
    return HeadraceDataSource({"config": config, "path": path, **options})


def read(given: HeadraceDataSource, *filters: spark.Filter) -> Any:
    """What Spark would be given, by the same calls that it makes; each split is sent by pickle."""
    schema = given.schema()
    reader = given.reader(schema)
    assert list(reader.pushFilters(list(filters))) == list(filters)
    batches: list[Any] = []
    for partition in reader.partitions():
        there, sent = pickle.loads(pickle.dumps((reader, partition)))
        batches += there.read(sent)
    return pa.Table.from_batches(batches, schema=to_arrow_schema(schema, timezone="UTC"))


def test_a_data_set_is_read_whole(silo: Path, config: str) -> None:
    put(silo / "orders/a.parquet", TABLE.slice(0, 300))
    put(silo / "orders/b.parquet", TABLE.slice(300))
    found = read(source(config, "headrace:///lake/orders/"))
    assert found.column_names == ["n", "word", "x"]
    assert found.to_pydict() == TABLE.to_pydict()


def test_only_the_columns_that_are_asked_for_are_read(silo: Path, config: str) -> None:
    put(silo / "a.parquet", TABLE)
    assert read(source(config, columns="x, n")).column_names == ["x", "n"]
    with pytest.raises(ValueError, match="has no column y; it has n, word, x"):
        source(config, columns="n,y").schema()


@pytest.mark.parametrize("split", ["1KiB", "3000B", "1MiB"])
def test_splits_of_a_file_give_each_row_once(silo: Path, config: str, split: str) -> None:
    put(silo / "a.parquet", TABLE)
    given = source(config, split=split)
    assert (len(given.reader(given.schema()).partitions()) > 1) == (split != "1MiB")
    assert read(given).to_pydict() == TABLE.to_pydict()


def test_splits_cover_a_file_without_a_gap() -> None:
    file = DataFile("/a", "v", 10)
    assert list(splits([file], "parquet", 4)) == [
        Split(file, 0, 4),
        Split(file, 4, 8),
        Split(file, 8, None),
    ]
    assert list(splits([file], "parquet", 10)) == [Split(file)]
    assert list(splits([file], "csv", 4)) == [Split(file)]
    pieces = list(splits([file], "parquet", 3))
    assert all(sum(piece.holds(offset) for piece in pieces) == 1 for offset in range(50))


def test_what_is_hidden_or_empty_is_no_data(silo: Path, config: str) -> None:
    for name in ("_SUCCESS", ".part.crc", "_temporary/0/a.parquet", "empty.parquet"):
        (silo / name).parent.mkdir(parents=True, exist_ok=True)
        (silo / name).write_bytes(b"" if name == "empty.parquet" else b"x")
    put(silo / "_day=1/a.parquet", TABLE)
    tree = HeadraceFileSystem(config)
    (file,) = data_files(tree, ["/lake"])
    assert (file.path, file.keys) == ("/lake/_day=1/a.parquet", (("_day", "1"),))
    assert file.version == tree.info(file.path)["version"]


def test_a_folder_without_data_says_so(config: str) -> None:
    with pytest.raises(NotFound, match="there is no data in /lake"):
        source(config).schema()


def test_files_of_several_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"/a\.csv and /b\.parquet"):
        format_of([DataFile("/a.csv", "", 1), DataFile("/b.parquet", "", 1)])


def test_csv_and_json_lines_are_read(silo: Path, config: str) -> None:
    (silo / "c").mkdir()
    (silo / "c/a.csv").write_text("n,s\n1,x\n2,y\n")
    (silo / "j").mkdir()
    (silo / "j/a.jsonl").write_text('{"n": 1, "s": "x"}\n{"n": 2, "s": "y"}\n')
    for path in ("/lake/c", "/lake/j", "/lake/c/a.csv"):
        rows = read(source(config, path), spark.GreaterThan(("n",), 1)).to_pylist()
        assert rows == [{"n": 2, "s": "y"}]


def test_folders_name_columns_and_leave_out_files(silo: Path, config: str) -> None:
    for year in (2013, 2014):
        for place in ("a%20b", "__HIVE_DEFAULT_PARTITION__"):
            put(silo / f"year={year}/place={place}/a.parquet", TABLE.select(["n"]).slice(0, 2))
    given = source(config)
    rows = read(given, spark.EqualTo(("year",), 2014)).to_pylist()
    assert rows == [
        {"n": 0, "year": 2014, "place": None},
        {"n": 1, "year": 2014, "place": None},
        {"n": 0, "year": 2014, "place": "a b"},
        {"n": 1, "year": 2014, "place": "a b"},
    ]
    reader = given.reader(given.schema())
    reader.pushFilters([spark.EqualTo(("year",), 2014), spark.IsNull(("place",))])
    (only,) = reader.partitions()
    assert only.value.file.path.startswith("/lake/year=2014/place=__HIVE")


def test_a_column_that_a_file_has_not_is_null(silo: Path, config: str) -> None:
    put(silo / "a.parquet", TABLE.select(["n", "word"]).slice(0, 1))
    put(silo / "b.parquet", TABLE.select(["n"]).slice(1, 1))
    assert read(source(config))["word"].to_pylist() == ["w0000", None]


def test_a_file_that_changed_after_planning_is_refused(silo: Path, config: str) -> None:
    put(silo / "a.parquet", TABLE)
    given = source(config)
    reader = given.reader(given.schema())
    (planned,) = reader.partitions()
    put(silo / "a.parquet", TABLE.slice(0, 10))
    with pytest.raises(VersionGone, match="replaced after the job had been planned"):
        list(reader.read(planned))


def test_row_groups_that_cannot_match_are_not_fetched(silo: Path, config: str) -> None:
    words = [f"{n:06d}" * 40 for n in range(100_000)]
    put(silo / "big.parquet", pa.table({"n": range(100_000), "word": words}), 10_000)
    fetched: list[int] = []
    for filters in ([spark.EqualTo(("n",), 95_000)], []):
        disconnect_all()
        HeadraceFileSystem.clear_instance_cache()
        before = HeadraceFileSystem(config).service.status().bytes_fetched
        read(source(config), *filters)
        fetched.append(HeadraceFileSystem(config).service.status().bytes_fetched - before)
    assert fetched[0] > 0
    assert fetched[0] + fetched[1] >= (silo / "big.parquet").stat().st_size
    assert fetched[0] < fetched[1]


ODD = {
    "u8": (pa.uint8(), [255]),
    "u32": (pa.uint32(), [4_000_000_000]),
    "u64": (pa.uint64(), [1 << 63]),
    "half": (pa.float16(), [1.5]),
    "large": (pa.large_string(), ["x"]),
    "fixed": (pa.binary(2), [b"ab"]),
    "dict": (pa.dictionary(pa.int8(), pa.string()), ["x"]),
    "list": (pa.large_list(pa.uint8()), [[1, None]]),
    "struct": (pa.struct([("a", pa.uint16())]), [{"a": 1}]),
    "map": (pa.map_(pa.string(), pa.uint8()), [[("k", 1)]]),
    "ms": (pa.timestamp("ms"), [datetime.datetime(2026, 1, 2, 3)]),
    "zone": (pa.timestamp("us", "Europe/Paris"), [datetime.datetime(2026, 1, 2, 3)]),
    "day": (pa.date64(), [datetime.date(2026, 1, 2)]),
    "money": (pa.decimal128(10, 2), [Decimal("1.50")]),
}


def test_every_type_of_parquet_becomes_one_of_sparks(silo: Path, config: str) -> None:
    table = pa.table({name: pa.array(values, kind) for name, (kind, values) in ODD.items()})
    put(silo / "a.parquet", table)
    (found,) = read(source(config)).to_pylist()
    (given,) = table.to_pylist()
    assert found.pop("zone") == given.pop("zone")
    assert found == given


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (spark.EqualTo(("n",), 3), {3}),
        (spark.GreaterThan(("n",), 3), {4}),
        (spark.GreaterThanOrEqual(("n",), 3), {3, 4}),
        (spark.LessThan(("n",), 3), {1}),
        (spark.LessThanOrEqual(("n",), 3), {1, 3}),
        (spark.In(("n",), (1, 4, None)), {1, 4}),
        (spark.IsNull(("n",)), {None}),
        (spark.IsNotNull(("n",)), {1, 3, 4}),
        (spark.EqualNullSafe(("n",), 3), {3}),
        (spark.EqualNullSafe(("n",), None), {None}),
    ],
)
def test_a_filter_keeps_what_spark_would(given: spark.Filter, kept: set[int | None]) -> None:
    table = pa.table({"n": pa.array([1, 3, 4, None], pa.int64())})
    assert set(table.filter(expression_of([given], table.schema))["n"].to_pylist()) == kept


@pytest.mark.parametrize(
    "given",
    [
        # To Spark NaN is the greatest number, and -0.0 is 0.0.
        spark.GreaterThan(("x",), 1.0),
        spark.GreaterThanOrEqual(("x",), 1.0),
        spark.EqualTo(("x",), float("nan")),
        spark.In(("x",), (0.0,)),
        # Arrow's type does not hold these.
        spark.EqualTo(("n",), 1 << 70),
        spark.EqualTo(("n",), "text"),
        # There is no such column, or it is inside of another.
        spark.EqualTo(("other",), 1),
        spark.EqualTo(("n", "inner"), 1),
        spark.Not(spark.EqualTo(("n",), 1)),
        spark.StringContains(("s",), "a"),
    ],
)
def test_a_filter_that_might_lose_a_row_is_left_to_spark(given: spark.Filter) -> None:
    schema = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("s", pa.string())])
    assert expression_of([given], schema) is None


def test_a_greatest_nan_is_not_lost_by_statistics(silo: Path, config: str) -> None:
    put(silo / "a.parquet", pa.table({"x": [1.0, float("nan")]}))
    assert read(source(config), spark.GreaterThan(("x",), 5.0)).num_rows == 2


def test_options_are_checked(config: str) -> None:
    with pytest.raises(ValueError, match="name what to load"):
        HeadraceDataSource({"config": config}).schema()
    for wrong in ("many", "0"):
        with pytest.raises(ValueError, match="the option split"):
            source(config, split=wrong).reader(StructType())


def test_a_configuration_may_be_given_as_json(silo: Path, tmp_path: Path, config: str) -> None:
    put(silo / "a.parquet", TABLE)
    mounts = [{"path": "/other", "url": str(silo)}]
    cache = {"folder": str(tmp_path / "cache"), "key_file": str(tmp_path / "keys/key")}
    text = json.dumps({"mount": mounts, "cache": cache})
    assert read(source(text, "/other")).num_rows == ROWS


@pytest.mark.parametrize("missing", ["pyspark", "pyarrow"])
def test_without_its_extra_it_says_what_to_install(missing: str) -> None:
    program = f"import sys\nsys.modules[{missing!r}] = None\nimport headrace_mounts.spark\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ImportError: headrace_mounts.spark cannot import" in done.stderr
    assert "pip install 'headrace[spark]'" in done.stderr


@dataclass(frozen=True)
class Task:
    """What a task's context tells of it; outside of Spark there is none."""

    part: int
    attempt: int

    def get(self) -> Task:
        return self

    def partitionId(self) -> int:
        return self.part

    def taskAttemptId(self) -> int:
        return self.attempt


def written(writer: HeadraceWriter, task: Task, patch: pytest.MonkeyPatch) -> Any:
    patch.setattr("headrace_mounts.spark.writer.TaskContext", task)
    return writer.write(iter([pa.record_batch({"n": [task.part]})]))


def test_a_task_that_outlives_its_job_leaves_nothing(
    silo: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = source(config, "/lake/out").writer(NUMBERS, False)
    written(writer, Task(0, 1), monkeypatch)
    writer.abort([None, None])
    with pytest.raises(RuntimeError, match="has ended without this task"):
        written(writer, Task(1, 2), monkeypatch)
    assert not [path for path in silo.rglob("*") if path.is_file()]


def test_a_part_that_was_written_twice_counts_once(
    silo: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = source(config, "/lake/out").writer(NUMBERS, False)
    lost, won = (written(writer, Task(0, attempt), monkeypatch) for attempt in (1, 2))
    assert lost != won
    writer.commit([won])
    with pytest.raises(RuntimeError):
        written(writer, Task(0, 3), monkeypatch)
    assert read(source(config, "/lake/out")).to_pydict() == {"n": [0]}
    assert len(list((silo / "out").iterdir())) == 1


def test_data_appears_to_nobody_where_a_task_fails(
    silo: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches() -> Iterator[Any]:
        yield pa.record_batch({"n": [1]})
        raise ValueError("half way")

    writer = source(config, "/lake/out").writer(NUMBERS, False)
    monkeypatch.setattr("headrace_mounts.spark.writer.TaskContext", Task(0, 1))
    with pytest.raises(ValueError, match="half way"):
        writer.write(batches())
    assert not list(silo.rglob("part-*"))
