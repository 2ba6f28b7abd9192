"""Four Dask workers, each a process, on one cache folder over a real bucket."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import Lake
from tests.untyped import pd

# Dask publishes types, but not for what is made at run time.
dd: Any = import_module("dask.dataframe")
distributed: Any = import_module("dask.distributed")

WORKERS = 4

# Dask itself calls pandas in a way that pandas 4 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def total(config: str) -> float:
    """Everything, read by one worker."""
    frame = pd.read_parquet("headrace:///lake/orders", storage_options={"config": config})
    return float(frame["x"].sum())


def test_what_one_worker_fetched_the_others_find(client: Any, lake: Lake) -> None:
    frame = dd.read_parquet("headrace:///lake/orders", storage_options={"config": lake.config})
    expected = pytest.approx(float(lake.table["x"].to_numpy().sum()))
    assert float(frame["x"].sum().compute()) == expected
    # Once, and not once for each worker; the rest is listings and the heads of answers.
    assert lake.traffic.received_bytes < 1.1 * lake.stored_bytes
    lake.traffic.reset()
    workers = list(client.scheduler_info()["workers"])
    assert len(workers) == WORKERS
    asked = [client.submit(total, lake.config, workers=[one], pure=False) for one in workers]
    assert client.gather(asked) == [expected] * WORKERS
    assert lake.traffic.received_bytes < 0.1 * lake.stored_bytes


def test_what_the_workers_wrote_is_read_back(client: Any, lake: Lake) -> None:
    options = {"config": lake.config}
    frame = dd.read_parquet("headrace:///lake/orders", storage_options=options)
    frame[frame["n"] % 1000 == 0].to_parquet(
        "headrace:///lake/out", storage_options=options, write_index=False
    )
    back = pd.read_parquet("headrace:///lake/out", storage_options=options)
    assert sorted(back["n"]) == list(range(0, lake.rows, 1000))
