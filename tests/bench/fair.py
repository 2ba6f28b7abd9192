"""Contenders side by side in one run: shuffled rounds, medians, ratios to the first."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds of one contender over all rounds."""

    median: float
    least: float
    most: float


def race(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    before: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Figure]:
    """Run each contender once a round, in a new order each time; the first round does not count.

    `before` runs untimed ahead of each. `clock` may be `time.process_time`: what others of the
    machine take is then no part of the figures, nor is waiting.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in random.sample(list(contenders), len(contenders)):
            if before is not None:
                before()
            start = clock()
            contenders[name]()
            if number:
                seconds[name].append(clock() - start)
    return {
        name: Figure(statistics.median(taken), min(taken), max(taken))
        for name, taken in seconds.items()
    }


def show(title: str, figures: Mapping[str, Figure], *, operations: int = 0) -> None:
    """A table of medians and leasts, with their ratios to the first contender (below 1 is faster).

    `operations` is of how many one run consists: then what is shown is microseconds of one. Where
    others use the machine too, the least is nearer to the truth than the median.
    """
    unit, scale = ("us", 1e6 / operations) if operations else ("s", 1.0)
    digits = 2 if operations else 4
    first = next(iter(figures.values()))
    table = Table(title=title, title_justify="left")
    for heading in ("contender", f"median {unit}", "least", "most", "ratio", "of leasts"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, figure in figures.items():
        table.add_row(
            name,
            *(
                f"{seconds * scale:.{digits}f}"
                for seconds in (figure.median, figure.least, figure.most)
            ),
            f"{figure.median / first.median:.2f}",
            f"{figure.least / first.least:.2f}",
        )
    Console().print(table)
