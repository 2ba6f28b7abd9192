"""The job that the demo runs: an ordinary pandas join over two silos, timed part by part.

Which flights from New York arrive latest when the wind blows? The same lines run against the
stores themselves and through headrace; only the URLs differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from headrace_namespace.clock import Clock

# pandas publishes no types.
pd: Any = import_module("pandas")

WINDY_MILES_PER_HOUR = 20
LEAST_FLIGHTS = 100
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Places:
    """Where the job's tables are, and the options by which fsspec opens them."""

    flights: str
    airports: str
    weather: str
    flights_options: Mapping[str, Any] | None
    local_options: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Part:
    """Reading from one silo: how long it took, and how many bytes came from the store; None where
    nobody counted them."""

    seconds: float
    bytes_fetched: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the job: its two readings, and its answer as rows of airport, flights, delay."""

    bucket: Part
    folder: Part
    answer: tuple[tuple[str, int, float], ...]


def run_job(places: Places, clock: Clock, fetched: Callable[[], int] | None) -> Job:
    """Read, join, answer. `fetched` tells how many bytes were fetched from stores so far."""

    def timed(read: Callable[[], Any]) -> tuple[Any, Part]:
        before, start = fetched() if fetched else 0, clock.monotonic()
        result = read()
        seconds = clock.monotonic() - start
        return result, Part(seconds, fetched() - before if fetched else None)

    flights, bucket = timed(
        lambda: pd.read_parquet(places.flights, storage_options=_dict(places.flights_options))
    )
    (airports, weather), folder = timed(
        lambda: (
            pd.read_parquet(places.airports, storage_options=_dict(places.local_options)),
            pd.read_csv(places.weather, storage_options=_dict(places.local_options)),
        )
    )
    return Job(bucket, folder, _answer(flights, airports, weather))


def best_part(parts: Sequence[Part]) -> Part:
    """The shortest time, and the sum of what all of them fetched."""
    counts = [part.bytes_fetched for part in parts if part.bytes_fetched is not None]
    return Part(min(part.seconds for part in parts), sum(counts) if counts else None)


def _answer(flights: Any, airports: Any, weather: Any) -> tuple[tuple[str, int, float], ...]:
    wind = weather[["origin", "time_hour", "wind_speed"]]
    windy = wind[wind["wind_speed"] >= WINDY_MILES_PER_HOUR]
    joined = flights.merge(windy, on=["origin", "time_hour"]).merge(
        airports[["faa", "name"]], left_on="dest", right_on="faa"
    )
    late = joined.groupby("name").agg(flights=("flight", "size"), delay=("arr_delay", "mean"))
    worst = late[late["flights"] >= LEAST_FLIGHTS].nlargest(SHOWN, "delay")
    return tuple(
        (str(row.Index), int(row.flights), round(float(row.delay), 1)) for row in worst.itertuples()
    )


def _dict(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if options is None else dict(options)
