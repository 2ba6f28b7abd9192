"""Four Dask workers, each a process, on one cache folder over a real bucket."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
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
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
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
    expected = float(lake.table["x"].to_numpy().sum())
    assert float(frame["x"].sum().compute()) == pytest.approx(expected)
    print("cold", lake.traffic.received_bytes, lake.traffic.gets, lake.stored_bytes)
    lake.traffic.reset()
    workers = list(client.scheduler_info()["workers"])
    asked = [client.submit(total, lake.config, workers=[one], pure=False) for one in workers]
    assert client.gather(asked) == [pytest.approx(expected)] * WORKERS
    print("warm", lake.traffic.received_bytes, lake.traffic.gets, lake.stored_bytes)
    assert 0
