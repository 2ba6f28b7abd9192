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
) -> dict[str, Figure]:
    """Run each contender once a round, in a new order each time; the first round does not count.

    `before` runs untimed ahead of each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in random.sample(list(contenders), len(contenders)):
            if before is not None:
                before()
            start = time.perf_counter()
            contenders[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: Figure(statistics.median(taken), min(taken), max(taken))
        for name, taken in seconds.items()
    }


def show(title: str, figures: Mapping[str, Figure]) -> None:
    """A table of medians and of ratios to the first contender (below 1 is faster than it)."""
    first = next(iter(figures.values()))
    table = Table(title=title, title_justify="left")
    for heading in ("contender", "median s", "least", "most", "ratio"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, figure in figures.items():
        table.add_row(
            name,
            f"{figure.median:.4f}",
            f"{figure.least:.4f}",
            f"{figure.most:.4f}",
            f"{figure.median / first.median:.2f}",
        )
    Console().print(table)
