"""What the engines' tests share: a data set in a bucket, counted traffic to it, and one Spark."""

from __future__ import annotations

import io
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from tests.conftest import Bucket
from tests.servers.counting_proxy import Traffic, counted
from tests.untyped import np, pa, pq

FILES = 8
ROWS_IN_FILE = 100_000
GROUP_ROWS = 25_000


@dataclass(frozen=True, slots=True)
class Lake:
    """Parquet files of `n` (0 to rows, ascending) and `x` (random) in a bucket, at /lake/orders."""

    config: str
    table: Any
    stored_bytes: int
    traffic: Traffic

    @property
    def rows(self) -> int:
        """How many rows the data set has."""
        return int(self.table.num_rows)

    def restart(self) -> None:
        """Forget what this process holds in memory, as a new one does."""
        disconnect_all()
        HeadraceFileSystem.clear_instance_cache()


@pytest.fixture
def lake(bucket: Bucket, tmp_path: Path) -> Iterator[Lake]:
    random = np.random.default_rng(7)
    rows = FILES * ROWS_IN_FILE
    table = pa.table({"n": np.arange(rows), "x": random.random(rows)})
    stored = 0
    for index in range(FILES):
        raw = io.BytesIO()
        piece = table.slice(index * ROWS_IN_FILE, ROWS_IN_FILE)
        pq.write_table(piece, raw, row_group_size=GROUP_ROWS)
        bucket.put(f"lake/orders/year={2013 + index // 4}/{index}.parquet", raw.getvalue())
        stored += raw.tell()
    with counted(bucket.endpoint) as traffic:
        # In a file, because Spark's workers have the environment that Spark was started in.
        (tmp_path / "credentials").write_text(
            f"[default]\naws_access_key_id = {bucket.access_key}\n"
            f"aws_secret_access_key = {bucket.secret_key}\n"
        )
        file = tmp_path / "headrace.toml"
        file.write_text(
            f'[[mount]]\npath = "/lake"\nurl = "s3://{bucket.name}/lake"\n'
            f'[mount.options]\nendpoint_url = "{traffic.endpoint}"\n'
            f'credentials_file = "{tmp_path / "credentials"}"\nregion = "us-east-1"\n'
            '[cache]\nfolder = "cache"\nmemory = "64MiB"\nssd = "256MiB"\nkey_file = "keys/key"\n'
        )
        yield Lake(str(file), table, stored, traffic)
        disconnect_all()
        HeadraceFileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Spark of four Python workers, on loopback, for all tests: it takes 7 s to start."""
    if shutil.which("java") is None:
        pytest.fail("Java is not installed: run tests/servers/install.sh")
    from pyspark.sql import SparkSession

    from headrace_mounts.spark import HeadraceDataSource

    work = tmp_path_factory.mktemp("spark")
    builder: Any = SparkSession.builder
    options = (
        builder.master("local[4]")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", False)
        # Small queries on a cold JVM: compiling less saves a third of the time.
        .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        .config("spark.sql.codegen.wholeStage", False)
        .config("spark.sql.adaptive.enabled", False)
        .config("spark.ui.showConsoleProgress", False)
        .config("spark.local.dir", str(work))
        .config("spark.sql.warehouse.dir", str(work / "warehouse"))
        .config("spark.sql.shuffle.partitions", 4)
        .config("spark.sql.python.filterPushdown.enabled", True)
    )
    with pytest.MonkeyPatch.context() as environment:
        # The workers must be of the environment that headrace is installed in.
        environment.setenv("PYSPARK_PYTHON", sys.executable)
        environment.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        on_interrupt = signal.getsignal(signal.SIGINT)
        session = options.getOrCreate()
        # Spark takes it for itself, and never gives it back.
        signal.signal(signal.SIGINT, on_interrupt)
        session.dataSource.register(HeadraceDataSource)
        yield session
        session.stop()
